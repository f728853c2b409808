"""One connection to a Realtime service, whatever it runs over. ``ManagedLine`` follows its state."""

from typing import Protocol

from bridge.errors import UpstreamError
from bridge.media.contracts import PassingUpstream
from bridge.media.playback import Part
from bridge.session.state import SessionState
from bridge.wire.audio import AudioFormat
from bridge.wire.server_events import Body

__all__ = ["Line", "LineOwner", "WholeSamples"]

_MAX_RESTS = 16  # parts that are spoken at a time


class LineOwner(Protocol):
    """Who hears what comes over a line."""

    def received(self, line: "Line", body: Body) -> None:
        """An event, in GA's words; the first one is ``session.created``."""
        ...

    def received_audio(self, line: "Line", part: Part, sound: bytes) -> None:
        """A piece of the answer's sound, in the line's ``output_format``."""
        ...

    def passed_audio(self, line: "Line") -> None:
        """Some of it went to the caller's peer as it was."""
        ...


class Line(Protocol):
    """Opened once, run to its end, closed."""

    plays: bool
    """The service plays the answer itself, and knows what of it was heard."""

    @property
    def passage(self) -> PassingUpstream | None:
        """Where Opus may pass as it is."""
        ...

    async def open(self, owner: LineOwner, state: SessionState) -> None:
        """Connects; raises ``UpstreamError``. The state tells what the session is set to, now and later."""
        ...

    async def run(self) -> UpstreamError | None:
        """Hands over what comes, until the end; None where the service ended the session in good order."""
        ...

    @property
    def input_format(self) -> AudioFormat:
        """In which it takes the caller's sound."""
        ...

    @property
    def output_format(self) -> AudioFormat:
        """In which it gives the answer's."""
        ...

    def send(self, body: Body) -> None:
        """A GA client event; to a line that has ended, nothing."""
        ...

    def send_audio(self, sound: bytes) -> None:
        """The caller's sound, in ``input_format``."""
        ...

    async def aclose(self) -> None:
        """Closes, within a bounded time; may be called twice."""
        ...


class WholeSamples:
    """Joins what a service cuts wherever its buffer ends: the rest of a sample comes with the part's next piece."""

    def __init__(self) -> None:
        self._rests: dict[Part, bytes] = {}
        """Half samples, of parts whose deltas may come by turns."""

    def join(self, part: Part, sound: bytes, audio_format: AudioFormat) -> bytes:
        """The whole samples of ``part`` that there are with ``sound``; perhaps none."""
        if self._rests:
            sound = self._rests.pop(part, b"") + sound
        odd_bytes = len(sound) % audio_format.bytes_per_sample
        if not odd_bytes:
            return sound
        if len(self._rests) >= _MAX_RESTS:
            del self._rests[next(iter(self._rests))]
        self._rests[part] = sound[-odd_bytes:]
        return sound[:-odd_bytes]
