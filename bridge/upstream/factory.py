"""Who answers a call: chosen by its model from what is configured, and dialled."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

from bridge.config import UpstreamSettings
from bridge.context import CallContext
from bridge.session.contracts import Upstream
from bridge.session.fanout.backlog import Limits
from bridge.session.info import CallInfo
from bridge.upstream.agent import AgentLine, Lobby
from bridge.upstream.line import Line
from bridge.upstream.resilient import ResilientUpstream, RetryPolicy
from bridge.upstream.tally import TargetTally
from bridge.upstream.target import Target, load_profile
from bridge.upstream.webrtc import WebRtcLine
from bridge.upstream.websocket import WebSocketLine
from bridge.webrtc.ice_full import IceServers
from bridge.webrtc.runner import PeerRunner
from bridge.wire.stats import TargetStats

__all__ = ["UpstreamFactory"]

_OWN = ("local", "agent")


class UpstreamFactory:
    """``async with`` owns what the calls' upstreams run. Raises ``ConfigError`` where a setting makes no sense."""

    def __init__(
        self,
        settings: UpstreamSettings,
        runner: PeerRunner,
        *,
        new_engine: Callable[[CallContext], Upstream],
        agent_limits: Limits | None = None,
    ) -> None:
        """``agent_limits`` say what may wait for an agent."""
        self.lobby = Lobby(agent_limits or Limits())
        self._new_engine = new_engine
        self._runner = runner
        self._ice_servers = IceServers.parse(settings.upstream_ice_server)
        self._agent_wait_s = settings.agent_wait_s
        self._tallies: dict[str, TargetTally] = {}
        self._patience = RetryPolicy(
            connect_s=settings.upstream_connect_timeout_s,
            stall_s=settings.upstream_stall_s,
            renew_s=settings.upstream_renew_s,
            tries=settings.upstream_tries,
        )
        named = _named(settings)
        default = _target(settings.upstream, named, key=settings.upstream_key, profile=settings.upstream_profile)
        fallback = tuple(_target(name, named) for name in settings.upstream_fallback)
        self._default = (default, *fallback)
        self._by_model = {
            model: (named[name], *fallback) for name, given in settings.upstreams.items() for model in given.models
        }
        self._owners = {model: name for name, given in settings.upstreams.items() for model in given.models}
        self._default_model = settings.default_model
        self._tasks = asyncio.TaskGroup()

    @property
    def default_model(self) -> str:
        """Of calls that name none."""
        return self._default_for(self._default[0])

    @property
    def models(self) -> dict[str, str]:
        """The models that a call may ask for by the settings, and the upstream of each; the default one first."""
        default = self._default[0].name
        return {self.default_model: self._owners.get(self.default_model, default), **self._owners}

    def _default_for(self, target: Target) -> str:
        """The setting if somebody has set it, or given it an upstream; else what is usual at ``target``."""
        setting = self._default_model
        if setting != UpstreamSettings().default_model or setting in self._by_model:
            return setting
        return target.profile.default_model or setting

    async def __aenter__(self) -> "UpstreamFactory":
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._tasks.__aexit__(None, None, None)

    def _targets(self, model: str) -> tuple[Target, ...]:
        return self._by_model.get(model, self._default)

    def is_relayed(self, model: str) -> bool:
        """Calls for ``model`` are answered by somebody else than the embedded engine."""
        return self._targets(model)[0].transport != "local"

    def new_upstream(self, info: CallInfo) -> Upstream:
        """Who is going to answer the call."""
        targets = self._targets(info.model)
        if targets[0].transport == "local":
            return self._new_engine(info.context)
        return ResilientUpstream(
            targets,
            new_line=lambda target: self._new_line(target, info),
            new_engine=lambda: self._new_engine(info.context),
            spawn=self._spawn,
            patience=self._patience,
            context=info.context,
            tally=self._tally,
        )

    def stats(self) -> list[TargetStats]:
        """Of each upstream that calls may be answered by, over all calls; the embedded engine is never dialled."""
        targets = [*self._default, *(target for targets in self._by_model.values() for target in targets)]
        tallies = {target.name: self._tally(target) for target in targets if target.transport != "local"}
        return [tally.stats() for tally in tallies.values()]

    def _tally(self, target: Target) -> TargetTally:
        return self._tallies.setdefault(target.name, TargetTally(target.name))

    def _new_line(self, target: Target, info: CallInfo) -> Line:
        if target.transport == "agent":
            return AgentLine(self.lobby, info.id, timeout_s=self._agent_wait_s)
        timeout_s = self._patience.connect_s
        model = info.model if info.names_model else self._default_for(target)
        if target.transport == "websocket":
            return WebSocketLine(target, model, timeout_s=timeout_s, is_transcription=info.is_transcription)
        return WebRtcLine(
            target,
            model,
            runner=self._runner,
            ice_servers=self._ice_servers,
            timeout_s=timeout_s,
            is_transcription=info.is_transcription,
            context=info.context,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.create_task(work)


def _named(settings: UpstreamSettings) -> dict[str, Target]:
    targets = {}
    for name, given in settings.upstreams.items():
        key = os.environ.get(given.key_env) if given.key_env is not None else given.key
        targets[name] = Target(
            name, given.url, key, load_profile(given.profile, f"upstreams.{name}.profile"), given.model
        )
    return targets


def _target(name: str, named: dict[str, Target], *, key: str | None = None, profile: str = "openai") -> Target:
    if name in named:
        return named[name]
    return Target(name if name in _OWN else "upstream", name, key, load_profile(profile))
