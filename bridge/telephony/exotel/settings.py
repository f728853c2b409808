"""Exotel's settings."""

from typing import Annotated, ClassVar

from bridge.config.fields import Applies, Section, Text, setting

__all__ = ["ExotelSettings"]


class ExotelSettings(Section, frozen=True, kw_only=True):
    """The settings of Exotel AgentStream."""

    section: ClassVar[str] = "exotel"
    title: ClassVar[str] = "telephony: Exotel"

    exotel_secret: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "password in the URL that Exotel is given (`wss://exotel:PASSWORD@…`); opens the bridge's endpoint for "
            "Exotel",
            is_secret=True,
        ),
    ] = ()
