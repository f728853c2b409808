"""One connection to a Live service, whatever it runs over."""

from typing import Protocol

from bridge.errors import UpstreamError
from bridge.media.contracts import PassingUpstream
from bridge.media.playback import Part
from bridge.upstream.live.start import LiveStart
from bridge.wire.audio import AudioFormat
from bridge.wire.server_events import Body

__all__ = ["LiveLine", "LiveLineOwner"]


class LiveLineOwner(Protocol):
    """Whoever gets what comes over a line."""

    def received(self, line: "LiveLine", body: Body) -> None:
        """Takes an event, less those that carry sound; the first one is ``session.started``, or an ``error``."""
        ...

    def received_audio(self, line: "LiveLine", sound: bytes) -> None:
        """Takes a piece of the model's sound, in the line's ``output_format``."""
        ...

    @property
    def part(self) -> Part:
        """The part of an answer that the model's sound belongs to now."""
        ...


class LiveLine(Protocol):
    """A connection to a Live service, which is opened once, run to its end, and closed."""

    @property
    def passage(self) -> PassingUpstream | None:
        """The passage by which Opus is passed on, if there is one."""
        ...

    async def open(self, owner: LiveLineOwner, start: LiveStart) -> None:
        """Connects, and asks for the session; raises ``UpstreamError``."""
        ...

    async def run(self) -> UpstreamError | None:
        """Hands over what comes, until the end. Returns why it ended; None if the service closed it in good order."""
        ...

    @property
    def input_format(self) -> AudioFormat:
        """The format in which it takes the caller's sound."""
        ...

    @property
    def output_format(self) -> AudioFormat:
        """The format in which it gives the model's sound."""
        ...

    def send_live_event(self, body: Body) -> None:
        """Sends a Live client event; does nothing on a line that has ended."""
        ...

    def send_audio(self, sound: bytes) -> None:
        """Takes a piece of the caller's sound, in ``input_format``."""
        ...

    async def aclose(self) -> None:
        """Closes, within a bounded time; may be called twice."""
        ...
