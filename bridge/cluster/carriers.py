"""Telephone calls whose node is another one or dead: a carrier that connects a call again finds it by its own id.

Theory of operation. Redis has beside each telephone call which call the carrier's id stands for, and with which tokens
the carrier has come. Any node looks there when a carrier starts a call that it does not know. If the call's node
lives, the connection is passed on to it, message by message, and is judged there. If it is dead or has let the call go,
the node that was asked takes the call over, and the connection is the call's new leg. A node that is full or stops
passes the connection on to the node that has most room, which takes the call over.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus, WebSocketException

from bridge.api.socket import SocketSink
from bridge.calls.decisions import carrier_call
from bridge.calls.handles import CarrierCall
from bridge.calls.moving import CarrierConnection, Receive, is_one_of_digests
from bridge.calls.notes import CallNotes
from bridge.calls.registry import Registry
from bridge.cluster.nodes import Node, Nodes
from bridge.cluster.ownership import Owner
from bridge.cluster.passing import pass_carrier_on
from bridge.cluster.sockets import NodeSockets, is_refused
from bridge.cluster.store import Command, Script, SharedStore
from bridge.errors import CannotCheck, Forbidden
from bridge.log import get_logger
from bridge.wire.stats import Transport

__all__ = ["CarrierIds", "FoundCalls", "OwnCalls"]

_log = get_logger("cluster")


_OVER = b""
_OVER_LIVES_MS = 60_000  # carriers ask what is next long before that

# ARGV: what was written, what stands for a call that is over, for how long. Another call may have the id by now.
_FORGET = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 0
""")


class _Known(Struct, frozen=True):
    """The call that a carrier's id stands for, and the digests of the tokens with which the carrier has come."""

    call_id: str
    token_digests: tuple[str, ...] = ()


_decoder = msgspec.json.Decoder(_Known)


class CarrierIds:
    """What the carriers' ids of calls stand for, in Redis. Only calls that are proved are there."""

    def __init__(self, store: SharedStore, lives_ms: int) -> None:
        self._store = store
        self._lives_ms = lives_ms
        self._written: dict[str, tuple[str, bytes]] = {}

    def commands(self, notes: CallNotes) -> Iterator[Command]:
        """Yields the command that notes a running call, or keeps its note; nothing if it is no telephone call."""
        if notes.carrier_call:
            place = self._place(notes.transport, notes.carrier_call)
            known = msgspec.json.encode(_Known(notes.call_id, notes.token_digests))
            self._written[notes.call_id] = place, known
            yield "SET", place, known, "PX", self._lives_ms

    def forget(self, call_id: str, *, is_over: bool) -> Iterator[Command]:
        """Yields the command that notes that a call ``is_over``; nothing if it goes on elsewhere."""
        written = self._written.pop(call_id, None)
        if written is not None and is_over:
            yield _FORGET.on(*written, _OVER, _OVER_LIVES_MS)

    async def find(self, carrier: Transport, call: str) -> _Known | None:
        """Returns the call that the id stands for; None if it stands for none. Raises ``CannotCheck``."""
        found = await self._store.command("GET", self._place(carrier, call))
        return _decoder.decode(found) if found else None

    async def has(self, carrier: Transport, call: str) -> bool:
        """Returns whether the id stands for a call, or did until lately. Raises ``CannotCheck``."""
        return await self._store.command("GET", self._place(carrier, call)) is not None

    def _place(self, carrier: Transport, call: str) -> str:
        return self._store.name("carrier", str(carrier), call)


class OwnCalls(Protocol):
    """The calls of this node, and how it takes one over."""

    def has(self, call_id: str) -> bool:
        """Returns whether the call runs here, or waits here to be accepted."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether this node takes no call over, because it has too many or stops."""
        ...

    def is_taking(self, call_id: str) -> bool:
        """Returns whether this node has tried to take the call over, and does not know yet whether it has it."""
        ...

    async def owner(self, call_id: str) -> Owner | None:
        """Returns the owner of the call; None if nobody has it. Raises ``CannotCheck``."""
        ...

    async def take_over(self, call_id: str, seen: Owner) -> bool:
        """Goes on with the call; returns False if another node was first. Raises ``BridgeError``."""
        ...


class FoundCalls:
    """The ``CarrierCallFinder`` of a cluster."""

    def __init__(self, ids: CarrierIds, nodes: Nodes, own: OwnCalls, registry: Registry, sockets: NodeSockets) -> None:
        self._ids = ids
        self._nodes = nodes
        self._own = own
        self._registry = registry
        self._sockets = sockets

    async def find_carrier_call(self, carrier: Transport, call: str) -> "_FoundCall | None":
        """Returns the call; see ``CarrierCallFinder``."""
        known = await self._ids.find(carrier, call)
        if known is None:
            return None
        if self._own.has(known.call_id):
            return _FoundCall(self, known, None, None, is_running=True)
        owner = await self._own.owner(known.call_id)
        is_own = owner is not None and owner.node_id == self._nodes.id
        if owner is None or (is_own and not self._own.is_taking(known.call_id)):
            return None
        node = self._nodes.find(owner.node_id)
        if node is None and not is_own and self._own.is_full:
            return _FoundCall(self, known, self._nodes.least_loaded, owner, is_running=False)
        return _FoundCall(self, known, node, owner, is_running=node is not None)

    async def has_heard_of(self, carrier: Transport, call: str) -> bool:
        """Returns whether the call is known, even if it is over; see ``CarrierCallFinder``."""
        return await self._ids.has(carrier, call)

    async def take_over(self, call_id: str, seen: Owner | None, *, comes_back: bool) -> CarrierCall | None:
        """Goes on with the call here; see ``MovingCall``."""
        if seen is not None and not await self._own.take_over(call_id, seen):
            return None
        if not self._registry.has(call_id):
            return None
        session = self._registry.find(call_id)
        is_free = session.legs.current is None and session.lifetime.is_open
        return carrier_call(session, comes_back=comes_back) if is_free else None

    async def connect(self, node: Node, scope: Mapping[str, Any]) -> ClientConnection | None:
        """Opens the carrier's connection at the call's node; None if nobody listens there. Raises ``BridgeError``."""
        try:
            return await self._sockets.open(node, scope)
        except InvalidStatus as refused:
            status = refused.response.status_code
            raise Forbidden(f"The node that has this call refused with status {status}.", code="call_taken") from None
        except (OSError, TimeoutError, WebSocketException) as error:
            if is_refused(error):
                self._nodes.suspect(node.id)
                return None
            _log.warning("cluster.node_unreachable", node=node.id, reason=type(error).__name__)
            raise CannotCheck("The node that has this call is not answering right now.") from None


class _FoundCall:
    """The ``MovingCall`` of a cluster; ``node`` is the other node that has the call, or is to take it over."""

    def __init__(
        self, calls: FoundCalls, known: _Known, node: Node | None, owner: Owner | None, *, is_running: bool
    ) -> None:
        self.is_running = is_running
        self._calls = calls
        self._known = known
        self._node = node
        self._owner = owner
        self._there: ClientConnection | None = None
        self._sink: SocketSink | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether another node has the call, or is to take it over; see ``MovingCall``."""
        return self._node is not None

    def is_opened_by(self, token: str) -> bool:
        """Whether the carrier has come with this token before; see ``MovingCall``."""
        return is_one_of_digests(token, self._known.token_digests)

    async def take_over(self, *, comes_back: bool) -> CarrierCall | None:
        """Goes on with the call here; see ``MovingCall``."""
        return await self._calls.take_over(self._known.call_id, self._owner, comes_back=comes_back)

    async def reach(self, scope: Mapping[str, Any]) -> bool:
        """Connects to the other node; see ``MovingCall``."""
        assert self._node is not None, "there is another node"
        self._there = await self._calls.connect(self._node, scope)
        self._sink = SocketSink.of(scope)
        return self._there is not None

    async def pass_on(
        self,
        messages: Sequence[str | bytes],
        receive: Receive,
        connection: CarrierConnection,
        *,
        judged_within_s: float,
    ) -> None:
        """Passes the connection on, until one side ends it; see ``MovingCall``."""
        assert self._there is not None, "it was reached"
        assert self._sink is not None, "it was reached"
        sink = self._sink
        await pass_carrier_on(
            self._there,
            messages,
            receive,
            connection,
            judged_within_s=judged_within_s,
            on_judged=lambda: sink.let_in(),
        )
