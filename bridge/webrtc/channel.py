"""The data channel that carries the events of a call: ``oai-events``, or the first one that opens."""

from collections import Counter
from collections.abc import Callable

import msgspec
from aiortc import RTCDataChannel

from bridge.errors import BridgeError
from bridge.media.contracts import LegOwner, SinkOwner
from bridge.wire.ids import new_id
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import encode, error_event

__all__ = ["CHANNEL_LABEL", "ChannelSink", "EventChannel"]

CHANNEL_LABEL = "oai-events"
_OVERLOADED = 1013
_HIGH_WATER_BYTES = 256 * 1024
_LOW_WATER_BYTES = 64 * 1024


class _TooLarge(BridgeError):
    code = "event_too_large"


class EventChannel:
    """A peer's channel for events: what comes over it goes to the leg's owner, and the owner gets its sink.

    ``hang_up`` is called when the channel is closed, ``on_failure`` gets what the owner raises.
    """

    def __init__(
        self,
        owner: LegOwner,
        *,
        faults: Counter[str],
        hang_up: Callable[[str], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._channel: RTCDataChannel | None = None
        self._owner = owner
        self._faults = faults
        self._hang_up = hang_up
        self._on_failure = on_failure

    def take_channel(self, channel: RTCDataChannel, *, max_message_bytes: int) -> None:
        """Takes a data channel that is open.

        The first one carries the events, whatever it is called, unless ``oai-events`` comes. A channel that opens late
        on the same stream is another one, which takes the place of the first.
        """
        before = self._channel
        is_replaced = before is not None and (before.negotiated and before.id == channel.id)
        wins = before is None or is_replaced or (channel.label == CHANNEL_LABEL != before.label)
        if not wins:
            self._faults["other_channel"] += 1
            return
        self._channel = channel
        channel.on("message", lambda data: self._receive_message(channel, data))
        for name in ("closing", "close"):
            channel.on(name, lambda: self._channel_closed(channel))
        sink = ChannelSink(channel, self._hang_up, max_message_bytes=max_message_bytes)
        try:
            self._owner.channel_opened(sink)
        except Exception as error:
            self._on_failure(error)

    def _channel_closed(self, channel: RTCDataChannel) -> None:
        if channel is self._channel:
            self._hang_up("channel_closed")

    def _receive_message(self, channel: RTCDataChannel, data: str | bytes) -> None:
        if channel is not self._channel:
            self._faults["other_channel"] += 1
            return
        try:
            self._owner.receive_leg_text(data if isinstance(data, str) else data.decode("utf-8", "replace"))
        except Exception as error:
            self._on_failure(error)


class ChannelSink:
    """Sends events to the peer.

    An event that is longer than the peer's message limit is sent without the sound in it. If that does not help, an
    error that says so is sent in its place. A message cannot be split, because the protocol has no parts.
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

    def send_message(self, message: EncodedMessage) -> None:
        """Takes a message; a message is lost if the channel is not open."""
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
        """Ends the call, because a peer that takes no events would otherwise stay on without them."""
        self._hang_up("slow_consumer" if code == _OVERLOADED else reason)

    @property
    def buffered_bytes(self) -> int:
        """The number of bytes that SCTP has not taken yet."""
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
    """Returns an event without the ``audio`` of its item's content parts."""
    try:
        event = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    item = event.get("item")
    for part in item.get("content", []) if isinstance(item, dict) else []:
        part.pop("audio", None)
    return msgspec.json.encode(event)
