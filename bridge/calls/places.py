"""Places for sockets in this process: in a session, beside all calls, among the agents."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.calls.directory import CallDirectory
from bridge.calls.events import EventBus
from bridge.calls.handles import Agents, AttachedAgent, SocketHandle
from bridge.calls.quotas import Reservation
from bridge.errors import BridgeError, Forbidden
from bridge.media.contracts import Sink
from bridge.session.fanout.listener import Listener
from bridge.session.session import Session
from bridge.turns import Work
from bridge.wire.choices import Choices
from bridge.wire.server_events import error_event
from bridge.wire.stats import CallStats, Dialect, ListenerRole

__all__ = ["AgentPlace", "SessionPlace", "WatcherPlace"]

_NORMAL, _UNSUPPORTED_DATA = 1000, 1003  # RFC 6455 section 7.4.1
_CALL_ENDED = "call ended"


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """The place of an owner, a controller or an observer."""

    session: Session
    role: ListenerRole
    choices: Choices
    dialect: Dialect
    reservation: Reservation

    @property
    def is_owner(self) -> bool:
        """See ``SocketPlace``."""
        return self.role is ListenerRole.OWNER

    def bind_task(self) -> None:
        """See ``SocketPlace``."""
        self.session.context.bind_task()

    async def attach(self, sink: Sink) -> SocketHandle | None:
        """See ``SocketPlace``."""
        if self.session.lifetime.closed.is_set():
            sink.close(_NORMAL, _CALL_ENDED)
            return None
        listener = self.session.audience.attach(sink, role=self.role, dialect=self.dialect, choices=self.choices)
        return _SessionSocket(self.session, listener, self.reservation)

    def give_up(self) -> None:
        """See ``SocketPlace``."""
        self.reservation.release()
        if self.is_owner:
            self.session.close("client_closed")


class _SessionSocket:
    def __init__(self, session: Session, listener: Listener, reservation: Reservation) -> None:
        self._session = session
        self._listener = listener
        self._reservation = reservation

    async def receive_text(self, text: str, work: Work) -> None:
        """See ``SocketHandle``."""
        async with self._session.send_lock:
            work.begin()  # the wait for the turn does not count as work
            for _ in self._session.receive_client_text_in_pieces(self._listener, text):
                await work.rest(is_pause=True)
                work.begin()

    def refuse_binary(self) -> None:
        """See ``SocketHandle``."""
        self._session.refuse_binary(self._listener)

    def refuse_long(self, chars: int) -> None:
        """See ``SocketHandle``."""
        self._session.refuse_long_text(self._listener, chars)

    def detach(self, reason: str, *, error: BridgeError | None = None, is_lost: bool = False) -> None:
        """See ``SocketHandle``."""
        self._reservation.release()
        self._session.detach(self._listener, reason, error=error, is_lost=is_lost)


@dataclass(frozen=True, slots=True)
class WatcherPlace:
    """The place of one who hears of all calls, and says nothing."""

    running: Callable[[], Awaitable[list[CallStats]]]
    """The function that returns all calls of which the events tell."""
    events: EventBus
    choices: Choices
    reservation: Reservation
    is_owner = False

    def bind_task(self) -> None:
        """Does nothing, because no call is this socket's own."""

    async def attach(self, sink: Sink) -> SocketHandle:
        """See ``SocketPlace``."""
        running = await self.running() if self.choices.after is None else []
        return _WatcherSocket(self.events, self.events.watch(sink, self.choices, running), self.reservation)

    def give_up(self) -> None:
        """See ``SocketPlace``."""
        self.reservation.release()


class _WatcherSocket:
    def __init__(self, events: EventBus, watcher: Listener, reservation: Reservation) -> None:
        self._events = events
        self._watcher = watcher
        self._reservation = reservation

    async def receive_text(self, text: str, work: Work) -> None:
        """See ``SocketHandle``."""
        self.refuse_binary()

    def refuse_binary(self) -> None:
        """See ``SocketHandle``."""
        refusal = Forbidden("This connection reports calls; it accepts no events.")
        self._events.answer(self._watcher, error_event(refusal))

    def refuse_long(self, chars: int) -> None:
        """See ``SocketHandle``."""
        self.refuse_binary()
        self._watcher.close(_UNSUPPORTED_DATA, "this connection accepts no events")

    def detach(self, reason: str, *, error: BridgeError | None = None, is_lost: bool = False) -> None:
        """See ``SocketHandle``."""
        self._reservation.release()
        self._events.leave(self._watcher)


@dataclass(frozen=True, slots=True)
class AgentPlace:
    """The place of an agent; with ``call_id`` it is for that call alone."""

    agents: Agents
    directory: CallDirectory
    call_id: str | None
    reservation: Reservation
    is_owner = False

    def bind_task(self) -> None:
        """Does nothing, because an agent may have one call after the other."""

    async def attach(self, sink: Sink) -> SocketHandle | None:
        """See ``SocketPlace``."""
        if self.call_id is not None and await self.directory.find(self.call_id) is None:
            sink.close(_NORMAL, _CALL_ENDED)
            return None
        return _AgentSocket(sink, self.agents.attach(sink, self.call_id), self.reservation)

    def give_up(self) -> None:
        """See ``SocketPlace``."""
        self.reservation.release()


class _AgentSocket:
    def __init__(self, sink: Sink, agent: AttachedAgent, reservation: Reservation) -> None:
        self._sink = sink
        self._agent = agent
        self._reservation = reservation

    async def receive_text(self, text: str, work: Work) -> None:
        """See ``SocketHandle``."""
        self._agent.receive_agent_text(text)

    def refuse_binary(self) -> None:
        """See ``SocketHandle``."""
        self._agent.refuse_binary()

    def refuse_long(self, chars: int) -> None:
        """See ``SocketHandle``."""
        self._sink.close(_UNSUPPORTED_DATA, "events must be JSON text of at most 15 MiB")

    def detach(self, reason: str, *, error: BridgeError | None = None, is_lost: bool = False) -> None:
        """See ``SocketHandle``."""
        self._reservation.release()
        self._agent.detach()
