"""The settings of the carrier Bandwidth."""

from typing import Annotated, ClassVar

from bridge.config.fields import Applies, Section, Text, setting

__all__ = ["BandwidthSettings"]


class BandwidthSettings(Section, frozen=True, kw_only=True):
    """The carrier Bandwidth."""

    section: ClassVar[str] = "bandwidth"
    title: ClassVar[str] = "telephony: Bandwidth"

    bandwidth_secret: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "password of the application's callbacks, or of `destinationPassword`; opens Bandwidth's endpoint",
            is_secret=True,
        ),
    ] = ()
