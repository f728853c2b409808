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
    """Whoever gets what comes over a line."""

    def received(self, line: "Line", body: Body) -> None:
        """Takes an event in the GA dialect; the first one is ``session.created``."""
        ...

    def received_audio(self, line: "Line", part: Part, sound: bytes) -> None:
        """Takes a piece of the answer, in the line's ``output_format``."""
        ...

    def passed_audio(self, line: "Line") -> None:
        """Notes that a packet of the answer was passed on to the caller's peer."""
        ...


class Line(Protocol):
    """A connection to a Realtime service, which is opened once, run to its end, and closed."""

    plays: bool
    """True if the service plays the answer itself, and so knows how much of it was heard."""

    @property
    def passage(self) -> PassingUpstream | None:
        """The passage by which Opus is passed on, if there is one."""
        ...

    async def open(self, owner: LineOwner, state: SessionState) -> None:
        """Connects; raises ``UpstreamError``. ``state`` has the session's configuration, now and later."""
        ...

    async def run(self) -> UpstreamError | None:
        """Hands over what comes, until the end.

        Returns why it ended; None if the service ended the session in good order.
        """
        ...

    @property
    def input_format(self) -> AudioFormat:
        """The format in which it takes the caller's sound."""
        ...

    @property
    def output_format(self) -> AudioFormat:
        """The format in which it gives the answer."""
        ...

    def send_client_event(self, body: Body) -> None:
        """Sends a GA client event; does nothing on a line that has ended."""
        ...

    def send_audio(self, sound: bytes) -> None:
        """Takes a piece of the caller's sound, in ``input_format``."""
        ...

    async def aclose(self) -> None:
        """Closes, within a bounded time; may be called twice."""
        ...


class WholeSamples:
    """Joins what a service cuts wherever its buffer ends: the rest of a sample comes with the part's next piece."""

    def __init__(self) -> None:
        self._rests: dict[Part, bytes] = {}
        """The half sample at the end of each part, because deltas of several parts may alternate."""

    def join(self, part: Part, sound: bytes, audio_format: AudioFormat) -> bytes:
        """Takes more sound of ``part``; returns the whole samples that there are now, perhaps none."""
        if self._rests:
            sound = self._rests.pop(part, b"") + sound
        odd_bytes = len(sound) % audio_format.bytes_per_sample
        if not odd_bytes:
            return sound
        if len(self._rests) >= _MAX_RESTS:
            del self._rests[next(iter(self._rests))]
        self._rests[part] = sound[-odd_bytes:]
        return sound[:-odd_bytes]
