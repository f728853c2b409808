"""The sessions of this process: opened, found by call id, ended before the process ends.

No lookup is awaited here. Endpoints do not come here: they ask the ``CallService``, which knows who may do what.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from msgspec import UNSET

from bridge.calls.admission import Admission
from bridge.calls.budgets import ConversationBudgets
from bridge.calls.directory import CallDirectory, CallRecord, LocalCallDirectory, unknown_call
from bridge.calls.ended import EndedCalls, LocalEndedCalls
from bridge.calls.events import EventBus, LocalEventBus
from bridge.calls.notes import CallNotes, restore
from bridge.calls.quotas import Reservation
from bridge.calls.reaper import CallReaper
from bridge.calls.terms import Terms
from bridge.context import CallContext, TraceContext
from bridge.errors import UnknownModel
from bridge.session.budget import KeepLimits
from bridge.session.contracts import Upstream
from bridge.session.fanout.backlog import Limits
from bridge.session.info import CallInfo, Moved
from bridge.session.session import Session
from bridge.wire.ids import new_id
from bridge.wire.own_events import CallClosed, CallOpened
from bridge.wire.stats import WEBSOCKET, Dialect, Transport

__all__ = ["CallLimits", "NewUpstream", "Registry"]

_LOOK_S = 0.1
_MOVED_GRACE_S = 30.0  # whoever was cut off by the end of a process has to have some time, whatever the settings say
_GOING_AWAY, _SERVICE_RESTART = 1001, 1012  # most clients come back after either

NewUpstream = Callable[[CallInfo], Upstream]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """What calls may take of this process."""

    max_calls: int
    reserved_calls: int = 0
    """How many of ``max_calls`` are for API keys alone."""
    max_listeners_per_call: int
    call_limit_s: float
    """The time after which every call ends."""
    resume_grace_s: float = 0.0
    """The time for which a lost owner or peer is waited for; 0 ends the call at once."""
    max_loop_lag_ms: float = 0.0
    """The lateness of the event loop above which no new call is taken; 0 for no limit."""
    ended_calls: int = 1000
    """The number of ended calls that are remembered."""
    ended_calls_age_s: float = 86_400.0
    """The time for which each of them is remembered."""
    backlog: Limits = Limits()
    """The limits of each listener's backlog."""
    keep: KeepLimits = KeepLimits()
    """The limits of what conversations keep."""


class _Kept(NamedTuple):
    """What is kept of a running call, beside its session."""

    record: CallRecord
    reservation: Reservation
    idle_timeout_s: float | None


class Registry:
    """The sessions of this process, by call id. ``async with`` owns what the sessions leave to be closed."""

    def __init__(
        self,
        new_upstream: NewUpstream,
        limits: CallLimits,
        *,
        default_model: str = "",
        is_relayed: Callable[[str], bool] = lambda model: False,
        is_translated: Callable[[str], bool] = lambda model: False,
        directory: CallDirectory | None = None,
        ended: EndedCalls | None = None,
        events: EventBus | None = None,
        new_call_id: Callable[[str], str] = new_id,
    ) -> None:
        """``directory``, ``ended`` and ``events`` are those of this process alone if they are not given.

        ``new_call_id`` makes an id that begins with what it is given.
        """
        self.default_model = default_model
        """The model of a call that names none."""
        self.new_trace: Callable[[TraceContext | None], TraceContext | None] = lambda asked: asked
        """The function that gives a new call's place in a trace, from that of the request.

        Without tracing of our own it returns the same.
        """
        self.admission = Admission(
            max_calls=limits.max_calls,
            reserved_calls=limits.reserved_calls,
            max_loop_lag_ms=limits.max_loop_lag_ms,
        )
        self.budgets = ConversationBudgets(limits.keep)
        self.directory = directory or LocalCallDirectory()
        """The directory in which other processes may look for this one's calls."""
        self.ended: EndedCalls = ended or LocalEndedCalls(limits.ended_calls, limits.ended_calls_age_s)
        """The calls that are over."""
        self.events: EventBus = events or LocalEventBus(limits.backlog)
        """The bus for those who follow calls that begin and end."""
        self._new_upstream = new_upstream
        self._new_call_id = new_call_id
        self.limits = limits
        """The limits of new calls."""
        self._is_relayed = is_relayed
        self._is_translated = is_translated
        self._reaper = CallReaper()
        self._sessions: dict[str, Session] = {}
        self._records: dict[str, _Kept] = {}

    async def __aenter__(self) -> "Registry":
        await self._reaper.__aenter__()
        self.admission.lag.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close_all("server_stopped", code=_GOING_AWAY)
        await self._reaper.__aexit__()
        self.admission.lag.stop()
        self.events.close(_GOING_AWAY, "server_stopped")

    def apply(self, limits: CallLimits) -> None:
        """Sets these limits: those on how many calls there may be count at once, the others for new calls."""
        self.limits = limits
        self.admission.limit(limits.max_calls, limits.reserved_calls)
        self.admission.lag.limit_ms = limits.max_loop_lag_ms
        self.budgets.apply(limits.keep)
        self.events.apply(limits.backlog)
        self.ended.limit_to(limits.ended_calls, limits.ended_calls_age_s)

    @property
    def sessions(self) -> list[Session]:
        """The sessions that run or connect, oldest first."""
        return list(self._sessions.values())

    @property
    def backlog_limits(self) -> Limits:
        """How far a listener of a new call may be behind."""
        return self.limits.backlog

    def has(self, call_id: str) -> bool:
        """Whether the call runs or connects in this process."""
        return call_id in self._sessions

    def notes(self, call_id: str) -> CallNotes | None:
        """Returns what another process would need to go on with the call; None if it does not run here."""
        session = self._sessions.get(call_id)
        return None if session is None else CallNotes.of(session, self._records[call_id].idle_timeout_s)

    def find(self, call_id: str, *, param: str = "call_id") -> Session:
        """Returns the session; raises ``UnknownCall`` naming ``param``."""
        session = self._sessions.get(call_id)
        if session is None:
            raise unknown_call(call_id, param=param)
        return session

    def require_known(self, terms: Terms) -> None:
        """Raises ``BadEvent`` if whoever is going to answer would not understand all of the session.

        A service that is dialled judges for itself. Raises ``UnknownModel`` if nobody here translates with the model.
        """
        if terms.is_translation:
            self._require_translator(str(terms.session("", 0, self.default_model).model))
            return
        complaint = terms.wanted.complaint
        if complaint is not None and not self._is_relayed(str(terms.session("", 0, self.default_model).model)):
            raise complaint.anew()

    def _require_translator(self, model: str) -> None:
        if not self._is_translated(model):
            raise UnknownModel(
                f"No upstream here translates with the model '{model[:64]}'. The embedded engine and agents cannot "
                "translate; that takes a service with translations, over WebSocket.",
                param="model",
            )

    def new_context(self, terms: Terms, transport: Transport) -> CallContext:
        """Returns who a new call is; the id of a WebSocket's own session is its call's id, too."""
        session_id = self._new_call_id("sess") if transport == WEBSOCKET else new_id("sess")
        kind = "rtc" if terms.live is None else "live"
        return CallContext(
            call_id=session_id if transport == WEBSOCKET else self._new_call_id(kind),
            session_id=session_id,
            caller=terms.caller,
            carrier_ids=dict(terms.carrier_ids),
            metadata=dict(terms.metadata),
            secrets=terms.secrets,
            carrier_call=terms.carrier_call,
            token_digests=terms.token_digests,
            trace=self.new_trace(terms.trace),
        )

    def open(
        self,
        terms: Terms,
        *,
        transport: Transport,
        reservation: Reservation | None = None,
        context: CallContext | None = None,
    ) -> Session:
        """Opens a new session.

        A place is reserved if none is given; ``context`` is who the call is, if it is known already. Raises
        ``Draining``, ``Overloaded``, ``OverLimit``, or ``BadEvent`` as ``require_known`` does.
        """
        reservation = reservation or self.admission.reserve(terms.key_id)
        try:
            self.admission.require_accepting()  # the process may have begun to stop since the place was reserved
            self.require_known(terms)
            return self._open(terms, transport, reservation, context or self.new_context(terms, transport))
        except BaseException:
            reservation.release()
            raise

    def _open(self, terms: Terms, transport: Transport, reservation: Reservation, context: CallContext) -> Session:
        limits = self.limits
        limit_s = min(limits.call_limit_s, terms.max_duration_s or limits.call_limit_s)
        started_at = time.time()
        config = terms.session(context.session_id, int(started_at + limit_s), self.default_model)
        return self._begin(
            CallInfo(
                context,
                transport=transport,
                model=str(config.model),
                started_at=started_at,
                key_id=terms.key_id,
                is_transcription=config.type == "transcription",
                names_model=terms.names_model,
                dialect=Dialect.TRANSLATION if config.type == "translation" else terms.dialect,
                temperature=terms.temperature,
                dtmf_items=terms.dtmf_items,
                warnings=terms.warnings,
                live=terms.live,
                live_fork=terms.live_fork,
            ),
            reservation,
            begin=lambda session: session.start(config, terms.wanted.body),
            limit_s=limit_s,
            idle_timeout_s=terms.idle_timeout_s,
            resume_grace_s=self.limits.resume_grace_s,
        )

    def adopt(self, notes: CallNotes, reservation: Reservation) -> Session:
        """Goes on with a call that another process had.

        Whoever is the call has its grace time to come back, from now. Listeners that stopped after an event of the
        other process go on here.
        """
        context = CallContext(
            call_id=notes.call_id,
            session_id=notes.session_id,
            caller=notes.caller,
            carrier_ids=notes.carrier_ids,
            metadata=notes.metadata,
            carrier_call=notes.carrier_call,
            token_digests=notes.token_digests,
        )
        info = CallInfo(
            context,
            transport=notes.transport,
            model=notes.model,
            started_at=notes.started_at,
            key_id=notes.key_id,
            is_transcription=notes.is_transcription,
            names_model=notes.names_model,
            dialect=notes.dialect,
            temperature=notes.temperature,
            dtmf_items=notes.dtmf_items,
            warnings=notes.warnings,
        )

        def begin(session: Session) -> None:
            restore(notes, session.state)
            moved = Moved(notes.resume_key, notes.last_event, notes.owes_answer)
            session.start(notes.config, notes.wanted, moved=moved)

        expires_at = notes.config.expires_at
        limit_s = self.limits.call_limit_s if expires_at is UNSET or expires_at is None else expires_at - time.time()
        try:
            return self._begin(
                info,
                reservation,
                begin=begin,
                limit_s=max(0.0, limit_s),
                idle_timeout_s=notes.idle_timeout_s,
                resume_grace_s=self.limits.resume_grace_s or _MOVED_GRACE_S,
            )
        except BaseException:
            reservation.release()
            raise

    def _begin(
        self,
        info: CallInfo,
        reservation: Reservation,
        *,
        begin: Callable[[Session], None],
        limit_s: float,
        idle_timeout_s: float | None,
        resume_grace_s: float,
    ) -> Session:
        limits = self.limits
        upstream = self._new_upstream(info)
        reservation.holds(lambda: self.budgets.close(info.key_id))
        session = Session(
            info,
            upstream,
            limits=limits.backlog,
            max_listeners=limits.max_listeners_per_call,
            on_closed=self._forget,
            clock=asyncio.get_running_loop().time,
            resume_grace_s=resume_grace_s,
            budget=self.budgets.open(info.key_id),
        )
        record = CallRecord.of(info.context, info.key_id)
        self._sessions[info.id], self._records[info.id] = session, _Kept(record, reservation, idle_timeout_s)
        self.directory.add_call(record)
        self._reaper.watch(session, limit_s=limit_s, idle_timeout_s=idle_timeout_s, on_gone=self._forget)
        try:
            begin(session)
            self.events.publish(CallOpened(call=session.stats()))
        except BaseException:
            session.close("internal_error")  # nobody else would close it
            raise
        return session

    def close_all(self, reason: str, *, code: int) -> None:
        """Begins the end of every session."""
        for session in self.sessions:
            session.close(reason, code=code)

    def stop_accepting(self) -> None:
        """From now on ``open`` raises ``Draining``."""
        self.admission.is_draining = True

    async def drain(self, grace_s: float, *, may_move: Callable[[], bool] = lambda: False) -> None:
        """Takes no more calls, lets the running ones end by themselves for ``grace_s``, then ends them.

        While they ``may_move``, those that are between two turns are ended at once, because they go on in another
        process.
        """
        self.stop_accepting()
        until = asyncio.get_running_loop().time() + grace_s
        while self._sessions and may_move() and asyncio.get_running_loop().time() < until:
            for session in self.sessions:
                if session.is_between_turns:
                    session.close("server_draining", code=_SERVICE_RESTART)
            await asyncio.sleep(_LOOK_S)
        grace_s = max(0.0, until - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(grace_s):
                for session in self.sessions:
                    await session.lifetime.closed.wait()
        except TimeoutError:
            self.close_all("server_draining", code=_SERVICE_RESTART)

    def _forget(self, session: Session) -> None:
        if self._sessions.pop(session.info.id, None) is not None:
            record, reservation, _ = self._records.pop(session.info.id)
            reservation.release()
            self.directory.remove(session.info.id)
            result, reason = session.lifetime.result
            self.ended.add_ended_call(record, session.stats(), result, reason)
            self.events.publish(CallClosed(call_id=session.info.id, result=result, reason=reason))
