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
        setting(
            Applies.LIVE,
            "`stream_auth_token` in Telnyx's configuration; opens the bridge's endpoint for Telnyx",
            is_secret=True,
        ),
    ] = ()
    telnyx_api_key: Annotated[
        Text | None,
        setting(
            Applies.LIVE,
            "key for Telnyx's API, for hanging up and transferring: closing a stream leaves the caller on the line",
            is_secret=True,
        ),
    ] = None
