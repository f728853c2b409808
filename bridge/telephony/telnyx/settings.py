"""Telnyx' settings."""

from typing import Annotated, ClassVar

from bridge.config.fields import Applies, Section, Text, setting

__all__ = ["TelnyxSettings"]


class TelnyxSettings(Section, frozen=True, kw_only=True):
    """The settings of Telnyx media streaming."""

    section: ClassVar[str] = "telnyx"
    title: ClassVar[str] = "telephony: Telnyx"

    telnyx_secret: Annotated[
        tuple[Text, ...],
        setting(Applies.LIVE, "what Telnyx is told as `stream_auth_token`; opens its endpoint", is_secret=True),
    ] = ()
    telnyx_api_key: Annotated[
        Text | None,
        setting(
            Applies.LIVE,
            "key of Telnyx's API, to hang up and transfer with: closing a stream leaves the caller there",
            is_secret=True,
        ),
    ] = None
