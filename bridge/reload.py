"""Reads the settings again while calls run: they are judged as a whole first, and then take effect, or none does."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from bridge.api.gate import Gate
from bridge.api.ice_servers import TurnServers
from bridge.api.keys import Keys
from bridge.api.proxies import TrustedProxies
from bridge.api.tls import ServedCertificate, new_tls_context
from bridge.calls.quotas import KeyAllowance, Quotas
from bridge.calls.registry import CallLimits, Registry
from bridge.config import Config
from bridge.config.reload import Changes, changed
from bridge.errors import ConfigError
from bridge.log import get_logger, set_level
from bridge.recording.archive import Archive
from bridge.session.budget import KeepLimits
from bridge.session.fanout.backlog import Limits
from bridge.telephony.service import Telephony
from bridge.upstream.factory import UpstreamFactory
from bridge.upstream.plan import UpstreamPlan
from bridge.webrtc.endpoint import Endpoint

__all__ = ["Reloader", "Renewal", "Rooms", "backlog_limits", "call_limits"]

_log = get_logger("config")

_READ_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The settings that are about to take effect. They have been checked, so none of it can fail any more."""

    config: Config
    """The new settings, with the old values of those that need a restart."""
    plan: UpstreamPlan
    certificate: ssl.SSLContext | None
    """The new certificate; None if HTTPS is not served here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Everyone who is told of changed settings. A setting of which nobody here is told needs a restart."""

    turn: TurnServers
    keys: Keys
    page_keys: KeyAllowance
    certificate: ServedCertificate | None
    proxies: TrustedProxies
    gate: Gate
    endpoint: Endpoint
    telephony: Telephony
    registry: Registry
    archive: Archive | None
    """The recordings; None if calls are not recorded here."""
    quotas: Quotas
    upstreams: UpstreamFactory

    def apply(self, renewal: Renewal) -> None:
        """Puts these settings into effect."""
        config = renewal.config
        server, access, media = config.server, config.access, config.media
        set_level(config.log.log_level)
        self.keys.apply(access.api_key, access.allow_origin)
        self.turn.apply(config.turn)
        self.page_keys.limit = access.page_keys_limit
        if self.certificate is not None and renewal.certificate is not None:
            self.certificate.use(renewal.certificate)
        self.proxies.trust(server.trusted_proxies)
        self.gate.limit, self.gate.limit_per_address = server.max_pending, server.max_pending_per_address
        queue_limit_s = int(media.outbound_queue_s)
        self.endpoint.apply(
            connect_timeout_s=media.connect_timeout_s,
            peer_timeout_s=media.peer_timeout_s,
            queue_limit_s=queue_limit_s,
        )
        self.telephony.apply(config.telephony, config.carriers, queue_limit_s=queue_limit_s)
        self.registry.apply(call_limits(config))
        self.quotas.limit_to(calls=config.calls.calls_per_key, listeners=config.listeners.max_listeners_per_key)
        if self.archive is not None:
            self.archive.apply(config.recording)
        self.upstreams.agents.limits = backlog_limits(config)
        self.upstreams.use(renewal.plan)
        self.registry.default_model = self.upstreams.default_model


def backlog_limits(config: Config) -> Limits:
    """Returns the limits of each listener's backlog."""
    listeners = config.listeners
    return Limits(
        listeners.listener_backlog_bytes, listeners.listener_backlog_ms, listeners.replay_bytes, listeners.replay_s
    )


def call_limits(config: Config) -> CallLimits:
    """Returns the limits of calls."""
    calls, listeners = config.calls, config.listeners
    return CallLimits(
        max_calls=calls.max_calls,
        reserved_calls=calls.calls_in_reserve,
        max_listeners_per_call=listeners.max_listeners_per_call,
        call_limit_s=calls.call_limit_s,
        resume_grace_s=calls.resume_grace_s,
        max_loop_lag_ms=calls.max_loop_lag_ms,
        ended_calls=calls.ended_calls,
        ended_calls_age_s=calls.ended_calls_age_s,
        backlog=backlog_limits(config),
        keep=KeepLimits(calls.conversation_bytes, calls.conversation_bytes_per_key, calls.conversation_bytes_in_all),
    )


class Reloader:
    """Reads the settings with ``read``, and tells ``rooms`` of those that are good.

    ``read`` raises ``ConfigError``, and may take its time.
    """

    def __init__(self, config: Config, read: Callable[[], Config], rooms: Rooms, *, has_local: bool) -> None:
        """``has_local`` says whether the embedded engine is there, so that settings may let it answer."""
        self.config = config
        """The settings in force."""
        self.rooms = rooms
        self._read = read
        self._has_local = has_local
        self._lock = asyncio.Lock()
        self._reading: asyncio.Future[tuple[Renewal, Changes]] | None = None

    async def reload(self) -> Changes:
        """Reads the settings again, and returns what has changed.

        Raises ``ConfigError`` if they are wrong, and then nothing has changed. Both are logged.
        """
        async with self._lock:
            try:
                renewal, changes = await self._prepared()
            except ConfigError as error:
                _log.error("config.reload_refused", problem=error.message, setting=error.param)
                raise
            self.config = renewal.config
            self.rooms.apply(renewal)
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
        """Prepares in a thread, because files are read.

        If the disk does not answer, one thread waits for it, and never a second.
        """
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().run_in_executor(None, self._prepare)
        try:
            async with asyncio.timeout(_READ_S):
                return await asyncio.shield(self._reading)
        except TimeoutError:
            message = f"config: the files could not be read within {_READ_S:g} s; nothing was changed"
            raise ConfigError(message, param="config") from None

    def _prepare(self) -> tuple[Renewal, Changes]:
        read = self._read()
        needs_engine = read.upstream.uses_local and not self._has_local
        config, changes = changed(self.config, read, read.upstream.__struct_fields__ if needs_engine else ())
        for name, reason in config.faults():  # of new settings together with old ones that need a restart
            raise ConfigError(f"{name}: {reason} (until a restart)", param=name)
        server = config.server
        certificate = None
        if server.tls_cert is not None and server.tls_key is not None:
            certificate = new_tls_context(server.tls_cert, server.tls_key)
        return Renewal(config=config, plan=UpstreamPlan.of(config.upstream), certificate=certificate), changes
