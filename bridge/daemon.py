"""The daemon: builds every room in order, and closes them in reverse.

ConfigError ◀── start ──▶ serving ──stop()──▶ draining (503, grace period) ──▶ closing (deadlines) ──▶ gone
"""

import asyncio
import contextlib
import functools
import importlib.util
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.requests import Request

from bridge.api.gate import Gate
from bridge.api.ice_servers import TurnServers
from bridge.api.keys import Keys
from bridge.api.proxies import TrustedProxies
from bridge.api.reload import OPERATIONS as RELOAD_OPERATIONS
from bridge.api.reload import reload_route
from bridge.api.server import Server, new_app
from bridge.api.tls import ServedCertificate, new_tls_context
from bridge.calls.keys import KeyStore, LocalKeyStore
from bridge.calls.registry import CallLimits, Registry
from bridge.calls.service import CallService
from bridge.calls.shared import KeyLimits, SharedParts
from bridge.config import Config, EngineSettings, ObserveSettings, is_loopback
from bridge.config.addresses import is_address
from bridge.config.reload import Changes
from bridge.context import CallContext
from bridge.engine.interruption import TurnTaking
from bridge.engine.local import Local
from bridge.engine.minds import EngineKind, engine_kind, new_mind_factory
from bridge.engine.parrot import Parrot
from bridge.engine.service import Engine
from bridge.engine.turn_model import TurnModel
from bridge.errors import ConfigError
from bridge.handover import Handover, Predecessor
from bridge.log import get_logger
from bridge.observe.observer import OPERATIONS, Observer
from bridge.observe.worker_pages import WorkerLink
from bridge.players.players import Players
from bridge.ports import Ports
from bridge.recording.archive import Archive, recipients_of
from bridge.recording.recorder import EveryCall
from bridge.recording.uploads import new_store
from bridge.reload import Reloader, Rooms, backlog_limits, call_limits
from bridge.telephony.carrier import Carrier
from bridge.telephony.service import Telephony
from bridge.telephony.table import CARRIERS
from bridge.upstream.agent import AgentQueue
from bridge.upstream.factory import UpstreamFactory
from bridge.upstream.plan import UpstreamPlan
from bridge.webrtc.endpoint import Endpoint, media_host
from bridge.wire.stats import DaemonStats
from bridge.worker_group import WorkerGroup

if TYPE_CHECKING:
    from bridge.cluster.member import ClusterMember

__all__ = ["Daemon", "check"]

_SETTLE_S = 15.0  # longer than a connection may keep us waiting for a request
_CLOSE_MARGIN_S = 10.0  # each room has its own deadline; this is for delays that nobody foresaw

_log = get_logger("daemon")


def check(config: Config) -> list[ConfigError]:
    """Raises ``ConfigError`` for what a start would refuse although the settings by themselves are right.

    It looks at profiles, at the addresses of servers, and at the engine.
    """
    faults = []
    judges: list[Callable[[], object]] = [
        lambda: UpstreamPlan.of(config.upstream),
        lambda: engine_kind([*_stacks(config).values()]),
        lambda: recipients_of(config.recording),
    ]
    if (url := config.recording.record_upload) is not None:
        judges.append(lambda: new_store(url))
    for judge in judges:
        try:
            judge()
        except ConfigError as fault:
            faults.append(fault)
    return faults


class Daemon:
    """One bridge. ``async with`` starts it; at the end of the block it drains, within bounded time."""

    def __init__(
        self,
        config: Config,
        *,
        local: Local | None = None,
        carriers: Sequence[Carrier[Any]] = CARRIERS,
        log_lines_dropped: Callable[[], int] = lambda: 0,
        read_settings: Callable[[], Config] | None = None,
        ports: Ports | None = None,
        predecessor: Predecessor | None = None,
        worker_group: WorkerGroup | None = None,
    ) -> None:
        """Makes a daemon that is not started yet.

        ``local`` are models that are loaded already; somebody else closes them. ``log_lines_dropped`` returns how many
        lines of the log were dropped. ``read_settings`` reads the settings once more, and raises ``ConfigError``;
        without it the settings stay as they are. ``ports`` has the sockets that were given. Some of them may be those
        of ``predecessor``, the process that this one replaces. With ``worker_group`` it is one of a machine's workers.
        """
        self._read_settings = read_settings or (lambda: config)
        self._log_lines_dropped = log_lines_dropped
        self._config = config
        self._carriers = carriers
        self._local = local
        self._ports = ports or Ports()
        self._predecessor = predecessor
        self._worker_group = worker_group
        self._stack = contextlib.AsyncExitStack()
        self._tasks = asyncio.TaskGroup()
        self._is_open = False
        self._cluster: ClusterMember | None = None

    async def __aenter__(self) -> "Daemon":
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        self._is_open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            if self._worker_group is not None and not self._worker_group.is_leaving and self._worker_group.others:
                self.telephony.stop_listening()
                self._own_handover.stop_accepting()  # whoever connects from now on reaches a worker that goes on
            member = self._cluster
            may_move = (lambda: False) if member is None else (lambda: member.nodes.least_loaded is not None)
            await self.registry.drain(self.drain_s, may_move=may_move)
            self._is_open = False
            if member is not None:
                await member.settle()  # before anybody can find this node gone
            async with asyncio.timeout(self._config.server.close_deadline_s + _CLOSE_MARGIN_S):
                await self._stack.aclose()
        except Exception as error:  # a stop goes on in any case
            _log.error("daemon.close_failed", exc_info=error)
        _log.info("daemon.stopped")

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        config = self._config
        server, media, listeners = config.server, config.media, config.listeners
        listening = self._ports.tcp(server.host, server.port)
        stack.callback(listening.close)
        self.port: int = listening.getsockname()[1]
        for_metrics = _bound(config.observe, self._ports, stack)
        self.metrics_port: int | None = None if for_metrics is None else for_metrics.getsockname()[1]
        """The port that serves only metrics; None if they have none of their own."""
        takes_media = media.ice_tcp_on_port and not is_loopback(server.host)
        self.endpoint = Endpoint(
            media_host(server.host, media.advertise),
            _udp_port(config, self.port),
            tcp_port=media.ice_tcp_port,
            shared_tcp_port=self.port if takes_media else None,
            advertise=media.advertise,
            connect_timeout_s=media.connect_timeout_s,
            peer_timeout_s=media.peer_timeout_s,
            close_deadline_s=server.close_deadline_s,
            queue_limit_s=int(media.outbound_queue_s),
            ports=self._ports,
            is_held=self._predecessor is not None,
        )
        dialler = UpstreamFactory(
            config.upstream,
            self.endpoint.runner,
            new_engine=lambda context, name: self._new_engine(context, name),
            agent_limits=backlog_limits(config),
            on_change=lambda event: self.registry.events.publish(event),
        )
        limits = call_limits(config)
        of_keys = KeyLimits(
            calls=config.calls.calls_per_key,
            listeners=listeners.max_listeners_per_key,
            page_keys=config.access.page_keys_limit,
        )
        of_node = None if self._worker_group is None else _bound_for_nodes(config, self._ports, stack)
        self.node_url = _node_url(config, self.port, of_node)
        """The URL at which other nodes of the cluster reach this process."""
        member = self._cluster = _member(config, self.node_url, limits, of_keys, self._worker_group)
        parts = SharedParts.of_process(limits, of_keys) if member is None else member.parts
        self.registry = Registry(
            dialler.new_upstream,
            limits,
            is_relayed=dialler.is_relayed,
            is_translated=dialler.is_translated,
            default_model=dialler.default_model,
            ended=parts.ended,
            events=parts.events,
            new_call_id=parts.new_call_id,
        )
        self.registry.events.subscribe(dialler.agents)
        keys = Keys(config.access.api_key, config.access.allow_origin, parts.keys)

        def admit_operator(request: Request) -> Awaitable[object]:
            return keys.admit_admin(request.headers)

        observer = Observer(
            config.observe,
            self.registry,
            self.stats,
            carriers=[carrier.name for carrier in self._carriers],
            record_dir=config.recording.record_dir,
            probes={"upstream": dialler.complaint, **({} if member is None else {"redis": member.complaint})},
            admit=admit_operator,
            workers=_worker_link(self._worker_group, member),
        )
        self.observer = await stack.enter_async_context(observer)
        if member is not None:
            if self._worker_group is not None:
                member.nodes.is_leaving = self._worker_group.leaves_with
            observer.metrics.sources.append(member.families)
            await stack.enter_async_context(member)
        recording = config.recording
        archive: Archive | None = None
        if recording.record_dir is not None:  # before the registry, so that it outlives the calls
            archive = Archive(recording.record_dir, recording, self.registry.events.publish)
            await stack.enter_async_context(archive)
            observer.follow_recordings(archive.stats)
            if recording.record_calls:
                self.registry.events.subscribe(EveryCall(archive.recorder, self.registry.find))
        await stack.enter_async_context(self.endpoint)
        proxies = TrustedProxies(server.trusted_proxies)
        gate = Gate(server.max_pending, server.max_pending_per_address, proxies)
        self.players = await stack.enter_async_context(Players(self.endpoint))
        calls = CallService(
            self.registry,
            keys.store,
            parts.quotas,
            webrtc=self.endpoint,
            agents=dialler.agents,
            recorder=None if archive is None else archive.recorder,
            remote_calls=parts.remote_calls,
            carrier_calls=parts.carrier_calls,
            players=self.players,
            live_services=dialler,
        )
        telephony = Telephony(
            config.telephony,
            calls,
            keys,
            gate,
            carriers=self._carriers,
            of_carriers=config.carriers,
            queue_limit_s=int(media.outbound_queue_s),
            ports=self._ports,
        )
        self.telephony = await stack.enter_async_context(telephony)
        self._new_engine = await self._engine(stack)  # it takes seconds, so settings and ports are tried before
        certificate: ServedCertificate | None = None
        if server.tls_cert is not None and server.tls_key is not None:
            certificate = ServedCertificate(new_tls_context(server.tls_cert, server.tls_key))
        turn = TurnServers(config.turn)
        rooms = Rooms(
            turn=turn,
            keys=keys,
            page_keys=parts.page_keys,
            certificate=certificate,
            proxies=proxies,
            gate=gate,
            endpoint=self.endpoint,
            telephony=telephony,
            registry=self.registry,
            archive=archive,
            quotas=parts.quotas,
            upstreams=dialler,
        )
        self.reloader = Reloader(config, self._read_settings, rooms, has_local="local" in _stacks(config))
        """The settings that count now, and the rooms that they are given to."""
        link = [] if member is None else [member.middleware(self.registry, calls, keys.admit, gate.trust_node)]
        app = new_app(
            calls,
            keys,
            models=dialler.models,
            proxies=proxies,
            turn=turn,
            page_keys=parts.page_keys,
            routes=[
                *telephony.routes,
                *observer.routes,
                reload_route(admit_operator, self._reload_all),
                *([] if member is None else member.routes(calls, admit_operator)),
            ],
            operations=[
                *telephony.operations,
                *OPERATIONS,
                *RELOAD_OPERATIONS,
                *(() if member is None else member.operations),
            ],
            middleware=[*link, *observer.middleware],
        )
        self._ports.close_rest()
        new_media_line = self.endpoint.new_tcp_line if takes_media else None
        servers = [Server(app, listening, server, gate, certificate=certificate, new_media_line=new_media_line)]
        if for_metrics is not None:
            own_gate = Gate(server.max_pending, server.max_pending_per_address)
            servers.append(Server(observer.new_app(), for_metrics, server, own_gate))
        await self._take_over(parts.keys)
        self._own_handover = _OwnHandover(list(servers), self.endpoint, telephony, dialler.agents, parts.keys)
        if of_node is not None:  # not for the process that takes over: it has a node of its own
            of_nodes = Gate(server.max_pending, server.max_pending)
            of_tls = certificate if self.node_url.startswith("https:") else None
            servers.append(Server(app, of_node, server, of_nodes, certificate=of_tls))
        await stack.enter_async_context(self._tasks)  # after all that may refuse to start: a group wraps errors
        if self._predecessor is not None:
            following = self._tasks.create_task(self._follow(self._predecessor, parts.keys))
            stack.callback(following.cancel)
        for http in servers:
            self._tasks.create_task(http.run())
            stack.callback(http.stop)
        await stack.enter_async_context(dialler)
        await stack.enter_async_context(self.registry)
        await stack.enter_async_context(observer.load)
        await telephony.accept()
        for http in servers:
            await http.wait_started()
        part = "" if self._worker_group is None else str(self._worker_group.number)
        self.handover = Handover(server.host, self.port, self._ports, self._own_handover, part)
        await stack.enter_async_context(self.handover)
        _log.info("daemon.serving", url=self.url, udp_port=self.endpoint.port, ice_tcp_port=self.endpoint.tcp_port,
                  ice_tcp_on_port=takes_media,
                  media_addresses=self.endpoint.addresses, upstream=_shown(config.upstream.upstream),
                  engine=self.engine, is_open=not config.access.api_key)  # fmt: skip

    async def _take_over(self, keys: KeyStore) -> None:
        """Takes the sockets over from the old process. From now on this process alone reads them."""
        if self._predecessor is None:
            return
        taken = await self._predecessor.take_over(self._ports)
        if isinstance(keys, LocalKeyStore):  # other stores are shared already
            keys.adopt(taken.keys)
        self.endpoint.begin_reading(taken.lines)
        _log.info("daemon.taken_over", pid=self._predecessor.pid, ports=sorted(self._ports.opened))

    async def _follow(self, predecessor: Predecessor, keys: KeyStore) -> None:
        await predecessor.follow(keys.adopt if isinstance(keys, LocalKeyStore) else lambda key: None)
        _log.info("daemon.predecessor_gone", pid=predecessor.pid)

    async def settle(self) -> None:
        """Serves whoever is connected already, within bounds, and then drains, because another process has taken
        over.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                await self._own_handover.wait_idle()

    async def _engine(self, stack: contextlib.AsyncExitStack) -> Callable[[CallContext, str], Engine]:
        """Returns what makes the engine of a conversation by its upstream's name, with its models already loaded."""
        settings, stacks = self._config.engine, _stacks(self._config)
        self.engine = engine_kind([*stacks.values()])
        if self.engine is EngineKind.UNUSED:
            return lambda context, name: Engine(Parrot(), context)
        local = self._local if self.engine is EngineKind.LOCAL else None
        if self.engine is EngineKind.LOCAL and local is None:
            local = await stack.enter_async_context(
                Local(seed=settings.engine_seed, whisper=settings.engine_whisper, voice=settings.engine_voice)
            )
        bridge = _BridgeStatus(lambda: _told(self.reloader.config), self.registry)
        minds = {name: await new_mind_factory(each, local, bridge, stack) for name, each in stacks.items()}
        model = None
        if settings.engine_turn_model is not None:
            model = await stack.enter_async_context(TurnModel(settings.engine_turn_model))
        taking = TurnTaking(settings.engine_echo_guard, settings.engine_backchannels, model)
        measure = self.observer.metrics.measure_stage
        return lambda context, name: Engine(
            minds[name](), context, name, observe=functools.partial(measure, name), taking=taking
        )

    async def reload(self) -> Changes:
        """Reads the settings again, and puts into effect what can be. After a ``ConfigError`` nothing has changed."""
        return await self.reloader.reload()

    async def _reload_all(self) -> Changes:
        """Reloads, and has the other workers of this machine do the same."""
        changes = await self.reload()
        if self._worker_group is not None:
            self._worker_group.tell_reloaded()
        return changes

    @property
    def node_id(self) -> str:
        """The name of this process in its cluster; empty if it is by itself."""
        return "" if self._cluster is None else self._cluster.nodes.id

    def reload_soon(self, then: Callable[[], None] = lambda: None) -> None:
        """Reloads in a task of its own, and calls ``then`` at its end. If the settings are wrong, the log says so."""
        if self._is_open:
            self._tasks.create_task(self._reload_contained(then))

    async def _reload_contained(self, then: Callable[[], None]) -> None:
        try:
            await self.reload()
        except ConfigError:
            pass  # it has been logged
        except Exception as error:
            _log.error("config.reload_failed", exc_info=error)
        finally:
            then()

    @property
    def drain_s(self) -> float:
        """How long running calls may go on when the daemon stops, in seconds."""
        return self.reloader.config.server.drain_s

    def stats(self) -> DaemonStats:
        """Returns the figures of the process, without its calls."""
        registry = self.registry
        return DaemonStats(
            is_draining=registry.admission.is_draining,
            is_overloaded=registry.admission.lag.is_too_late,
            loop_lag_ms=registry.admission.lag.mean_ms,
            kept_bytes=registry.budgets.used_bytes,
            connections_refused=self.reloader.rooms.gate.refused,
            log_lines_dropped=self._log_lines_dropped(),
            endpoint=self.endpoint.stats(),
            telephony=self.telephony.stats(),
            targets=self.reloader.rooms.upstreams.stats(),
        )

    @property
    def url(self) -> str:
        """The URL of the console."""
        settings = self._config.server
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{'https' if settings.tls_cert else 'http'}://{host}:{self.port}/"


class _OwnHandover:
    """The ``ReplaceableProcess`` of this daemon: what it does when another process takes over."""

    def __init__(
        self, servers: Sequence[Server], endpoint: Endpoint, telephony: Telephony, agents: AgentQueue, keys: KeyStore
    ) -> None:
        self._servers = servers
        self._endpoint = endpoint
        self._telephony = telephony
        self._agents = agents
        self._minted = keys if isinstance(keys, LocalKeyStore) else LocalKeyStore()
        """The minted keys that no other process knows."""

    def leave(self) -> tuple[bytes, list[socket.socket]]:
        """Returns the keys, and the lines by which datagrams reach this process and older ones."""
        return self._minted.hand_over(), self._endpoint.new_lines()

    def give_way(self, ports: frozenset[str], tell_key: Callable[[bytes], None]) -> None:
        """Leaves the sockets alone, because the other process has them now."""
        self.stop_accepting()
        self._telephony.stop_listening()
        self._endpoint.give_way(reads_on="udp_port" not in ports)
        self._minted.tell_minted = tell_key
        self._agents.dismiss()

    def stop_accepting(self) -> None:
        """Leaves whoever connects from now on to other processes."""
        for server in self._servers:
            server.stop_accepting()

    async def wait_idle(self) -> None:
        """Returns as soon as nobody is connected who could ask for something new."""
        for server in self._servers:
            await server.wait_idle()


def _stacks(config: Config) -> dict[str, EngineSettings]:
    """Returns the settings of each engine that may answer calls, by its upstream's name; ``local`` is the usual one."""
    upstream = config.upstream
    stacks = {"local": config.engine} if upstream.uses_local else {}
    return stacks | {name: given.stages(config.engine) for name, given in upstream.cascades.items()}


class _BridgeStatus:
    """What the engine can say of the bridge that it runs in."""

    def __init__(self, settings: Callable[[], dict[str, str]], registry: Registry) -> None:
        self._settings = settings
        self._registry = registry

    def now(self) -> datetime:
        """Returns the local time."""
        return datetime.now().astimezone()

    def calls(self) -> int:
        """Returns the number of calls that are running."""
        return len(self._registry.sessions)

    def listeners(self) -> int:
        """Returns the number of sockets that listen to running calls."""
        return sum(session.audience.count for session in self._registry.sessions)

    def settings(self) -> dict[str, str]:
        """Returns the settings that every caller may know."""
        return self._settings()


def _told(config: Config) -> dict[str, str]:
    """Returns the settings that every caller may know."""
    told = {
        "engine": config.engine.engine,
        "max_calls": config.calls.max_calls,
        "max_listeners_per_call": config.listeners.max_listeners_per_call,
        "call_limit_s": config.calls.call_limit_s,
        "peer_timeout_s": config.media.peer_timeout_s,
    }
    return {name: str(value) for name, value in told.items()}


def _bound(settings: ObserveSettings, ports: Ports, stack: contextlib.AsyncExitStack) -> socket.socket | None:
    """Returns the listening socket of the metrics, if they have a port of their own."""
    if settings.metrics_port is None:
        return None
    listening = ports.tcp(settings.metrics_host, settings.metrics_port, setting="metrics_port")
    stack.callback(listening.close)
    return listening


def _bound_for_nodes(config: Config, ports: Ports, stack: contextlib.AsyncExitStack) -> socket.socket:
    """Returns the listening socket at which other nodes reach this worker, since ``port`` leads to any of them."""
    host, port = "127.0.0.1", 0
    if config.cluster.node_url is not None:
        parts = urlsplit(config.cluster.node_url)
        assert parts.hostname is not None, "checked with the settings"
        assert parts.port is not None, "checked with the settings"
        host = parts.hostname if is_address(parts.hostname) else config.server.host
        port = parts.port
    listening = ports.tcp(host, port, setting="node_url")
    stack.callback(listening.close)
    return listening


def _node_url(config: Config, port: int, of_node: socket.socket | None) -> str:
    """Returns the URL at which other nodes reach this process."""
    if config.cluster.node_url is not None:
        return config.cluster.node_url.rstrip("/")
    if of_node is not None:
        return f"http://127.0.0.1:{of_node.getsockname()[1]}"
    scheme = "https" if config.server.tls_cert else "http"
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    return f"{scheme}://{host}:{port}"


def _member(
    config: Config, url: str, limits: CallLimits, of_keys: KeyLimits, worker_group: WorkerGroup | None
) -> "ClusterMember | None":
    """Returns this process's part in a cluster.

    If the process is by itself, it is None, and nothing of the cluster is imported.
    """
    if config.cluster.redis_url is None:
        return None
    if importlib.util.find_spec("redis") is None:
        raise ConfigError("redis_url: needs redis-py: pip install 'bridge-realtime[cluster]'", param="redis_url")
    from bridge.cluster.member import ClusterMember

    return ClusterMember(
        config.cluster, url, limits, of_keys, worker=None if worker_group is None else worker_group.number
    )


def _worker_link(worker_group: WorkerGroup | None, member: "ClusterMember | None") -> WorkerLink | None:
    """Returns the way to the other workers of this machine; None if this process is no worker."""
    if worker_group is None or member is None:
        return None
    return WorkerLink(group=worker_group, ask=member.ask, admit=member.admit_node)


def _shown(upstream: str) -> str:
    """Returns the upstream's URL without its query, which may hold anything."""
    return upstream.partition("?")[0]


def _udp_port(config: Config, tcp_port: int) -> int:
    """Returns the UDP port: the one of the settings, else the number of the TCP port, or 0 if that one was picked."""
    if config.media.udp_port is not None:
        return config.media.udp_port
    return tcp_port if config.server.port else 0
