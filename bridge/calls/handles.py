"""What an endpoint holds of a call: a place for a socket, what the socket says and hears there, an offer's answer.

A call may run in this process or in another one; these say no more of it than every endpoint needs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from bridge.context import CallContext
from bridge.errors import BridgeError
from bridge.media.contracts import Leg, PhoneOwner, Sink
from bridge.turns import Work
from bridge.wire.stats import CallStats, CallWarning

__all__ = [
    "Agents",
    "AttachedAgent",
    "CallAnswer",
    "CarrierCall",
    "IceAnswer",
    "RemoteCalls",
    "SocketHandle",
    "SocketPlace",
]


class SocketHandle(Protocol):
    """A socket that has taken its place. A message with a mistake is answered by an ``error`` event."""

    async def receive_text(self, text: str, work: Work) -> None:
        """Takes one message.

        A long one is carried out in pieces, and others have their turn between them, as ``work`` says. What other
        sockets of the call say waits until then.
        """
        ...

    def refuse_binary(self) -> None:
        """Refuses a binary message, which carries no event."""
        ...

    def refuse_long(self, chars: int) -> None:
        """Refuses a message that is too long to be read, and closes the socket."""
        ...

    def detach(self, reason: str, *, error: BridgeError | None = None, is_lost: bool = False) -> None:
        """Notes that the socket is gone; ``error`` is given if that is somebody's fault.

        If it broke without a goodbye (``is_lost``), whoever is the call may come back.
        """
        ...


class SocketPlace(Protocol):
    """What a socket is going to be, and in which call. Nothing has happened there yet."""

    @property
    def is_owner(self) -> bool:
        """Whether the socket is the call itself; then it does not count as one of the call's listeners."""
        ...

    def bind_task(self) -> None:
        """Puts the call's id on every line that the running task logs from now on."""
        ...

    async def attach(self, sink: Sink) -> SocketHandle | None:
        """Gives the socket the place; returns None if the call has ended meanwhile, and then the socket is closed.

        Raises ``RequestError`` if the place is gone: the call is full, or what the socket missed is no longer kept.
        """
        ...

    def give_up(self) -> None:
        """Gives the place back, because no socket came; a call that was opened for it ends."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswer:
    """The answer to an offer."""

    call_id: str
    sdp: str
    resume_key: str = field(repr=False)
    """The key with which the call's peer may come back; empty if it cannot."""
    warnings: tuple[CallWarning, ...] = ()
    """The parts of the offer that could not be used."""
    tag: str = ""
    """The tag of its ICE session."""
    player_id: str = ""
    """The id of the player whose offer it was; empty if it was a caller's offer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IceAnswer:
    """The answer to an ICE restart: the bridge's own fragment, and the new ICE session's tag."""

    fragment: str = field(repr=False)
    tag: str


@dataclass(frozen=True, slots=True)
class CarrierCall:
    """A call that a carrier has opened."""

    context: CallContext
    owner: PhoneOwner
    """The owner, which the call's leg reports to."""
    attach_leg: Callable[[Leg], None]
    """The function that gives the call its leg."""


class RemoteCalls(Protocol):
    """The calls of other processes, which have calls of their own."""

    async def list_calls(self, key_id: str, query: str) -> list[CallStats]:
        """Returns their calls that the key may see and ``query`` finds.

        Those of a process that does not answer are missing.
        """
        ...


class AttachedAgent(Protocol):
    """One agent's socket."""

    def receive_agent_text(self, text: str) -> None:
        """Takes a message of the agent's; a mistake in it is answered by an ``error`` event."""
        ...

    def refuse_binary(self) -> None:
        """Refuses a binary message, which carries no event."""
        ...

    def detach(self) -> None:
        """Notes that the socket is gone."""
        ...


class Agents(Protocol):
    """The place where agents wait for calls."""

    def require_room(self) -> None:
        """Raises ``OverLimit`` if too many wait already."""
        ...

    def attach(self, sink: Sink, call_id: str | None = None) -> AttachedAgent:
        """Takes an agent that has come; with ``call_id`` it is for that call alone."""
        ...
