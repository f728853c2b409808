"""The daemon: builds every room in order, and closes them in reverse.

ConfigError ◀── start ──▶ serving ──stop()──▶ draining (503, grace period) ──▶ closing (deadlines) ──▶ gone
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime

from bridge.api.gate import Gate
from bridge.api.keys import Keys
from bridge.api.listen import bind
from bridge.api.server import Server, new_app
from bridge.calls.registry import Registry
from bridge.config import Config
from bridge.context import CallContext
from bridge.engine.assistant import Assistant
from bridge.engine.local import Local, missing
from bridge.engine.parrot import Parrot
from bridge.engine.service import Engine
from bridge.errors import ConfigError
from bridge.log import get_logger
from bridge.recording.recorder import EveryCall, Recorder
from bridge.session.budget import KeepLimits
from bridge.session.fanout.backlog import Limits
from bridge.telephony.carrier import Carrier
from bridge.telephony.service import Telephony
from bridge.telephony.table import CARRIERS
from bridge.upstream.factory import UpstreamFactory
from bridge.webrtc.endpoint import Endpoint, media_host

__all__ = ["Daemon"]

_TOLD_SETTINGS = ("engine", "max_calls", "max_listeners_per_call", "call_limit_s", "peer_timeout_s")

_CLOSE_MARGIN_S = 10.0  # each room has its own deadline; this is for what nobody foresaw

_log = get_logger("daemon")


class Daemon:
    """One bridge. ``async with`` starts it; leaving the block drains it, within bounded time."""

    def __init__(self, config: Config, *, local: Local | None = None, carriers: Sequence[Carrier] = CARRIERS) -> None:
        """``local`` are models that are loaded already, and not this daemon's to close."""
        self._config = config
        self._carriers = carriers
        self._local = local
        self._stack = contextlib.AsyncExitStack()
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> "Daemon":
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self.registry.drain(self._config.drain_s)
            async with asyncio.timeout(self._config.close_deadline_s + _CLOSE_MARGIN_S):
                await self._stack.aclose()
        except Exception as error:  # a stop has no other way to go
            _log.error("daemon.close_failed", exc_info=error)
        _log.info("daemon.stopped")

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        config = self._config
        listening = bind(config.host, config.port)
        stack.callback(listening.close)
        self.port: int = listening.getsockname()[1]
        self.endpoint = Endpoint(
            media_host(config.host, config.advertise),
            _udp_port(config, self.port),
            advertise=config.advertise,
            connect_timeout_s=config.connect_timeout_s,
            peer_timeout_s=config.peer_timeout_s,
            close_deadline_s=config.close_deadline_s,
            queue_limit_s=int(config.outbound_queue_s),
        )
        dialler = UpstreamFactory(config, self.endpoint.runner, new_engine=lambda context: self._new_engine(context))
        self.registry = Registry(
            dialler.new_upstream,
            is_relayed=dialler.is_relayed,
            default_model=dialler.default_model,
            max_calls=config.max_calls,
            max_calls_per_key=config.calls_per_key,
            reserved_calls=config.calls_in_reserve,
            max_listeners_per_call=config.max_listeners_per_call,
            call_limit_s=config.call_limit_s,
            resume_grace_s=config.resume_grace_s,
            max_loop_lag_ms=config.max_loop_lag_ms,
            keep=KeepLimits(
                config.conversation_bytes, config.conversation_bytes_per_key, config.conversation_bytes_in_all
            ),
            limits=Limits(config.listener_backlog_bytes, config.listener_backlog_ms, config.replay_bytes),
        )
        self.registry.subscribe(dialler.lobby)
        if config.record_dir is not None:  # before the registry, so that it outlives the calls
            recorder = Recorder(config.record_dir, sound_format=config.record_format, watchers=self.registry.calls)
            self.registry.recorder = await stack.enter_async_context(recorder)
            if config.record_calls:
                self.registry.subscribe(EveryCall(recorder, self.registry.find))
        await stack.enter_async_context(self.endpoint)
        self._new_engine = await self._engine(stack)  # it takes seconds: settings are judged before
        keys = Keys(config.api_key, config.allow_origin)
        gate = Gate(config.max_pending, config.max_pending_per_address, config.trusted_proxies)
        telephony = Telephony(config, self.registry, keys, gate, carriers=self._carriers)
        self.telephony = await stack.enter_async_context(telephony)
        app = new_app(config, self.registry, self.endpoint, keys, dialler.lobby,
                      routes=telephony.routes, operations=telephony.operations)  # fmt: skip
        server = Server(app, listening, config, gate)
        await stack.enter_async_context(self._tasks)  # behind all that may refuse to start: a group wraps what it sees
        self._tasks.create_task(server.run())
        stack.callback(server.stop)
        await stack.enter_async_context(dialler)
        await stack.enter_async_context(self.registry)
        await server.wait_started()
        _log.info("daemon.serving", url=self.url, udp_port=self.endpoint.port,
                  media_addresses=self.endpoint.addresses, upstream=_shown(config.upstream),
                  engine=self.engine, is_open=not config.api_key)  # fmt: skip

    async def _engine(self, stack: contextlib.AsyncExitStack) -> Callable[[CallContext], Engine]:
        """What makes a conversation's engine; the models that it needs are loaded when this returns."""
        config = self._config
        if "local" not in (config.upstream, *config.upstream_fallback, *(u.url for u in config.upstreams.values())):
            self.engine = "unused"
            return lambda context: Engine(Parrot(), context)
        lacking = [] if config.engine == "parrot" else missing()
        if lacking and config.engine == "local":
            advice = "pip install '.[local]'"
            raise ConfigError(f"engine: local needs {', '.join(lacking)}: {advice}", param="engine")
        if lacking or config.engine == "parrot":
            self.engine = "parrot"
            return lambda context: Engine(Parrot(), context)
        self.engine = "local"
        local = self._local
        if local is None:
            local = await stack.enter_async_context(Local(seed=config.engine_seed, whisper=config.engine_whisper))
        return lambda context: Engine(Assistant(local, _Surroundings(config, self.registry)), context)

    @property
    def url(self) -> str:
        """Where the console is."""
        config = self._config
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.host, config.host)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{'https' if config.tls_cert else 'http'}://{host}:{self.port}/"


class _Surroundings:
    """What the engine can tell of the bridge that it runs in."""

    def __init__(self, config: Config, registry: Registry) -> None:
        self._config = config
        self._registry = registry

    def now(self) -> datetime:
        """The local time."""
        return datetime.now().astimezone()

    def calls(self) -> int:
        """How many are running."""
        return len(self._registry.sessions)

    def listeners(self) -> int:
        """How many sockets listen to them."""
        return sum(session.attached for session in self._registry.sessions)

    def settings(self) -> dict[str, str]:
        """Those that every caller may know."""
        return {name: str(getattr(self._config, name)) for name in _TOLD_SETTINGS}


def _shown(upstream: str) -> str:
    """Without a query, which may hold anything."""
    return upstream.partition("?")[0]


def _udp_port(config: Config, tcp_port: int) -> int:
    """The number of the TCP port, unless told otherwise; where that one was picked, so is this."""
    if config.udp_port is not None:
        return config.udp_port
    return tcp_port if config.port else 0
