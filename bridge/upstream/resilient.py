"""An upstream that is dialled: chosen from the configuration, tried again, replaced when it is lost.

Theory of operation. One task a call opens a line and hands over what comes on it, until the line ends. What clients
send goes out at once while a line is up, and waits in a bounded ``UpstreamBacklog`` while none is. ``Relay`` knows
what is said on both sides, and what a new line must be told.

    opening ──greeted──▶ live ──line lost──▶ reopening ──greeted──▶ live
       ├───────────── the next target is ``local`` ─────┴──▶ local (the embedded engine goes on)
       └───────────── no target answers ────────────────┴──▶ over, with the last target's own error
    any of them ──aclose()──▶ closing ──▶ over

When a line is lost, responses in progress are brought to their end and clients are told (``upstream_reconnecting``).
A line that has lasted so long that the service would soon end it is replaced unheard, at a moment when nothing is
under way: the call stays live.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from structlog.typing import FilteringBoundLogger

from bridge.context import CallContext
from bridge.errors import BridgeError, UpstreamError
from bridge.media.contracts import PassingUpstream
from bridge.media.playback import Part
from bridge.session.contracts import Downstream, Upstream
from bridge.session.state import SessionState
from bridge.state_machine import StateMachine
from bridge.upstream.backlog import UpstreamBacklog
from bridge.upstream.dialer import RetryPolicy
from bridge.upstream.engine_line import EngineLine
from bridge.upstream.line import Line
from bridge.upstream.line_relay import LineRelay
from bridge.upstream.managed_line import LineState, ManagedRealtimeLine
from bridge.upstream.opener import STALLED, LineOpener, OpenedLine
from bridge.upstream.relay import Relay
from bridge.upstream.takeover import take_over
from bridge.upstream.tally import TargetTally
from bridge.upstream.target import Target
from bridge.wire import client_events as client
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.server_events import Body
from bridge.wire.stats import StageStats, UpstreamStats

__all__ = ["ResilientUpstream", "UpstreamState"]

_WATCH_S = 0.5
_RENEW_AGAIN_S = 30.0
_ANSWER_S = 10.0  # what was not answered by then needs no answer


class UpstreamState(StrEnum):
    """See the module."""

    OPENING = "opening"
    LIVE = "live"
    REOPENING = "reopening"
    LOCAL = "local"
    CLOSING = "closing"
    OVER = "over"


_AT_ANY_TIME = frozenset({UpstreamState.CLOSING, UpstreamState.OVER})
_TRANSITIONS = {
    UpstreamState.OPENING: _AT_ANY_TIME | {UpstreamState.LIVE, UpstreamState.LOCAL},
    UpstreamState.LIVE: _AT_ANY_TIME | {UpstreamState.LIVE, UpstreamState.REOPENING},
    UpstreamState.REOPENING: _AT_ANY_TIME | {UpstreamState.LIVE, UpstreamState.LOCAL},
    UpstreamState.LOCAL: _AT_ANY_TIME,
    UpstreamState.CLOSING: frozenset({UpstreamState.OVER}),
    UpstreamState.OVER: frozenset[UpstreamState](),
}


@dataclass(slots=True)
class _Figures:
    """Figures of all lines of the call."""

    name: str = ""
    """The name of the target of the present line, or of the last one."""
    lines: int = 0
    lost: int = 0


class ResilientUpstream:
    """See the module; an ``Upstream``, and the ``LineHearer`` of the line that it has."""

    def __init__(
        self,
        targets: tuple[Target, ...],
        *,
        new_line: Callable[[Target], Line],
        new_engine: Callable[[], Upstream],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        policy: RetryPolicy,
        context: CallContext,
        tally: Callable[[Target], TargetTally],
        new_relay: Callable[[Downstream, SessionState, FilteringBoundLogger], LineRelay] = Relay,
    ) -> None:
        """``new_relay`` makes what knows the protocol of the lines."""
        self._new_relay = new_relay
        self._context = context
        self._log = context.logger("upstream")
        self._states = StateMachine(
            "upstream", UpstreamState.OPENING, _TRANSITIONS, log=self._log, event="upstream.state"
        )
        self._policy = policy
        self._opener = LineOpener(targets, new_line=new_line, policy=policy, tally=tally, context=context)
        self._new_engine = new_engine
        self._spawn = spawn
        self._current: ManagedRealtimeLine | None = None
        self._engine: Upstream | None = None
        self._figures = _Figures()

    # Upstream

    def start(self, downstream: Downstream, state: SessionState) -> None:
        """Begins to dial; ``session.created`` follows when an upstream answers."""
        self._downstream = downstream
        self._state = state
        self._backlog = UpstreamBacklog(state.budget)
        self._relay = self._new_relay(downstream, state, self._log)
        self._spawn(self._run())

    @property
    def passage(self) -> PassingUpstream | None:
        """The passage of the present line."""
        return self._current.line.passage if self._current is not None else None

    @property
    def live_passage(self) -> None:
        """None, because lines speak Realtime."""
        return None

    @property
    def input_format(self) -> AudioFormat:
        """The format of the present line; between lines, of the last one."""
        if self._engine is not None:
            return self._engine.input_format
        return self._current.line.input_format if self._current is not None else self._backlog.input_format

    @property
    def output_format(self) -> AudioFormat:
        """The passage of the present line."""
        if self._engine is not None:
            return self._engine.output_format
        return self._current.line.output_format if self._current is not None else PCM16

    def receive_client_event(self, message: client.ClientMessage) -> None:
        """Keeps a client event; raises ``BadEvent`` if too many wait."""
        if self._engine is not None:
            self._engine.receive_client_event(message)
            return
        event = message.event
        if event.event_id is None:
            event.event_id = self._relay.new_id()
            if isinstance(event, client.ConversationItemTruncate) and self._current and self._current.line.plays:
                # The session's own ledger. The service keeps one as well: it stops, and truncates by that.
                self._current.line.send_client_event({"type": "output_audio_buffer.clear", "event_id": event.event_id})
                return
        body: Body = {**message.body, "event_id": event.event_id}
        item = body.get("item")
        if isinstance(item, dict) and item.get("id") is None:
            body["item"] = {**item, "id": new_id("item")}  # so that its answer can be told
        if self._current is not None:
            self._relay.ask(self._current.line, body, _now())
        else:
            self._backlog.keep_event(body)

    def receive_caller_audio(self, sound: bytes) -> None:
        """Takes a piece of the caller's sound, in ``input_format``."""
        if self._engine is not None:
            self._engine.receive_caller_audio(sound)
        elif self._current is not None:
            self._relay.push(self._current.line, sound)
        else:
            self._backlog.add_audio(sound)

    def stats(self) -> UpstreamStats:
        """The stats over all lines, with those of the engine if it has taken over."""
        figures, answers = self._figures, self._relay.answers
        name = figures.name
        stages: tuple[StageStats, ...] = ()
        if self._engine is not None:
            engine = self._engine.stats()
            name, answers, stages = engine.name, answers + engine.answers, engine.stages
        elif self._current is not None and isinstance(self._current.line, EngineLine):
            stages = self._current.line.stages
        seconds = self._relay.seconds
        return UpstreamStats(
            name=name,
            lines=figures.lines,
            lost=figures.lost,
            answers=answers,
            input_seconds=round(seconds.input, 3),
            output_seconds=round(seconds.output, 3),
            stages=stages,
        )

    async def aclose(self) -> None:
        """Ends the call with the upstream; may be called twice."""
        if self._states.may_enter(UpstreamState.CLOSING):
            self._states.enter(UpstreamState.CLOSING)
        if self._engine is not None:
            await self._engine.aclose()
            if self._states.may_enter(UpstreamState.OVER):
                self._states.enter(UpstreamState.OVER)
        await self._states.until(UpstreamState.OVER)

    # The life of it

    async def _run(self) -> None:
        self._context.bind_task()
        error: BridgeError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                closing = group.create_task(self._states.until(UpstreamState.CLOSING))
                living = group.create_task(self._live())
                await asyncio.wait((closing, living), return_when=asyncio.FIRST_COMPLETED)
                closing.cancel()
                living.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    error = await living
        except Exception as failure:
            self._log.error("upstream.failed", exc_info=failure)
            error = UpstreamError("Something went wrong between the bridge and its upstream.")
        finally:
            self._current = None
            self._relay.close()
            self._backlog.clear()
            self._end(error)

    def _end(self, error: BridgeError | None) -> None:
        """Tells the session that there are no lines any more, unless the end was asked for."""
        is_local, is_wanted = (self._states.state is state for state in (UpstreamState.LOCAL, UpstreamState.CLOSING))
        if not self._states.may_enter(UpstreamState.OVER) or (is_local and error is None):
            return  # the engine goes on until it is closed
        self._states.enter(UpstreamState.OVER)
        if not is_wanted:
            self._downstream.upstream_closed(error)

    async def _live(self) -> UpstreamError | None:
        """Runs from the first line to the end of the last.

        Returns why there is no further one; None if all is in order.
        """
        try:
            await self._live_on_lines()
        except UpstreamError as error:
            return error
        return None

    async def _live_on_lines(self) -> None:
        opened = await self._open()
        while opened is not None:
            managed = opened.managed
            ending: UpstreamError | OpenedLine | None = None
            try:
                if self._is_closing:
                    return
                self._take(managed, opened.session)
                ending = await self._until_over(managed)
            finally:
                is_expired = managed.state is LineState.EXPIRED
                try:
                    await managed.aclose()
                except BaseException:  # the call ends meanwhile: nobody else knows of the line that was to take over
                    if isinstance(ending, OpenedLine):
                        await ending.managed.aclose()
                    raise
            if isinstance(ending, OpenedLine):
                opened = ending
                continue
            if ending is None:
                if not self._relay.owes_answer and not is_expired:
                    return
                ending = UpstreamError("The upstream hung up before it was finished.", code="upstream_lost")
            if self._is_closing:
                return
            await self._lose(managed, ending)
            opened = await self._open()

    @property
    def _is_closing(self) -> bool:
        """Whether the end was asked for."""
        return self._states.state is UpstreamState.CLOSING

    async def _lose(self, managed: ManagedRealtimeLine, ending: UpstreamError) -> None:
        """Tells clients that a line was lost; raises ``ending`` if no other target can be dialled."""
        self._figures.lost += 1
        self._log.warning("upstream.lost", code=ending.code, message=ending.message)
        self._backlog.input_format, self._current = managed.line.input_format, None
        self._downstream.upstream_changed()
        self._states.enter(UpstreamState.REOPENING)
        self._relay.lose(ending)
        has_answered = self._relay.answers > managed.answers_before
        wait_s = self._opener.judge(
            managed.target, ending, lasted_s=_now() - managed.opened_at, has_answered=has_answered
        )
        if wait_s:
            await asyncio.sleep(wait_s)

    async def _open(self) -> OpenedLine | None:
        """Opens the next line; None if the engine has taken over. Raises the last target's ``UpstreamError``."""
        opened = await self._opener.open(self._state, self._group)
        if opened is None and not self._is_closing:
            self._states.enter(UpstreamState.LOCAL)
            self._engine = self._new_engine()
            self._downstream.upstream_changed()
            take_over(self._engine, self._downstream, self._state, self._relay, self._backlog)
        return opened

    async def _until_over(self, managed: ManagedRealtimeLine) -> UpstreamError | OpenedLine | None:
        """Waits until the line ends or stalls (returns its error), or is to be replaced (returns the next line)."""
        policy, relay = self._policy, self._relay
        renew_at = managed.opened_at + policy.renew_s
        owed_since = None
        while True:
            if await managed.wait_over(_WATCH_S):
                return managed.ending
            now = _now()
            relay.forget_unanswered(now - _ANSWER_S)
            owed_since = (owed_since or now) if relay.owes_answer else None
            if owed_since is not None and now - max(managed.heard_at, owed_since) > policy.stall_s:
                return UpstreamError("The upstream fell silent.", code=STALLED)
            if now >= renew_at and relay.is_idle:
                fresh = await self._renew()
                if fresh is not None:
                    return fresh
                renew_at = _now() + min(_RENEW_AGAIN_S, policy.renew_s)

    async def _renew(self) -> OpenedLine | None:
        """Opens a line that replaces one which is almost too old; None if that must wait."""
        try:
            fresh = await self._opener.open_anew(self._state, self._group)
        except UpstreamError as error:
            self._log.warning("upstream.renewal_failed", code=error.code)
            return None
        if self._relay.is_idle:
            self._log.info("upstream.renewed")
            self._opener.count_renewal(fresh)
            return fresh
        await fresh.managed.aclose()
        return None

    def _take(self, managed: ManagedRealtimeLine, session: Body) -> None:
        """Makes this the line. What waited for it goes out: sound first, because a commit may be waiting."""
        is_renewal, self._current = self._current is not None, managed
        self._states.enter(UpstreamState.LIVE)
        self._figures.name, self._figures.lines = managed.target.name, self._figures.lines + 1
        line, relay, now = managed.line, self._relay, _now()
        managed.answers_before = relay.answers
        managed.set_hearer(self)
        self._downstream.upstream_changed()
        if relay.is_live:
            relay.brief(line, session, now, is_renewal=is_renewal)
        else:
            relay.greet(line, session, now)
        sound = self._backlog.take_audio(line.input_format)
        if sound:
            relay.push(line, sound)
        for body in self._backlog.take_events():
            relay.ask(line, body, now)
        managed.replay_early()

    # LineHearer

    def hear(self, body: Body) -> None:
        """Takes an event of the upstream."""
        self._relay.hear(body)

    def hear_audio(self, part: Part, sound: bytes) -> None:
        """Takes a piece of the answer."""
        self._relay.hear_audio(part, sound)


def _now() -> float:
    return asyncio.get_running_loop().time()
