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
"""The close code of an end that somebody wished for (RFC 6455 section 7.4.1)."""


class CallPhase(StrEnum):
    """Where a call is in its life, to the last detail; outside it is a ``CallState``."""

    CONNECTING = "connecting"
    """Whoever is the call is on the way: for the first time, or again."""
    CONNECTED = "connected"
    REPLACING = "replacing"
    """The leg has gone while another one was connecting. Nobody was told."""
    LOST = "lost"
    """The connection of whoever is the call broke, and listeners were told; it may come back for a while."""
    OVERDUE = "overdue"
    """The window is over, but a leg is still connecting."""
    CLOSING = "closing"
    """Everybody was told; the leg is hanging up."""
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
    """One call's. ``on_window_over`` is told if nobody has come back within ``resume_grace_s``."""

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
        """From the request until sound could flow."""
        self.result = (CallResult.SUCCESS, "")
        """How it ended: a word and a reason."""
        self.goodbye = (NORMAL, "")
        """With which sockets are closed from the end on."""
        self.lost_because: tuple[str, BridgeError | None] = ("", None)
        """Why the call ends if nobody comes back: a reason, and the error if it was nobody's wish."""
        self._info = info
        self._hub = hub
        self._clock = clock
        self._began_at = self._active_at = clock()
        self._log = log
        self._machine = StateMachine("call", _CONNECTING, TRANSITIONS, log=log)

    @property
    def phase(self) -> CallPhase:
        """Where the call is in its life."""
        return self._machine.state

    @property
    def state(self) -> CallState:
        """The same, as it is told outside."""
        return _STATES[self._machine.state]

    @property
    def status(self) -> CallStatus:
        """How the call is doing, in the words of the beta reference."""
        if self.is_open:
            return CallStatus.ACTIVE
        return CallStatus.ENDED if self.result[0] is CallResult.SUCCESS else CallStatus.ERROR

    @property
    def is_open(self) -> bool:
        """Nobody has ended it."""
        return self._machine.state in _OPEN

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return self._clock() - self._began_at

    def touch(self) -> None:
        """Something has happened in it."""
        self._active_at = self._clock()

    def idle_left_s(self, idle_timeout_s: float | None) -> float:
        """How long it may stay as it is before it counts as idle; infinite without a timeout."""
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
        """The connection of whoever is the call broke; False if it is not waited for."""
        if not self.window.is_possible or self._machine.state is not _CONNECTED:
            return False
        self._machine.enter(_LOST)
        self.lost_because = reason, error
        self._log.info("call.lost", reason=reason)
        self._hub.publish_own(CallLost(call_id=self._info.id, reason=reason, seconds=self.window.grace_s))
        self.window.begin()
        return True

    def replace(self, reason: str, error: BridgeError | None) -> None:
        """The leg is gone, and the one that is connecting is to take its place."""
        self._machine.enter(_REPLACING)
        self.lost_because = reason, error

    def come_back(self) -> None:
        """Whoever is the call has come back, or has come by another way."""
        self.window.end()
        before = self._machine.state
        if before in (_REPLACING, _LOST, _OVERDUE):
            self._machine.enter(_CONNECTING)
        if before in (_LOST, _OVERDUE):
            self._hub.publish_own(CallResumed(call_id=self._info.id))

    def overstay(self) -> None:
        """The window is over, but somebody is on the way."""
        self._machine.enter(_OVERDUE)

    @property
    def is_last_chance(self) -> bool:
        """If the leg that is connecting does not make it, nobody is left."""
        return self._machine.state in (_REPLACING, _OVERDUE)

    def begin_end(self, reason: str, error: BridgeError | None, *, code: int, farewell: str) -> CallClosed:
        """The call ends, and whoever is told so is told this; sockets are closed with ``code`` and ``farewell``."""
        self._machine.enter(_CLOSING)
        self.window.end()
        self.result = (result_of(error), reason)
        self.goodbye = code, farewell
        return CallClosed(call_id=self._info.id, result=self.result[0], reason=reason)

    def end(self) -> None:
        """Nothing is left of it but its upstream."""
        self._machine.enter(_CLOSED)
        self.closed.set()
