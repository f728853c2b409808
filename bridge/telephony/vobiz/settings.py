"""Vobiz' settings."""

from typing import Annotated, ClassVar

from bridge.config.fields import Applies, Section, Text, setting

__all__ = ["VobizSettings"]


class VobizSettings(Section, frozen=True, kw_only=True):
    """The settings of Vobiz' audio streams."""

    section: ClassVar[str] = "vobiz"
    title: ClassVar[str] = "telephony: Vobiz"

    vobiz_auth_token: Annotated[
        tuple[Text, ...],
        setting(Applies.LIVE, "auth token of a Vobiz account; opens the bridge's endpoint for Vobiz", is_secret=True),
    ] = ()
    vobiz_auth_id: Annotated[Text | None, setting(Applies.LIVE, "auth ID of that account, for hanging up")] = None
