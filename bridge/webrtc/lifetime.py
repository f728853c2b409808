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
    """What a peer does."""

    NEW = "new"
    """Waits for its first check."""
    HANDSHAKING = "handshaking"
    """ICE is connected; DTLS begins."""
    CONNECTED = "connected"
    """Sound can flow."""
    CLOSING = "closing"
    """Somebody has ended it; its goodbyes are being said."""
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
        """A slug; empty while nobody has ended it."""
        self.error: BridgeError | None = None
        """What made it end, if that was nobody's wish."""
        self.closing = asyncio.Event()
        self.closed = asyncio.Event()
        self._machine = StateMachine("peer", PeerState.NEW, _TABLE, log=log, event="peer.state")

    @property
    def state(self) -> PeerState:
        """The state that it is in."""
        return self._machine.state

    @property
    def is_ending(self) -> bool:
        """Somebody has ended it."""
        return self.closing.is_set()

    def become(self, state: PeerState) -> None:
        """The one way to another state; raises ``RuntimeError`` for one that does not follow."""
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
