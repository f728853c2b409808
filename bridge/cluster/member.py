"""This process as a member of a cluster: what it shares, which nodes it knows, and what it answers about that.

``async with`` joins the cluster. Leaving says goodbye, so that the others do not wait until they miss this node.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlencode, urlsplit
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct
from prometheus_client.core import Metric
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bridge.api.operation import Operation
from bridge.calls.incoming import WaitingCalls
from bridge.calls.keys import API_KEY_ID, Grant, KeyPurpose
from bridge.calls.moving import MovingCall
from bridge.calls.quotas import Reservation
from bridge.calls.registry import CallLimits, Registry
from bridge.calls.service import CallService
from bridge.calls.shared import KeyLimits, SharedParts
from bridge.cluster.carriers import FoundCalls
from bridge.cluster.ended import RedisEndedCalls
from bridge.cluster.events import RedisEventBus
from bridge.cluster.figures import read_calls
from bridge.cluster.keys import RedisKeyStore
from bridge.cluster.link import NodeLink
from bridge.cluster.metrics import cluster_families
from bridge.cluster.nodes import Node, Nodes, new_node_id
from bridge.cluster.notes_store import NotesStore
from bridge.cluster.ownership import Owner
from bridge.cluster.proof import PROOF, Origin, Proofs
from bridge.cluster.quotas import LEASE_S, RedisKeyAllowance, RedisKeyQuota, RedisQuotas
from bridge.cluster.routing import CallRouter
from bridge.cluster.sockets import LINK_TIMEOUT_S, NodeSockets
from bridge.cluster.store import SharedStore
from bridge.config import ClusterSettings
from bridge.errors import Forbidden
from bridge.log import get_logger
from bridge.outgoing import HTTPError, new_client
from bridge.wire.stats import CallStats, Transport

__all__ = ["OPERATIONS", "ClusterMember", "NodeList"]

_log = get_logger("cluster")

_NODES = "/v1/nodes"
_OWN_CALLS = "/cluster/calls"
_LIST_S = 2.0
_BEATS_A_LEASE = 3


class NodeList(Struct, frozen=True, kw_only=True):
    """The nodes of the cluster that live, as this one knows them; ``is_up`` says whether Redis answers it."""

    object: str = "list"
    data: list[Node]
    is_up: bool


OPERATIONS = [
    Operation(method="get", path=_NODES, summary="The nodes of the cluster; needs an API key.", response=NodeList)
]
"""The operations of a cluster, for the description of the API."""


class ClusterMember:
    """A process as a member of a cluster.

    It is made of settings, so that settings and addresses are tried before anything is started.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        url: str,
        limits: CallLimits,
        of_keys: KeyLimits,
        *,
        worker: int | None = None,
    ) -> None:
        """Takes the settings; ``url`` is the address at which other nodes reach this one.

        ``worker`` is its number among the workers of its machine, if it is one.
        """
        assert settings.redis_url is not None, "there is no cluster without"
        assert settings.cluster_secret is not None, "checked with the settings"
        secret = settings.cluster_secret
        self.store = SharedStore(settings.redis_url, settings.cluster_name, timeout_s=settings.redis_timeout_s)
        node_id = new_node_id()
        self._proofs = Proofs(secret, node_id, lambda: self.store.now_ms)
        self.nodes = Nodes(self.store, node_id, url, self._proofs, worker)
        self.nodes.on_beat.append(self._renew)
        self._quotas = RedisQuotas.of(self.store, self.nodes.id, calls=of_keys.calls, listeners=of_keys.listeners)
        self._events = RedisEventBus(self.store, self.nodes.id, limits.backlog)
        self.parts = SharedParts(
            keys=RedisKeyStore(self.store, secret),
            quotas=self._quotas,
            page_keys=RedisKeyAllowance(self.store, of_keys.page_keys, secret),
            ended=RedisEndedCalls(self.store, limits.ended_calls, limits.ended_calls_age_s),
            events=self._events,
            new_call_id=self.nodes.new_call_id,
            remote_calls=self,
            carrier_calls=self,
        )
        """The shared parts that calls get in place of those that a process has by itself."""
        self._client = new_client(LINK_TIMEOUT_S, trust_env=False)
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []
        self._beats = 0
        self._carrier_calls: FoundCalls | None = None

    async def __aenter__(self) -> "ClusterMember":
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.store)
            await stack.enter_async_context(self._client)
            await stack.enter_async_context(self._tasks)
            await self.nodes.say()  # this also shows first whether there is a Redis
            self._running = [
                self._tasks.create_task(self.nodes.beat()),
                self._tasks.create_task(self._events.follow()),
            ]
            self._stack = stack.pop_all()
        _log.info("cluster.joined", node=self.nodes.id, nodes=len(self.nodes.alive), is_up=self.store.is_up)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._running:
            task.cancel()
        await self.settle()
        await self.nodes.leave()
        await self._stack.aclose()

    async def settle(self) -> None:
        """Tells Redis all that is known here, within two seconds.

        Whoever finds this node gone takes its calls over as they stand in Redis. So this comes before the node goes.
        """
        if self.store.is_up:
            await self.store.settle()

    def _renew(self) -> None:
        """Renews the counts at times, because they are leases. Each is renewed several times before it is over."""
        self._beats += 1
        if self._beats % int(LEASE_S / _BEATS_A_LEASE) == 0:
            for quota in (self._quotas.calls, self._quotas.listeners, self._quotas.agents):
                assert isinstance(quota, RedisKeyQuota)
                quota.renew()

    # What is served

    def middleware(
        self,
        registry: Registry,
        calls: CallService,
        admit: Callable[[Headers], Awaitable[object]],
        trust: Callable[[str], None],
    ) -> Middleware:
        """Makes the middleware in front of all endpoints.

        ``admit`` raises if a request's key opens nothing. ``trust`` is told the address of each node that sends
        requests, because many clients may be behind it.
        """
        self.nodes.serve(registry.admission)
        notes_store = NotesStore(self.store, self.nodes.id, registry)
        self.nodes.on_beat += [notes_store.beat, lambda: _trust_all(self.nodes.others, trust)]
        self.nodes.on_late.append(notes_store.write_all)
        self._events.subscribe(notes_store)
        quota = self._quotas.calls
        assert isinstance(quota, RedisKeyQuota)
        here = _Here(registry, calls.incoming.waiting, notes_store, quota.hold)
        sockets = NodeSockets(self._proofs)
        self._carrier_calls = FoundCalls(notes_store.carrier_ids, self.nodes, here, registry, sockets)
        return Middleware(
            NodeLink,
            router=CallRouter(self.nodes, here, admit),
            proofs=self._proofs,
            sockets=sockets,
            client=self._client,
            trust=trust,
        )

    def routes(self, calls: CallService, admit: Callable[[Request], Awaitable[object]]) -> list[BaseRoute]:
        """Returns the routes: ``GET /v1/nodes`` for operators, and one that only nodes may use."""

        async def list_nodes(request: Request) -> Response:
            await admit(request)
            nodes = sorted(self.nodes.alive or [self.nodes.itself], key=lambda node: node.started_at)
            shown = [self.nodes.itself if node.id == self.nodes.id else node for node in nodes]
            return _json(NodeList(data=shown, is_up=self.store.is_up))

        async def own_calls(request: Request) -> Response:
            await self.admit_node(request)
            key_id, query = (request.query_params.get(name, "") for name in ("key_id", "q"))
            purpose = KeyPurpose.API if key_id == API_KEY_ID else KeyPurpose.CLIENT
            found = await calls.list_calls(Grant(key_id=key_id, purpose=purpose), query, is_here=True)
            return _json({"data": found})

        return [Route(_NODES, list_nodes, methods=["GET"]), Route(_OWN_CALLS, own_calls, methods=["GET"])]

    @staticmethod
    async def admit_node(request: Request) -> None:
        """Raises ``Forbidden`` if the request does not come from a node of the cluster."""
        if "bridge.node" not in request.scope:
            raise Forbidden("This endpoint is for nodes of the cluster.")

    @property
    def operations(self) -> list[Operation]:
        """The operations of ``routes`` that are described."""
        return OPERATIONS

    async def complaint(self) -> str | None:
        """Returns what is wrong with Redis, for ``/readyz``; None if nothing is."""
        return self.store.complaint

    def families(self) -> Iterable[Metric]:
        """Yields the metrics of the cluster, for ``/metrics``."""
        store = self.store
        return cluster_families(
            nodes=len(self.nodes.alive), is_up=store.is_up, asked=store.asked, failures=store.failures
        )

    # CarrierCallFinder

    async def find_carrier_call(self, carrier: Transport, carrier_call: str) -> MovingCall | None:
        """Returns the carrier's call with this id; see ``CarrierCallFinder``."""
        assert self._carrier_calls is not None, "requests come after the middleware"
        return await self._carrier_calls.find_carrier_call(carrier, carrier_call)

    async def has_heard_of(self, carrier: Transport, carrier_call: str) -> bool:
        """Returns whether the call is known, even if it is over; see ``CarrierCallFinder``."""
        assert self._carrier_calls is not None, "requests come after the middleware"
        return await self._carrier_calls.has_heard_of(carrier, carrier_call)

    # RemoteCalls

    async def list_calls(self, key_id: str, query: str) -> list[CallStats]:
        """Returns the calls of all other nodes that answer in time; see ``RemoteCalls``."""
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(self._ask_calls(node, key_id, query)) for node in self.nodes.others]
        return [call for task in asking for call in task.result()]

    async def _ask_calls(self, node: Node, key_id: str, query: str) -> list[CallStats]:
        target = f"{_OWN_CALLS}?{urlencode({'key_id': key_id, 'q': query})}"
        told = await self.ask(node.id, node.url, target)
        try:
            return [] if told is None else read_calls(told)
        except msgspec.MsgspecError as error:
            _log.warning("cluster.node_unreachable", node=node.id, reason=type(error).__name__)
            return []

    async def ask(self, node_id: str, url: str, target: str) -> bytes | None:
        """Returns what the node at ``url`` answers to GET ``target``; None if it does not answer within 2 s with 200.

        The request is signed as one of a node.
        """
        proof = self._proofs.sign("GET", target, Origin("127.0.0.1", 0, "http", "localhost"), to=node_id)
        try:
            async with asyncio.timeout(_LIST_S):
                answer = await self._client.get(f"{url}{target}", headers={PROOF: proof})
            if answer.status_code == 200:
                return answer.content
            reason = f"status {answer.status_code}"
        except (HTTPError, TimeoutError) as error:
            reason = type(error).__name__
        _log.warning("cluster.node_unreachable", node=node_id, reason=reason)
        return None


class _Here:
    """The calls of a registry, and those that it may take over, in the form that the router needs."""

    def __init__(
        self,
        registry: Registry,
        waiting: WaitingCalls,
        notes_store: NotesStore,
        hold: Callable[[str, Reservation], None],
    ) -> None:
        self._registry = registry
        self._waiting = waiting
        self._notes_store = notes_store
        self._hold = hold
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.owner = notes_store.owner
        self.is_taking = notes_store.is_taking

    def has(self, call_id: str) -> bool:
        """Returns whether the call runs here; see ``LocalCalls``."""
        return self._registry.has(call_id) or self._waiting.find(call_id) is not None

    @property
    def is_full(self) -> bool:
        """Whether one more call would be refused; see ``LocalCalls``."""
        admission = self._registry.admission
        return admission.is_draining or admission.is_full or admission.lag.is_too_late

    async def take_over(self, call_id: str, seen: Owner) -> bool:
        """Goes on with a call of a dead node; see ``LocalCalls``."""
        async with self._locks.setdefault(call_id, asyncio.Lock()):  # if several ask for it, one of them takes it
            return self._registry.has(call_id) or await self._take_over(call_id, seen)

    async def _take_over(self, call_id: str, seen: Owner) -> bool:
        reservation = self._registry.admission.reserve()
        try:
            notes = await self._notes_store.take_over(call_id, seen)
        except BaseException:
            reservation.release()
            raise
        if notes is None:
            reservation.release()
            return False
        self._hold(notes.key_id, reservation)
        self._registry.adopt(notes, reservation)
        return True


def _trust_all(nodes: Iterable[Node], trust: Callable[[str], None]) -> None:
    """Trusts nodes at the addresses that they have signed, before the first request comes from there."""
    for node in nodes:
        trust(urlsplit(node.url).hostname or "")


def _json(body: object) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
