"""Plivo's settings."""

from typing import Annotated, ClassVar

from bridge.config.fields import Applies, Section, Text, setting

__all__ = ["PlivoSettings"]


class PlivoSettings(Section, frozen=True, kw_only=True):
    """The settings of Plivo's audio streaming."""

    section: ClassVar[str] = "plivo"
    title: ClassVar[str] = "telephony: Plivo"

    plivo_auth_token: Annotated[
        tuple[Text, ...],
        setting(Applies.LIVE, "auth token of a Plivo account; opens the bridge's endpoint for Plivo", is_secret=True),
    ] = ()
    plivo_auth_id: Annotated[
        Text | None, setting(Applies.LIVE, "auth ID of that account, for hanging up: closing a stream does not hang up")
    ] = None
