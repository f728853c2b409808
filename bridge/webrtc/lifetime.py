"""The life of a peer: its state, and why it ended.

new ──first check──▶ handshaking ──DTLS──▶ connected ──┬─ hang_up, DTLS or channel closed, silence ─▶ closing ─▶ closed
 └──────────────── not within connect_timeout_s ───────┘
"""

import asyncio
from enum import StrEnum

from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError
from bridge.state_machine import StateMachine

__all__ = ["PeerLifetime", "PeerState"]


class PeerState(StrEnum):
    """The states of a peer."""

    NEW = "new"
    """The peer has sent no check yet."""
    HANDSHAKING = "handshaking"
    """ICE is connected, and DTLS begins."""
    CONNECTED = "connected"
    """Sound can flow."""
    CLOSING = "closing"
    """Somebody has ended it, and its goodbyes are being said."""
    CLOSED = "closed"
    """Its transport is gone."""


_TABLE = {
    PeerState.NEW: frozenset({PeerState.HANDSHAKING, PeerState.CLOSING}),
    PeerState.HANDSHAKING: frozenset({PeerState.CONNECTED, PeerState.CLOSING}),
    PeerState.CONNECTED: frozenset({PeerState.CLOSING}),
    PeerState.CLOSING: frozenset({PeerState.CLOSED}),
    PeerState.CLOSED: frozenset[PeerState](),
}


class PeerLifetime:
    """A peer's state, and the first reason for its end."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self.reason = ""
        """The reason for its end, as a slug; empty if nobody has ended it."""
        self.error: BridgeError | None = None
        """The error that made it end; None if somebody ended it on purpose."""
        self.closing = asyncio.Event()
        self.closed = asyncio.Event()
        self._machine = StateMachine("peer", PeerState.NEW, _TABLE, log=log, event="peer.state")

    @property
    def state(self) -> PeerState:
        """The peer's present state."""
        return self._machine.state

    @property
    def is_ending(self) -> bool:
        """Whether somebody has ended it."""
        return self.closing.is_set()

    def become(self, state: PeerState) -> None:
        """Changes the state, which nothing else does; raises ``RuntimeError`` for a state that does not follow."""
        self._machine.enter(state)
        if state is PeerState.CLOSING:
            self.closing.set()
        elif state is PeerState.CLOSED:
            self.closed.set()

    def end(self, reason: str, error: BridgeError | None = None) -> None:
        """Begins to close; the first reason counts. May be called at any time, and again."""
        if not self.is_ending:
            self.reason, self.error = reason, error
            self.become(PeerState.CLOSING)
