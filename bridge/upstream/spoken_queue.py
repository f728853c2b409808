"""What is said to a WebRTC service, in order: sound takes its time to be spoken, and events must not overtake it.

A commit waits until what was said before it has been spoken, and all events behind it wait as well. Sound is spoken at
once, unless a clear waits: what comes behind that is not to be cleared.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bridge.media.playback import Part
from bridge.webrtc.peer import Peer
from bridge.wire.audio import PCM16
from bridge.wire.ids import new_id
from bridge.wire.server_events import Body

__all__ = ["QUEUE_S", "SpokenQueue"]

QUEUE_S = 60
"""How many seconds of a client's sound may wait to be spoken."""

_COMMIT, _CLEAR = "input_audio_buffer.commit", "input_audio_buffer.clear"
_MAX_WAITING = 1024  # of events; what is more goes out at once
_SPOKEN = Part("", "", 0, 0)


@dataclass(slots=True, eq=False)
class _Waiting:
    """An event or sound that waits behind what came before it."""

    what: Body | bytearray
    mark_id: str | None = None
    """The mark of a commit: when it is reached, all that is committed has been spoken."""


class SpokenQueue:
    """See the module; ``write`` sends an event whose turn it is.

    ``on_overflow`` is called once when sound begins to be lost, because too much of it waits.
    """

    def __init__(self, peer: Peer, write: Callable[[Body], None], *, on_overflow: Callable[[], None]) -> None:
        self._peer = peer
        self._write = write
        self._on_overflow = on_overflow
        self._is_overflowing = False
        self._waiting: deque[_Waiting] = deque()
        """What waits behind a commit whose sound is still being spoken."""
        self._holds_sound = False
        """True while a clear waits."""
        self._held_bytes = 0
        self._reached: set[str] = set()

    def send_client_event(self, body: Body) -> None:
        """Sends a GA client event."""
        if len(self._waiting) >= _MAX_WAITING:
            self._write(body)
            return
        waiting = _Waiting(body)
        self._holds_sound |= bool(self._waiting) and body["type"] == _CLEAR
        if not self._holds_sound:
            self._mark(waiting)
        if self._waiting or not self._is_due(waiting):
            self._waiting.append(waiting)
        else:
            self._write(body)

    def send_audio(self, sound: bytes) -> None:
        """Speaks a piece of sound, PCM16 24 kHz mono; one that is too far ahead of real time is lost."""
        is_taken = self._hold(sound) if self._holds_sound else self._speak(sound)
        if not is_taken and not self._is_overflowing:
            self._on_overflow()
        self._is_overflowing = not is_taken

    def mark_reached(self, mark_id: str) -> None:
        """Sends the commit that is due, and what waits behind it, up to the next commit."""
        self._reached.add(mark_id)
        while self._waiting and self._is_due(self._waiting[0]):
            what = self._waiting.popleft().what
            if isinstance(what, bytearray):
                self._held_bytes -= len(what)
                self._speak(bytes(what))
            else:
                self._write(what)
        if not self._waiting:
            self._holds_sound = False

    def skip(self) -> None:
        """Drops what waits to be spoken, because the caller's packets are passed on now."""
        if self._peer.rtp.outbound.is_queued:
            self._peer.clear()
            for mark_id in [waiting.mark_id for waiting in self._waiting if waiting.mark_id is not None]:
                self.mark_reached(mark_id)

    def _speak(self, sound: bytes) -> bool:
        """Speaks sound; False if too much waits already."""
        before = self._peer.rtp.outbound.overflow_ms
        self._peer.play(_SPOKEN, sound)
        return self._peer.rtp.outbound.overflow_ms == before

    def _hold(self, sound: bytes) -> bool:
        if self._held_bytes + len(sound) > QUEUE_S * 1000 * PCM16.bytes_per_ms:
            return False
        self._held_bytes += len(sound)
        last = self._waiting[-1].what
        if isinstance(last, bytearray):
            last += sound
        else:
            self._waiting.append(_Waiting(bytearray(sound)))
        return True

    def _mark(self, waiting: _Waiting) -> None:
        """Sets a commit's mark behind all that it commits."""
        if isinstance(waiting.what, bytearray) or waiting.what["type"] != _COMMIT:
            return
        if waiting.mark_id is None:
            waiting.mark_id = new_id("mark")
            if self._peer.mark(waiting.mark_id):
                self._reached.add(waiting.mark_id)

    def _is_due(self, waiting: _Waiting) -> bool:
        """Whether an event may be sent now: any but a commit of sound that has not been spoken yet."""
        self._mark(waiting)
        if waiting.mark_id is None:
            return True
        if waiting.mark_id not in self._reached:
            return False
        self._reached.discard(waiting.mark_id)
        return True
