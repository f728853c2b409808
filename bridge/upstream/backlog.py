"""What clients send while no line is up: it waits here, within bounds, and goes out on the next line."""

from collections import deque

from bridge.errors import BadEvent
from bridge.media.convert import SoundEncoder
from bridge.session.budget import Budget, size_of
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.server_events import Body

__all__ = ["UpstreamBacklog"]

_MAX_EVENTS = 256
_MAX_SOUND_BYTES = 2 * 24_000 * 30  # 30 s of PCM16 at 24 kHz; the oldest goes first


class UpstreamBacklog:
    """Client events, counted by ``budget``, and the caller's sound."""

    def __init__(self, budget: Budget) -> None:
        self.input_format = PCM16
        """The format of the sound: that of the last line."""
        self._budget = budget
        self._events: deque[Body] = deque()
        self._sound = bytearray()

    def keep_event(self, body: Body) -> None:
        """Keeps a client event; raises ``BadEvent`` if too many wait."""
        if len(self._events) >= _MAX_EVENTS:
            raise BadEvent("Too many events wait for the upstream.", code="upstream_busy")
        self._budget.charge(size_of(body))
        self._events.append(body)

    def add_audio(self, sound: bytes) -> None:
        """Keeps a piece of sound in ``input_format``; of more than 30 s the oldest is dropped."""
        self._sound += sound
        del self._sound[:-_MAX_SOUND_BYTES]

    def take_events(self) -> list[Body]:
        """Takes all events out, oldest first."""
        events = list(self._events)
        self._events.clear()
        self._budget.charge(-sum(map(size_of, events)))
        return events

    def take_audio(self, audio_format: AudioFormat) -> bytes:
        """Takes all sound out, in ``audio_format``."""
        sound, self._sound = bytes(self._sound), bytearray()
        if audio_format is self.input_format:
            return sound
        encoder = SoundEncoder(audio_format, self.input_format)
        return encoder.push(sound) + encoder.flush()

    def clear(self) -> None:
        """Forgets everything, because the call is over."""
        self.take_events()
        self._sound.clear()
