"""46elks' settings."""

from typing import Annotated, ClassVar

from bridge.config.fields import Applies, Section, Text, setting

__all__ = ["ElksSettings"]


class ElksSettings(Section, frozen=True, kw_only=True):
    """The settings of 46elks' real-time voice."""

    section: ClassVar[str] = "elks"
    title: ClassVar[str] = "telephony: 46elks"

    elks_secret: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "`?token=` in a number's `voice_start`; opens the bridge's endpoint for 46elks",
            is_secret=True,
        ),
    ] = ()
