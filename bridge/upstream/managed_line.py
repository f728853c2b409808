"""A line and its state, from the first dial to its end, whichever protocol is spoken on it.

    connecting ──greeting──▶ greeted ──taken by the call──▶ live ──session_expired──▶ expired
        └───────────────────────┴──────────────────────────────┴───────────────────────┴──▶ ended

What comes on a line before the call takes it is kept, in order, and heard then. ``session_expired`` is what Realtime
services say shortly before they hang up on a session that is too old.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, ClassVar, Generic, Protocol, TypeVar

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

__all__ = ["SESSION_EXPIRED", "LineHearer", "LineState", "ManagedLine", "ManagedRealtimeLine"]

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


class _Runs(Protocol):
    """What of a line does not depend on its protocol."""

    async def run(self) -> UpstreamError | None: ...

    async def aclose(self) -> None: ...


class _Hears(Protocol):
    """What of a hearer does not depend on its protocol."""

    def hear(self, body: Body) -> None: ...

    @property
    def hear_audio(self) -> Callable[..., None]: ...


_Line = TypeVar("_Line", bound=_Runs)
_Hearer = TypeVar("_Hearer", bound=_Hears)


class ManagedLine(ABC, Generic[_Line, _Hearer]):
    """See the module; a subclass knows the protocol, and is the owner of its line."""

    late: ClassVar[str]
    """What a service has not done that does not greet in time, behind "The upstream did not"."""

    def __init__(self, target: Target, line: _Line, *, log: FilteringBoundLogger) -> None:
        self.target = target
        self.line = line
        self.opened_at = self.heard_at = 0.0
        """The times at which the upstream greeted, and at which something last came from it, by the event loop's clock.
        """
        self._states = StateMachine(
            "upstream line", LineState.CONNECTING, _TRANSITIONS, log=log, event="upstream.line_state"
        )
        self._now = asyncio.get_running_loop().time
        self._greeting: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Task[UpstreamError | None] | None = None
        self._over = asyncio.Event()
        """Set when the line has ended by itself, or the service has said that it is done."""
        self._early: Early[Body | tuple[Any, ...]] = Early()
        """Events, and sound as ``hear_audio`` takes it, that came before the line was taken."""
        self._hearer: _Hearer | None = None

    @property
    def state(self) -> LineState:
        """The state of the line."""
        return self._states.state

    async def _greeted(self, dialled: Coroutine[Any, Any, None], group: asyncio.TaskGroup, within_s: float) -> Body:
        """Waits for the line to be ``dialled``, runs it in ``group``, and returns the greeting.

        It has ``within_s`` to come. Raises ``UpstreamError``, and the line has ended then.
        """
        try:
            await dialled
            async with asyncio.timeout(within_s):
                self._ended = group.create_task(self.line.run())
                self._ended.add_done_callback(lambda _: self._over.set())
                await asyncio.wait((self._greeting, self._ended), return_when=asyncio.FIRST_COMPLETED)
                if not self._greeting.done():
                    raise self._ended.result() or UpstreamError(
                        "The upstream closed the connection before it sent anything."
                    )
            greeting = self._greeting.result()
        except TimeoutError:
            await self.aclose()
            message = f"The upstream did not {self.late} within {within_s:g} s."
            raise UpstreamError(message, code="upstream_timeout") from None
        except BaseException:
            await self.aclose()
            raise
        self.opened_at = self._now()
        return greeting

    def set_hearer(self, hearer: _Hearer) -> None:
        """From now on ``hearer`` gets what comes. The caller calls ``replay_early`` next."""
        self._states.enter(LineState.LIVE)
        self._hearer, self.heard_at = hearer, self._now()

    def replay_early(self) -> None:
        """Tells the hearer what came before the line was taken."""
        for one in self._early.take_early():
            if isinstance(one, dict):
                self._hear(one)
            elif self._hearer is not None:
                self._hearer.hear_audio(*one)

    async def wait_over(self, timeout_s: float | None = None) -> bool:
        """Waits for so long; returns whether the line has ended by itself, or the service has said that it is done."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._over.wait()
        return self._over.is_set()

    @property
    def ending(self) -> UpstreamError | None:
        """Why it ended; None if the service hung up in good order, or has not hung up yet."""
        return self._ended.result() if self._ended is not None and self._ended.done() else None

    async def aclose(self) -> None:
        """Ends the line, within a bounded time; may be called twice."""
        if self._states.may_enter(LineState.ENDED):
            self._states.enter(LineState.ENDED)
        self._greeting.cancel()
        self._early.take_early()
        await self.line.aclose()

    # The line's owner

    def received(self, line: _Line, body: Body) -> None:
        """Takes an event of the upstream."""
        self.heard_at = self._now()
        if self.state is LineState.CONNECTING:
            if not self._greeting.done():  # it may have greeted with an error
                self._greet(body)
        elif self.state is LineState.GREETED:
            self._early.keep_early(body)
        elif self.state in _IN_USE:
            self._hear(body)

    def _received_sound(self, *said: Any) -> None:
        """Takes sound, as ``hear_audio`` takes it."""
        self.heard_at = self._now()
        if self._hearer is not None and self.state in _IN_USE:
            self._hearer.hear_audio(*said)
        elif self.state is LineState.GREETED:
            self._early.keep_early(said)

    @abstractmethod
    def _greet(self, body: Body) -> None:
        """Takes what comes first: calls ``_accept`` or ``_refuse``, if it is the greeting or a refusal."""

    def _accept(self, greeting: Body) -> None:
        self._states.enter(LineState.GREETED)
        self._greeting.set_result(greeting)

    def _refuse(self, error: UpstreamError) -> None:
        self._greeting.set_exception(error)

    def _hear(self, body: Body) -> None:
        if self._hearer is not None:
            self._hearer.hear(body)


class LineHearer(Protocol):
    """Whoever gets what comes over a line of a Realtime service that was taken."""

    def hear(self, body: Body) -> None:
        """Takes an event of the upstream."""
        ...

    def hear_audio(self, part: Part, sound: bytes) -> None:
        """Takes a piece of the answer."""
        ...


class ManagedRealtimeLine(ManagedLine[Line, LineHearer]):
    """A line to a Realtime service; the ``LineOwner`` of its line."""

    late = "answer"

    def __init__(self, target: Target, line: Line, *, log: FilteringBoundLogger) -> None:
        super().__init__(target, line, log=log)
        self.answers_before = 0
        """How many responses had been given when the call took it."""

    async def open(self, session: SessionState, group: asyncio.TaskGroup, *, within_s: float) -> Body:
        """Dials; the session as the upstream says that it is. Raises ``UpstreamError``, and has ended then.

        The line runs in ``group``. Once it is connected, the greeting has ``within_s`` to come.
        """
        greeting = await self._greeted(self.line.open(self, session), group, within_s)
        created: Body = greeting["session"]
        return created

    def received_audio(self, line: Line, part: Part, sound: bytes) -> None:
        """Takes a piece of the answer."""
        self._received_sound(part, sound)

    def passed_audio(self, line: Line) -> None:
        """Notes that a packet of the answer was passed on: the service has not fallen silent."""
        self.heard_at = self._now()

    def _greet(self, body: Body) -> None:
        if body["type"] == "session.created" and isinstance(body.get("session"), dict):
            self._accept(body)
        elif body["type"] == "error":
            event = understood(body)
            if isinstance(event, server.Error):
                self._refuse(_as_error(event.error))

    def _hear(self, body: Body) -> None:
        error = body.get("error") if body["type"] == "error" else None
        if isinstance(error, dict) and error.get("code") == SESSION_EXPIRED and self.state is LineState.LIVE:
            self._states.enter(LineState.EXPIRED)
        super()._hear(body)


def _as_error(detail: server.ErrorDetail) -> UpstreamError:
    """The error that an event stands for with which a service greets in place of a session."""
    return UpstreamError(
        detail.message, code=detail.code, param=detail.param, type=detail.type,
        is_transient=detail.type == "server_error",
    )  # fmt: skip
