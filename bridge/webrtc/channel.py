"""The data channel ``oai-events`` as a sink for events."""

from collections.abc import Callable

import msgspec
from aiortc import RTCDataChannel

from bridge.errors import BridgeError
from bridge.media.contracts import SinkOwner
from bridge.wire.ids import new_id
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import encode, error_event

__all__ = ["CHANNEL_LABEL", "ChannelSink"]

CHANNEL_LABEL = "oai-events"
_OVERLOADED = 1013
_HIGH_WATER_BYTES = 256 * 1024
_LOW_WATER_BYTES = 64 * 1024


class _TooLarge(BridgeError):
    code = "event_too_large"


class ChannelSink:
    """Events to the peer.

    An event over the peer's message limit goes without the sound in it; if that does not help, an error that says so
    goes in its place. A message cannot be split: the protocol knows no parts.
    """

    def __init__(self, channel: RTCDataChannel, hang_up: Callable[[str], None], *, max_message_bytes: int) -> None:
        self._channel = channel
        self._hang_up = hang_up
        self._max_message_bytes = max_message_bytes
        self._owner: SinkOwner | None = None
        channel.bufferedAmountLowThreshold = _LOW_WATER_BYTES
        channel.on("bufferedamountlow", self._has_room)

    def attach(self, owner: SinkOwner) -> None:
        """From now on ``owner`` is told of the sink's state."""
        self._owner = owner

    def send(self, message: EncodedMessage) -> None:
        """Takes a message; while the channel is not open it is lost, as the peer is."""
        channel = self._channel
        if channel.readyState != "open":
            return
        text = message.payload
        if self._is_too_large(text):
            text = _without_audio(text)
            if self._is_too_large(text):
                text = self._too_large(len(text))
                if self._is_too_large(text):
                    return
        channel.send(text.decode())
        if channel.bufferedAmount > _HIGH_WATER_BYTES and self._owner is not None:
            self._owner.pause()

    def close(self, code: int, reason: str) -> None:
        """Ends the call: a peer that takes no events would otherwise stay on without them."""
        self._hang_up("slow_consumer" if code == _OVERLOADED else reason)

    @property
    def buffered_bytes(self) -> int:
        """What SCTP has not taken yet."""
        return int(self._channel.bufferedAmount)

    def _has_room(self) -> None:
        if self._owner is not None:
            self._owner.resume()

    def _is_too_large(self, text: bytes) -> bool:
        return 0 < self._max_message_bytes < len(text)  # 0: any size (RFC 8841 section 6.1)

    def _too_large(self, size: int) -> bytes:
        limit = self._max_message_bytes
        error = error_event(_TooLarge(f"An event of {size} bytes is over the peer's message limit of {limit}."))
        error.event_id = new_id("event")
        return encode(error)


def _without_audio(text: bytes) -> bytes:
    """An event whose item's content parts have lost their ``audio``."""
    try:
        event = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    item = event.get("item")
    for part in item.get("content", []) if isinstance(item, dict) else []:
        part.pop("audio", None)
    return msgspec.json.encode(event)
