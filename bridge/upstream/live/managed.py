"""A line to a Live service and its state, from the first dial to its end."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from bridge.errors import UpstreamError
from bridge.media.playback import Part
from bridge.upstream.live.line import LiveLine
from bridge.upstream.live.start import LiveStart
from bridge.upstream.managed_line import ManagedLine
from bridge.upstream.target import Target
from bridge.wire.server_events import Body

__all__ = ["LiveHearer", "LiveRefusal", "ManagedLiveLine"]


class LiveRefusal(UpstreamError):
    """The service has refused the session; ``body`` is its ``error`` event."""

    def __init__(self, body: Body) -> None:
        error = body.get("error")
        said: Body = error if isinstance(error, dict) else {}
        kind = str(said.get("type") or "server_error")
        super().__init__(
            str(said.get("message") or "The upstream refused the session."),
            code=str(said.get("code") or "upstream_refused"),
            param=said["param"] if isinstance(said.get("param"), str) else None,
            type=kind,
            is_transient=kind == "server_error",
        )
        self.body = body


class LiveHearer(Protocol):
    """Whoever gets what comes over a line that was taken."""

    def hear(self, body: Body) -> None:
        """Takes an event of the service."""
        ...

    def hear_audio(self, sound: bytes) -> None:
        """Takes a piece of the model's sound."""
        ...


class ManagedLiveLine(ManagedLine[LiveLine, LiveHearer]):
    """A line to a Live service; the ``LiveLineOwner`` of its line. It is over when the service has closed the session.

    ``part`` returns the part of an answer that the model's sound belongs to now.
    """

    late = "start the session"

    def __init__(self, target: Target, line: LiveLine, *, part: Callable[[], Part], log: FilteringBoundLogger) -> None:
        super().__init__(target, line, log=log)
        self.is_finished = False
        """Whether the service has said ``session.closed``."""
        self._part = part

    async def open(self, start: LiveStart, group: asyncio.TaskGroup, *, within_s: float) -> Body:
        """Dials; returns ``session.started``. Raises ``UpstreamError``, and has ended then.

        The line runs in ``group``. Once it is connected, the session has ``within_s`` to start.
        """
        return await self._greeted(self.line.open(self, start), group, within_s)

    async def finish(self, within_s: float) -> None:
        """Asks the service to close the session, and waits for it to say so, because billing runs until then."""
        if not self._over.is_set():
            self.line.send_live_event({"type": "session.close"})
            await self.wait_over(within_s)
        await self.aclose()

    # LiveLineOwner

    @property
    def part(self) -> Part:
        """The part of an answer that the model's sound belongs to now."""
        return self._part()

    def received(self, line: LiveLine, body: Body) -> None:
        """Takes an event of the service."""
        if body["type"] == "session.closed":
            self.is_finished = True
            self._over.set()
        super().received(line, body)

    def received_audio(self, line: LiveLine, sound: bytes) -> None:
        """Takes a piece of the model's sound."""
        self._received_sound(sound)

    def _greet(self, body: Body) -> None:
        if body["type"] == "session.started" and isinstance(body.get("session"), dict):
            self._accept(body)
        elif body["type"] == "error":
            self._refuse(LiveRefusal(body))
        else:
            self._early.keep_early(body)  # such as ``info``, which may come first
