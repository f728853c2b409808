"""The codec of Live clients, who stand among listeners: none of the session's own events are for them."""

from collections.abc import Iterator

from bridge.errors import BadEvent
from bridge.wire.client_events import ClientMessage
from bridge.wire.codecs.codec import EncodedEvent, Opening
from bridge.wire.codecs.ga import GA, JsonSound
from bridge.wire.server_events import Body, ServerEvent
from bridge.wire.stats import Dialect

__all__ = ["LIVE_CODEC"]


class _LiveCodec:
    dialect = Dialect.LIVE

    def opening(self, opening: Opening) -> Iterator[tuple[ServerEvent, Body | None]]:
        """Yields nothing."""
        return iter(())

    def encode(self, event: ServerEvent | Body) -> EncodedEvent | None:
        """Returns None: the room ``live`` says what a Live client is told."""
        return None

    def decode(self, text: bytes | str) -> ClientMessage:
        """Raises ``BadEvent``: the room ``live`` reads what a Live client says."""
        raise BadEvent("Live events are read elsewhere.")

    def refused(self, message: ClientMessage) -> None:
        """Does nothing."""

    def farewell(self) -> Body | None:
        """Returns None: the room ``live`` tells of the end."""
        return None

    def sound(self, track: str) -> JsonSound:
        """Returns GA's way, which no Live client has."""
        return GA.sound(track)


LIVE_CODEC = _LiveCodec()
"""The codec of all Live clients, which remembers nothing."""
