"""What waits for a slow listener, within bounds: the oldest sound is dropped first, and events are never dropped."""

from collections import deque
from dataclasses import dataclass

from bridge.session.fanout.replay import DROPPED
from bridge.wire.codecs.codec import Codec
from bridge.wire.codecs.ga import GA
from bridge.wire.message import EncodedMessage
from bridge.wire.own_events import ListenerDropped

__all__ = ["ListenerBacklog", "Limits"]

_ANSWER_FACTOR = 16
_LARGE_BYTES = 64 * 1024  # a single large event is no sign of a slow reader: it counts as so much


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one listener may be behind."""

    backlog_bytes: int = 1024 * 1024
    """For live sound, and for control events. An answer comes faster than it plays, and may take 16 times as much."""
    backlog_ms: int = 5000
    """For live sound."""
    replay_bytes: int = 1024 * 1024
    """For the events of a call that are kept for listeners who come back, and as much again for its sound."""
    replay_s: float = 10.0
    """For how long that sound is kept."""


class ListenerBacklog:
    """The backlog of one listener; control events and sound leave it in the order in which they came."""

    def __init__(self, limits: Limits, codec: Codec = GA) -> None:
        self.size = 0
        """Its size in bytes; a large event counts as 64 KiB."""
        self.dropped_events = 0
        self.dropped_ms = 0
        self._limits = limits
        self._codec = codec
        self._control: deque[tuple[int, EncodedMessage]] = deque()
        self._sound: deque[tuple[int, EncodedMessage]] = deque()
        self._order = 0
        self._control_bytes = 0
        self._live_bytes = 0
        self._live_ms = 0
        self._unreported_events = 0
        self._unreported_ms = 0

    def __bool__(self) -> bool:
        return bool(self._control or self._sound)

    def keep(self, message: EncodedMessage) -> bool:
        """Keeps one more message, for which sound may be dropped; False if there is no room left for control events."""
        self._order += 1
        if message.audio_ms:
            self._sound.append((self._order, message))
            self._count_sound(message, 1)
        else:
            self._control.append((self._order, message))
            self._count_control(message, 1)
        limits = self._limits
        while self._sound and (
            self._live_ms > limits.backlog_ms
            or self._live_bytes + self._control_bytes > limits.backlog_bytes
            or self.size - self._control_bytes > _ANSWER_FACTOR * limits.backlog_bytes
        ):
            self._drop_oldest()
        return self._control_bytes <= limits.backlog_bytes

    def take_oldest(self, last_event_id: str) -> EncodedMessage:
        """Takes the oldest message out. If sound was dropped, a report behind ``last_event_id`` comes in its place."""
        is_sound = bool(self._sound) and (not self._control or self._sound[0][0] < self._control[0][0])
        if self._unreported_events and (is_sound or not self._sound):
            report = ListenerDropped(
                event_id=f"{last_event_id}{DROPPED}", events=self._unreported_events, audio_ms=self._unreported_ms
            )
            self._unreported_events = self._unreported_ms = 0
            encoded = self._codec.encode(report)
            if encoded is not None:
                return EncodedMessage(encoded.text, event_id=last_event_id)
        if is_sound:
            _, message = self._sound.popleft()
            self._count_sound(message, -1)
        else:
            _, message = self._control.popleft()
            self._count_control(message, -1)
        return message

    def clear(self) -> None:
        """Empties the backlog, because its listener is gone."""
        self._control.clear()
        self._sound.clear()
        self.size = self._control_bytes = self._live_bytes = self._live_ms = 0

    def _count_control(self, message: EncodedMessage, sign: int) -> None:
        size = sign * min(message.size, _LARGE_BYTES)
        self.size += size
        self._control_bytes += size

    def _count_sound(self, message: EncodedMessage, sign: int) -> None:
        size = sign * message.size
        self.size += size
        if message.is_live:
            self._live_bytes += size
            self._live_ms += sign * message.audio_ms

    def _drop_oldest(self) -> None:
        _, message = self._sound.popleft()
        self._count_sound(message, -1)
        self.dropped_events += 1
        self.dropped_ms += message.audio_ms
        self._unreported_events += 1
        self._unreported_ms += message.audio_ms
