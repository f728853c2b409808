"""Who answers a call: chosen by its model from what is configured, and dialled."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from structlog.typing import FilteringBoundLogger

from bridge.config import UpstreamSettings
from bridge.context import CallContext
from bridge.errors import BadRequest
from bridge.session.contracts import Downstream, Upstream
from bridge.session.fanout.backlog import Limits
from bridge.session.info import CallInfo
from bridge.session.state import SessionState
from bridge.upstream.agent import AgentLine, AgentQueue
from bridge.upstream.engine_line import EngineLine
from bridge.upstream.line import Line
from bridge.upstream.live.line import LiveLine
from bridge.upstream.live.opener import LiveOpener
from bridge.upstream.live.sessions import Content, LiveSessions, ServiceSession
from bridge.upstream.live.upstream import LiveCaller, LiveUpstream
from bridge.upstream.live.webrtc import LiveWebRtcLine
from bridge.upstream.live.websocket import LiveWebSocketLine
from bridge.upstream.plan import UpstreamPlan
from bridge.upstream.probe import is_answering
from bridge.upstream.resilient import ResilientUpstream
from bridge.upstream.tally import TargetTally
from bridge.upstream.target import Target, Transport
from bridge.upstream.translation import TranslationLine, TranslationRelay
from bridge.upstream.webrtc import WebRtcLine
from bridge.upstream.websocket import WebSocketLine
from bridge.webrtc.runner import PeerRunner
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import WEBRTC, WEBSOCKET, TargetStats

__all__ = ["UpstreamFactory"]

_PROBE_S = 2.0


class UpstreamFactory:
    """Makes the upstreams of calls.

    ``async with`` owns what they run. Raises ``ConfigError`` if a setting makes no sense.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        runner: PeerRunner,
        *,
        new_engine: Callable[[CallContext, str], Upstream],
        agent_limits: Limits | None = None,
        on_change: Callable[[ServerEvent], object] = lambda event: None,
    ) -> None:
        """``new_engine`` makes the engine of a call by a target's name: ``local``, or that of a cascade.

        ``agent_limits`` say what may wait for an agent; ``on_change`` hears of upstreams that go down or come up.
        """
        self.live_sessions = LiveSessions()
        """The sessions that calls have had with Live services."""
        self._on_change = on_change
        self.agents = AgentQueue(agent_limits or Limits())
        self._new_engine = new_engine
        self._runner = runner
        self._tallies: dict[str, TargetTally] = {}
        self.plan = UpstreamPlan.of(settings)
        """Who answers which new call."""
        self._tasks = asyncio.TaskGroup()

    @property
    def default_model(self) -> str:
        """The model of calls that name none."""
        return self.plan.default_model

    def models(self) -> dict[str, str]:
        """The models that a call may ask for by the settings, and the upstream of each; the default one first."""
        return self.plan.owners

    def use(self, plan: UpstreamPlan) -> None:
        """Uses this plan for calls that begin from now on; running calls keep theirs."""
        self.plan = plan

    async def __aenter__(self) -> "UpstreamFactory":
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._tasks.__aexit__(None, None, None)

    def is_relayed(self, model: str) -> bool:
        """Whether calls for ``model`` are answered by somebody else than the embedded engine."""
        return self.plan.targets(model)[0].transport not in (Transport.LOCAL, Transport.CASCADE)

    def is_live(self, model: str) -> bool:
        """Whether calls for ``model`` are answered by a Live service."""
        return self.plan.targets(model)[0].is_live

    def backend_model(self, model: str) -> str | None:
        """The setting ``live_backend_model`` of the Live service that answers calls for ``model``."""
        return self.plan.targets(model)[0].live_backend_model

    def find_session(self, call_id: str) -> ServiceSession:
        """Returns the session that a call has with a Live service, or had; raises ``UnknownCall``."""
        return self.live_sessions.find(call_id)

    def content(self, call_id: str, *, range_header: str | None = None) -> AbstractAsyncContextManager[Content]:
        """Yields the recording of a stored Live session; raises as ``LiveSessions.content`` does."""
        return self.live_sessions.content(call_id, range_header=range_header)

    def new_upstream(self, info: CallInfo) -> Upstream:
        """Makes the upstream that is going to answer the call.

        Raises ``BadRequest`` if a Realtime client asks for a Live service that is not open to such.
        """
        plan = self.plan
        if info.is_translation:
            return self._new_translation(plan, info)
        targets = plan.targets(info.model)
        if targets[0].transport is Transport.LOCAL or (targets[0].transport is Transport.CASCADE and len(targets) == 1):
            return self._new_engine(info.context, targets[0].name)
        if targets[0].is_live:
            return self._new_live_upstream(plan, targets, info)
        return ResilientUpstream(
            targets,
            new_line=lambda target: self._new_line(plan, target, info, is_last=target is targets[-1]),
            new_engine=lambda: self._new_engine(info.context, Transport.LOCAL.value),
            spawn=self._spawn,
            policy=plan.policy,
            context=info.context,
            tally=self._tally,
        )

    def _new_live_upstream(self, plan: UpstreamPlan, targets: tuple[Target, ...], info: CallInfo) -> LiveUpstream:
        is_telephone = info.transport not in (WEBRTC, WEBSOCKET)
        if info.live is None and not is_telephone:
            targets = tuple(target for target in targets if target.live_compat)
            if not targets:
                message = f"'{info.model}' is a Live model; use /v1/live/sessions."
                raise BadRequest(message, code="invalid_model", param="model")
        caller = LiveCaller(
            call_id=info.id,
            transport=info.transport,
            model=info.model if info.names_model else plan.default_model_of(targets[0]),
            key_id=info.key_id,
            session=info.live,
            fork_of=info.live_fork,
            backend_model=targets[0].live_backend_model,
            is_telephone=is_telephone,
        )
        return LiveUpstream(
            caller,
            new_opener=lambda part: LiveOpener(
                targets,
                new_line=lambda target: self._new_live_line(plan, target, info.context),
                part=part,
                policy=plan.policy,
                tally=self._tally,
                context=info.context,
            ),
            sessions=self.live_sessions,
            spawn=self._spawn,
            context=info.context,
        )

    def _new_live_line(self, plan: UpstreamPlan, target: Target, context: CallContext) -> LiveLine:
        timeout_s = plan.policy.connect_s
        if target.transport is Transport.WEBSOCKET:
            return LiveWebSocketLine(target, timeout_s=timeout_s, context=context)
        return LiveWebRtcLine(
            target, runner=self._runner, ice_servers=plan.ice_servers, timeout_s=timeout_s, context=context
        )

    def is_translated(self, model: str) -> bool:
        """Whether somebody translates with ``model``."""
        return bool(self.plan.translators(model))

    def _new_translation(self, plan: UpstreamPlan, info: CallInfo) -> Upstream:
        def new_relay(downstream: Downstream, state: SessionState, log: FilteringBoundLogger) -> TranslationRelay:
            return TranslationRelay(downstream, state, log, fills_silence=info.transport != WEBSOCKET)

        return ResilientUpstream(
            plan.translators(info.model),
            new_line=lambda target: TranslationLine(
                target, info.model, timeout_s=plan.policy.connect_s, context=info.context
            ),
            new_engine=lambda: self._new_engine(info.context, Transport.LOCAL.value),
            spawn=self._spawn,
            policy=plan.policy,
            context=info.context,
            tally=self._tally,
            new_relay=new_relay,
        )

    def stats(self) -> list[TargetStats]:
        """The figures of each upstream over all calls; the embedded engine has none, because it is never dialled."""
        targets = [*self.plan.default, *(target for targets in self.plan.by_model.values() for target in targets)]
        tallies = {target.name: self._tally(target) for target in targets if target.transport is not Transport.LOCAL}
        return [tally.stats() for tally in tallies.values()]

    async def complaint(self) -> str | None:
        """What is wrong if no upstream answers of those that are tried for any model; None if one does."""
        for target in self.plan.default:
            if await is_answering(target, timeout_s=_PROBE_S):
                return None
        return "No upstream answers."

    def _tally(self, target: Target) -> TargetTally:
        return self._tallies.setdefault(target.name, TargetTally(target.name, self._on_change))

    def _new_line(self, plan: UpstreamPlan, target: Target, info: CallInfo, *, is_last: bool) -> Line:
        if target.transport is Transport.AGENT:
            return AgentLine(self.agents, info.id, timeout_s=plan.agent_wait_s)
        if target.transport is Transport.CASCADE:
            return EngineLine(lambda: self._new_engine(info.context, target.name), is_last=is_last)
        timeout_s = plan.policy.connect_s
        model = info.model if info.names_model else plan.default_model_of(target)
        if target.transport is Transport.WEBSOCKET:
            return WebSocketLine(
                target, model, timeout_s=timeout_s, is_transcription=info.is_transcription, context=info.context
            )
        return WebRtcLine(
            target,
            model,
            runner=self._runner,
            ice_servers=plan.ice_servers,
            timeout_s=timeout_s,
            is_transcription=info.is_transcription,
            context=info.context,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.create_task(work)
