"""A line to a Live service from the first dial to its end: what comes before the call takes it is kept, in order."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from bridge.errors import UpstreamError
from bridge.media.playback import Part
from bridge.upstream.early import Early
from bridge.upstream.live.line import LiveLine
from bridge.upstream.live.start import LiveStart
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


class ManagedLiveLine:
    """See the module; the ``LiveLineOwner`` of its line."""

    def __init__(self, target: Target, line: LiveLine, *, part: Callable[[], Part]) -> None:
        """``part`` returns the part of an answer that the model's sound belongs to now."""
        self.target = target
        self.line = line
        self.opened_at = 0.0
        """When the session started, by the event loop's clock."""
        self.is_finished = False
        """Whether the service has said ``session.closed``."""
        self._over = asyncio.Event()
        """Set when the service has said so, or the line has ended."""
        self._part = part
        self._started: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Task[UpstreamError | None] | None = None
        self._early: Early[Body | bytes] = Early()
        self._hearer: LiveHearer | None = None

    async def open(self, start: LiveStart, group: asyncio.TaskGroup, *, within_s: float) -> Body:
        """Dials; returns ``session.started``. Raises ``UpstreamError``, and has ended then.

        The line runs in ``group``. Once it is connected, the session has ``within_s`` to start.
        """
        try:
            await self.line.open(self, start)
            async with asyncio.timeout(within_s):
                self._ended = group.create_task(self.line.run())
                self._ended.add_done_callback(lambda _: self._over.set())
                await asyncio.wait((self._started, self._ended), return_when=asyncio.FIRST_COMPLETED)
                if not self._started.done():
                    raise self._ended.result() or UpstreamError("The upstream closed before it said anything.")
            started = self._started.result()
        except TimeoutError:
            await self.aclose()
            message = f"The upstream did not start the session within {within_s:g} s."
            raise UpstreamError(message, code="upstream_timeout") from None
        except BaseException:
            await self.aclose()
            raise
        self.opened_at = asyncio.get_running_loop().time()
        return started

    def take(self, hearer: LiveHearer) -> None:
        """From now on ``hearer`` gets what comes, and at once what has come already."""
        self._hearer = hearer
        for one in self._early.take():
            if isinstance(one, dict):
                hearer.hear(one)
            else:
                hearer.hear_audio(one)

    async def wait_over(self, timeout_s: float | None = None) -> bool:
        """Waits for so long; returns whether the session was closed by the service, or the line has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._over.wait()
        return self._over.is_set()

    @property
    def ending(self) -> UpstreamError | None:
        """Why it ended; None if the service hung up in good order, or has not hung up yet."""
        return self._ended.result() if self._ended is not None and self._ended.done() else None

    async def finish(self, within_s: float) -> None:
        """Asks the service to close the session, and waits for it to say so, because billing runs until then."""
        if not self._over.is_set():
            self.line.send({"type": "session.close"})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._over.wait()
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the line, within a bounded time; may be called twice."""
        self._started.cancel()
        self._early.take()
        await self.line.aclose()

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
        if not self._started.done():
            self._greet(body)
        elif self._hearer is not None:
            self._hearer.hear(body)
        else:
            self._early.add(body)

    def received_audio(self, line: LiveLine, sound: bytes) -> None:
        """Takes a piece of the model's sound."""
        if self._hearer is not None:
            self._hearer.hear_audio(sound)
        elif self._started.done():
            self._early.add(sound)

    def _greet(self, body: Body) -> None:
        if body["type"] == "session.started" and isinstance(body.get("session"), dict):
            self._started.set_result(body)
        elif body["type"] == "error":
            self._started.set_exception(LiveRefusal(body))
        else:
            self._early.add(body)  # such as ``info``, which may come first
