"""Asterisk's settings."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.fields import Applies, Fault, Section, Text, setting
from bridge.config.words import masked

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["AsteriskSettings"]


class AsteriskSettings(Section, frozen=True, kw_only=True):
    """The settings of Asterisk's ``chan_websocket``, in both directions."""

    section: ClassVar[str] = "asterisk"
    title: ClassVar[str] = "telephony: Asterisk"

    asterisk_secret: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "`password` in Asterisk's `websocket_client.conf`; opens the bridge's endpoint for Asterisk",
            is_secret=True,
        ),
    ] = ()
    asterisk_url: Annotated[
        Text | None,
        setting(Applies.LIVE, "`ws://host:8088/media` of the Asterisk whose waiting calls the bridge may fetch"),
    ] = None

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds an address that is not one of a WebSocket."""
        if self.asterisk_url is not None and not self.asterisk_url.startswith(("ws://", "wss://")):
            yield Fault("asterisk_url", f"must be ws://host:8088/media, got {masked(self.asterisk_url)!r}")
