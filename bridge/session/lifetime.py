"""How long a call lives: from the request until nothing of it is left, with the times in which it is waited for.

``TRANSITIONS`` is the table of its states; docs/internals/call-states.md has the picture.
"""

import asyncio
import math
from collections.abc import Callable
from enum import StrEnum

from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError
from bridge.resume_window import ResumeWindow
from bridge.session.fanout.hub import Hub
from bridge.session.info import CallInfo, result_of
from bridge.state_machine import StateMachine
from bridge.wire.own_events import CallClosed, CallLost, CallResumed
from bridge.wire.stats import CallResult, CallState, CallStatus, Transport

__all__ = ["NORMAL", "TRANSITIONS", "CallLifetime", "CallPhase"]

NORMAL = 1000
"""The close code of a normal end (RFC 6455 section 7.4.1)."""


class CallPhase(StrEnum):
    """The phase of a call in full detail; clients are told a ``CallState``."""

    CONNECTING = "connecting"
    """The caller is connecting: for the first time, or again."""
    CONNECTED = "connected"
    REPLACING = "replacing"
    """The leg has gone while another one was connecting. Listeners were not told."""
    LOST = "lost"
    """The caller's connection broke, and listeners were told. The caller may come back for a while."""
    OVERDUE = "overdue"
    """The resume window is over, but a leg is still connecting."""
    CLOSING = "closing"
    """Everybody was told that the call ends; the leg is hanging up."""
    CLOSED = "closed"


_CONNECTING, _CONNECTED, _REPLACING, _LOST, _OVERDUE, _CLOSING, _CLOSED = CallPhase
TRANSITIONS = {
    _CONNECTING: {_CONNECTED, _REPLACING, _CLOSING},
    _CONNECTED: {_REPLACING, _LOST, _CLOSING},
    _REPLACING: {_CONNECTING, _CLOSING},
    _LOST: {_CONNECTING, _OVERDUE, _CLOSING},
    _OVERDUE: {_CONNECTING, _CLOSING},
    _CLOSING: {_CLOSED},
    _CLOSED: set[CallPhase](),
}
_STATES = {
    _CONNECTING: CallState.CONNECTING,
    _CONNECTED: CallState.CONNECTED,
    _REPLACING: CallState.CONNECTING,
    _LOST: CallState.LOST,
    _OVERDUE: CallState.LOST,
    _CLOSING: CallState.CLOSED,
    _CLOSED: CallState.CLOSED,
}
_OPEN = (_CONNECTING, _CONNECTED, _REPLACING, _LOST, _OVERDUE)


class CallLifetime:
    """The life of one call. ``on_window_over`` is called if the caller has not come back within ``resume_grace_s``."""

    def __init__(
        self,
        info: CallInfo,
        hub: Hub,
        *,
        clock: Callable[[], float],
        resume_grace_s: float,
        on_window_over: Callable[[], None],
        log: FilteringBoundLogger,
    ) -> None:
        self.window = ResumeWindow(resume_grace_s, on_window_over)
        self.closed = asyncio.Event()
        self.setup_ms: int | None = None
        """The time from the request until sound could flow, in milliseconds."""
        self.result = (CallResult.SUCCESS, "")
        """How it ended: the result, and the reason."""
        self.goodbye = (NORMAL, "")
        """The close code and the reason with which sockets are closed after the end."""
        self.lost_because: tuple[str, BridgeError | None] = ("", None)
        """Why the call ends if the caller does not come back: the reason, and the error if there was one."""
        self.on_comeback: Callable[[], None] | None = None
        """Called once, when whoever was lost is back."""
        self._info = info
        self._hub = hub
        self._clock = clock
        self._began_at = self._active_at = clock()
        self._log = log
        self._machine = StateMachine("call", _CONNECTING, TRANSITIONS, log=log)

    @property
    def phase(self) -> CallPhase:
        """The phase of the call."""
        return self._machine.state

    @property
    def state(self) -> CallState:
        """The phase as clients are told it."""
        return _STATES[self._machine.state]

    @property
    def status(self) -> CallStatus:
        """The status of the call, in the words of the beta reference."""
        if self.is_open:
            return CallStatus.ACTIVE
        return CallStatus.ENDED if self.result[0] is CallResult.SUCCESS else CallStatus.ERROR

    @property
    def is_open(self) -> bool:
        """Whether nobody has ended the call yet."""
        return self._machine.state in _OPEN

    @property
    def seconds(self) -> float:
        """How long the call has been running."""
        return self._clock() - self._began_at

    def touch(self) -> None:
        """Notes that something has happened in the call."""
        self._active_at = self._clock()

    def idle_left_s(self, idle_timeout_s: float | None) -> float:
        """The time until it counts as idle if nothing happens, in seconds; infinite without a timeout."""
        return math.inf if idle_timeout_s is None else self._active_at + idle_timeout_s - self._clock()

    def connect(self, transport: Transport) -> None:
        """Sound can flow, over ``transport``."""
        if self._machine.state is not _CONNECTED:
            self._machine.enter(_CONNECTED)
        connect_ms = round(1000 * self.seconds)
        if self.setup_ms is None:
            self.setup_ms = connect_ms
        info = self._info
        self._log.info("call.opened", transport=transport, model=info.model, session_id=info.session_id,
                       connect_ms=connect_ms, **info.context.origin)  # fmt: skip

    def lose(self, reason: str, error: BridgeError | None) -> bool:
        """Notes that the caller's connection broke; False if the call does not wait for the caller."""
        if not self.window.is_possible or self._machine.state is not _CONNECTED:
            return False
        self._machine.enter(_LOST)
        self.lost_because = reason, error
        self._log.info("call.lost", reason=reason)
        self._hub.publish_own(CallLost(call_id=self._info.id, reason=reason, seconds=self.window.grace_s))
        self.window.open_window()
        return True

    def replace(self, reason: str, error: BridgeError | None) -> None:
        """Notes that the leg is gone while another one is connecting that is to take its place."""
        self._machine.enter(_REPLACING)
        self.lost_because = reason, error

    def come_back(self) -> None:
        """Notes that the caller has come back, or has connected in another way."""
        self.window.close_window()
        before = self._machine.state
        if before in (_REPLACING, _LOST, _OVERDUE):
            self._machine.enter(_CONNECTING)
        if before in (_LOST, _OVERDUE):
            self._hub.publish_own(CallResumed(call_id=self._info.id, moved_behind=self._hub.replay.moved_behind))
            tell, self.on_comeback = self.on_comeback, None
            if tell is not None:
                tell()

    def overstay(self) -> None:
        """Notes that the resume window is over while a leg is connecting."""
        self._machine.enter(_OVERDUE)

    @property
    def is_last_chance(self) -> bool:
        """Whether the call ends if the leg that is connecting fails."""
        return self._machine.state in (_REPLACING, _OVERDUE)

    def begin_end(self, reason: str, error: BridgeError | None, *, code: int, farewell: str) -> CallClosed:
        """Begins the end with this result and reason; sockets are closed with ``code`` and ``farewell``."""
        self._machine.enter(_CLOSING)
        self.window.close_window()
        self.result = (result_of(error), reason)
        self.goodbye = code, farewell
        return CallClosed(call_id=self._info.id, result=self.result[0], reason=reason)

    def end(self) -> None:
        """Notes that only the upstream is left of the call."""
        self._machine.enter(_CLOSED)
        self.closed.set()
