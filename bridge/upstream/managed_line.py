"""A line and its state, from the first dial to its end.

    connecting ──session.created──▶ greeted ──taken by the call──▶ live ──session_expired──▶ expired
        └──────────────────────────────┴──────────────────────────────┴───────────────────────┴──▶ ended

What comes on a line before the call takes it is kept, in order, and heard then. ``session_expired`` is what services
say shortly before they hang up on a session that is too old.
"""

import asyncio
from enum import StrEnum
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from bridge.errors import UpstreamError
from bridge.media.playback import Part
from bridge.session.state import SessionState
from bridge.state_machine import StateMachine
from bridge.upstream.early import Early
from bridge.upstream.line import Line
from bridge.upstream.target import Target
from bridge.wire import server_events as server
from bridge.wire.relayed import understood
from bridge.wire.server_events import Body

__all__ = ["SESSION_EXPIRED", "LineHearer", "LineState", "ManagedLine"]

SESSION_EXPIRED = "session_expired"
"""The code of the error by which a service says that the session is too old for it."""


class LineState(StrEnum):
    """See the module."""

    CONNECTING = "connecting"
    GREETED = "greeted"
    LIVE = "live"
    EXPIRED = "expired"
    ENDED = "ended"


_TRANSITIONS = {
    LineState.CONNECTING: frozenset({LineState.GREETED, LineState.ENDED}),
    LineState.GREETED: frozenset({LineState.LIVE, LineState.ENDED}),
    LineState.LIVE: frozenset({LineState.EXPIRED, LineState.ENDED}),
    LineState.EXPIRED: frozenset({LineState.ENDED}),
    LineState.ENDED: frozenset[LineState](),
}
_IN_USE = (LineState.LIVE, LineState.EXPIRED)


class LineHearer(Protocol):
    """Whoever gets what comes over a line that was taken."""

    def hear(self, body: Body) -> None:
        """Takes an event of the upstream."""
        ...

    def hear_audio(self, part: Part, sound: bytes) -> None:
        """Takes a piece of the answer."""
        ...


class ManagedLine:
    """See the module; the ``LineOwner`` of its line."""

    def __init__(self, target: Target, line: Line, *, log: FilteringBoundLogger) -> None:
        self.target = target
        self.line = line
        self.opened_at = self.heard_at = 0.0
        """The times at which the upstream greeted, and at which something last came from it, by the event loop's clock.
        """
        self.answers_before = 0
        """How many responses had been given when the call took it."""
        self._states = StateMachine(
            "upstream line", LineState.CONNECTING, _TRANSITIONS, log=log, event="upstream.line_state"
        )
        self._now = asyncio.get_running_loop().time
        self._created: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Task[UpstreamError | None] | None = None
        self._early: Early[Body | tuple[Part, bytes]] = Early()
        """What came behind ``session.created``, before the line was taken."""
        self._hearer: LineHearer | None = None

    @property
    def state(self) -> LineState:
        """The state of the line."""
        return self._states.state

    async def open(self, session: SessionState, group: asyncio.TaskGroup, *, within_s: float) -> Body:
        """Dials; the session as the upstream says that it is. Raises ``UpstreamError``, and has ended then.

        The line runs in ``group``. Once it is connected, the greeting has ``within_s`` to come.
        """
        try:
            await self.line.open(self, session)
            async with asyncio.timeout(within_s):
                self._ended = group.create_task(self.line.run())
                await asyncio.wait((self._created, self._ended), return_when=asyncio.FIRST_COMPLETED)
                if not self._created.done():
                    raise self._ended.result() or UpstreamError("The upstream closed before it said anything.")
            created: Body = self._created.result()["session"]
        except TimeoutError:
            await self.aclose()
            message = f"The upstream did not answer within {within_s:g} s."
            raise UpstreamError(message, code="upstream_timeout") from None
        except BaseException:
            await self.aclose()
            raise
        self.opened_at = self._now()
        return created

    def take(self, hearer: LineHearer) -> None:
        """From now on ``hearer`` gets what comes. The caller calls ``replay_early`` next."""
        self._states.enter(LineState.LIVE)
        self._hearer, self.heard_at = hearer, self._now()

    def replay_early(self) -> None:
        """Tells the hearer what came before the line was taken."""
        for one in self._early.take():
            if isinstance(one, dict):
                self._hear(one)
            elif self._hearer is not None:
                self._hearer.hear_audio(*one)

    async def wait_ended(self, timeout_s: float) -> bool:
        """Waits for so long; returns whether the line has ended by itself."""
        assert self._ended is not None, "it has been opened"
        await asyncio.wait((self._ended,), timeout=timeout_s)
        return self._ended.done()

    @property
    def ending(self) -> UpstreamError | None:
        """Why it ended; None if the service hung up in good order."""
        assert self._ended is not None, "it has been opened"
        return self._ended.result()

    async def aclose(self) -> None:
        """Ends the line, within a bounded time; may be called twice."""
        if self._states.may_enter(LineState.ENDED):
            self._states.enter(LineState.ENDED)
        self._created.cancel()
        self._early.take()
        await self.line.aclose()

    # LineOwner

    def received(self, line: Line, body: Body) -> None:
        """Takes an event of the upstream."""
        self.heard_at = self._now()
        if self.state is LineState.CONNECTING:
            self._greet(body)
        elif self.state is LineState.GREETED:
            self._early.add(body)
        elif self.state in _IN_USE:
            self._hear(body)

    def received_audio(self, line: Line, part: Part, sound: bytes) -> None:
        """Takes a piece of the answer."""
        self.heard_at = self._now()
        if self._hearer is not None and self.state in _IN_USE:
            self._hearer.hear_audio(part, sound)
        elif self.state is LineState.GREETED:
            self._early.add((part, sound))

    def passed_audio(self, line: Line) -> None:
        """Notes that a packet of the answer was passed on: the service has not fallen silent."""
        self.heard_at = self._now()

    def _greet(self, body: Body) -> None:
        if self._created.done():
            return  # it has greeted with an error
        if body["type"] == "session.created" and isinstance(body.get("session"), dict):
            self._states.enter(LineState.GREETED)
            self._created.set_result(body)
        elif body["type"] == "error":
            event = understood(body)
            if isinstance(event, server.Error):
                self._created.set_exception(_as_error(event.error))

    def _hear(self, body: Body) -> None:
        error = body.get("error") if body["type"] == "error" else None
        if isinstance(error, dict) and error.get("code") == SESSION_EXPIRED and self.state is LineState.LIVE:
            self._states.enter(LineState.EXPIRED)
        if self._hearer is not None:
            self._hearer.hear(body)


def _as_error(detail: server.ErrorDetail) -> UpstreamError:
    """The error that an event stands for with which a service greets in place of a session."""
    return UpstreamError(
        detail.message, code=detail.code, param=detail.param, type=detail.type,
        is_transient=detail.type == "server_error",
    )  # fmt: skip
