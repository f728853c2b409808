"""Plivo's settings."""

from typing import Annotated, ClassVar

from bridge.config.fields import Applies, Section, Text, setting

__all__ = ["PlivoSettings"]


class PlivoSettings(Section, frozen=True, kw_only=True):
    """The settings of Plivo's audio streaming."""

    section: ClassVar[str] = "plivo"
    title: ClassVar[str] = "telephony: Plivo"

    plivo_auth_token: Annotated[
        tuple[Text, ...], setting(Applies.LIVE, "auth token of a Plivo account; opens its endpoint", is_secret=True)
    ] = ()
    plivo_auth_id: Annotated[
        Text | None, setting(Applies.LIVE, "auth id of that account, to hang up with: closing a stream does not")
    ] = None
