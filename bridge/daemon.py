"""The daemon: builds every room in order, and closes them in reverse.

ConfigError ◀── start ──▶ serving ──stop()──▶ draining (503, grace period) ──▶ closing (deadlines) ──▶ gone
"""

import asyncio
import contextlib

from bridge.config import Config
from bridge.front.keys import Keys
from bridge.front.listen import bind
from bridge.front.server import Server, new_app
from bridge.front.telephony import Telephony
from bridge.log import get_logger
from bridge.peer.endpoint import Endpoint
from bridge.session.hub import Limits
from bridge.session.registry import Registry
from bridge.upstream.engine.service import Engine

__all__ = ["Daemon"]

_log = get_logger("daemon")


class Daemon:
    """One bridge. ``async with`` starts it; leaving the block drains it, within bounded time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = contextlib.AsyncExitStack()
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> "Daemon":
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.registry.drain(self._config.drain_s)
        await self._stack.aclose()
        _log.info("daemon.stopped")

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        config = self._config
        listening = bind(config.host, config.port)
        stack.callback(listening.close)
        self.port: int = listening.getsockname()[1]
        self.endpoint = await stack.enter_async_context(
            Endpoint(
                config.host,
                _udp_port(config, self.port),
                advertise=config.advertise,
                connect_timeout_s=config.connect_timeout_s,
                peer_timeout_s=config.peer_timeout_s,
                close_deadline_s=config.close_deadline_s,
                queue_limit_s=int(config.outbound_queue_s),
            )
        )
        self.registry = Registry(
            Engine,
            max_calls=config.max_calls,
            max_listeners_per_call=config.max_listeners_per_call,
            call_limit_s=config.call_limit_s,
            limits=Limits(config.listener_backlog_bytes, config.listener_backlog_ms, config.replay_bytes),
        )
        keys = Keys(config.api_key, config.allow_origin)
        self.telephony = await stack.enter_async_context(Telephony(config, self.registry, keys))
        app = new_app(config, self.registry, self.endpoint, keys, self.telephony)
        server = Server(app, listening, config)
        await stack.enter_async_context(self._tasks)  # behind all that may refuse to start: a group wraps what it sees
        self._tasks.create_task(server.run())
        stack.callback(server.stop)
        await stack.enter_async_context(self.registry)
        await server.wait_started()
        _log.info("daemon.serving", url=self.url, udp_port=self.endpoint.port, upstream=config.upstream,
                  is_open=not config.api_key)  # fmt: skip

    @property
    def url(self) -> str:
        """Where the console is."""
        config = self._config
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.host, config.host)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{'https' if config.tls_cert else 'http'}://{host}:{self.port}/"


def _udp_port(config: Config, tcp_port: int) -> int:
    """The number of the TCP port, unless told otherwise; where that one was picked, so is this."""
    if config.udp_port is not None:
        return config.udp_port
    return tcp_port if config.port else 0
