"""Settings that are read again while calls run: judged as a whole first, then put to use, or not at all."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from bridge.api.tls import new_tls_context
from bridge.config import Config
from bridge.config.reload import Changes, changed
from bridge.errors import ConfigError
from bridge.log import get_logger
from bridge.upstream.plan import UpstreamPlan

__all__ = ["Reloader", "Renewal"]

_log = get_logger("config")

_READ_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What is to be put to use, checked: none of it can fail any more."""

    config: Config
    """With the old values of what needs a restart."""
    plan: UpstreamPlan
    certificate: ssl.SSLContext | None
    """None if HTTPS is not served here."""


class Reloader:
    """Reads with ``read``, which raises ``ConfigError`` and may take its time, and hands what is good to ``apply``."""

    def __init__(
        self, config: Config, read: Callable[[], Config], apply: Callable[[Renewal], None], *, has_engine: bool
    ) -> None:
        """``has_engine``: the embedded engine is there, so that it can be told to answer."""
        self._config = config
        self._read = read
        self._apply = apply
        self._has_engine = has_engine
        self._lock = asyncio.Lock()
        self._reading: asyncio.Future[tuple[Renewal, Changes]] | None = None

    async def reload(self) -> Changes:
        """What has changed. Raises ``ConfigError``, and then nothing has; both are logged."""
        async with self._lock:
            try:
                renewal, changes = await self._prepared()
            except ConfigError as error:
                _log.error("config.reload_refused", problem=error.message, setting=error.param)
                raise
            self._config = renewal.config
            self._apply(renewal)
            _log.info(
                "config.reloaded",
                live=list(changes.live),
                new_calls=list(changes.new_calls),
                restart=list(changes.restart),
            )
            if changes.restart:
                _log.warning("config.restart_needed", settings=list(changes.restart))
            return changes

    async def _prepared(self) -> tuple[Renewal, Changes]:
        """In a thread, because files are read; a disk that does not answer keeps one thread, and no second."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().run_in_executor(None, self._prepare)
        try:
            async with asyncio.timeout(_READ_S):
                return await asyncio.shield(self._reading)
        except TimeoutError:
            message = f"config: the files could not be read within {_READ_S:g} s; nothing has changed"
            raise ConfigError(message, param="config") from None

    def _prepare(self) -> tuple[Renewal, Changes]:
        read = self._read()
        needs_engine = read.upstream.uses_engine and not self._has_engine
        config, changes = changed(self._config, read, read.upstream.__struct_fields__ if needs_engine else ())
        for name, reason in config.faults():  # of new settings beside those that need a restart
            raise ConfigError(f"{name}: {reason} (until a restart)", param=name)
        server = config.server
        certificate = None
        if server.tls_cert is not None and server.tls_key is not None:
            certificate = new_tls_context(server.tls_cert, server.tls_key)
        return Renewal(config=config, plan=UpstreamPlan.of(config.upstream), certificate=certificate), changes
