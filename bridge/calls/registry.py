"""All sessions of this process: opened within the limits, found by call id, closed before the process ends."""

import asyncio
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from bridge.calls.overload import LoopLag
from bridge.context import CallContext
from bridge.errors import Draining, OverLimit, UnknownCall
from bridge.log import get_logger
from bridge.media.contracts import Sink
from bridge.recording.recorder import Recorder
from bridge.session.budget import Budget, KeepLimits
from bridge.session.contracts import Upstream
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.hub import Hub
from bridge.session.fanout.listener import Listener
from bridge.session.fanout.subscription import EventConsumer, EventSubscription
from bridge.session.info import CallInfo
from bridge.session.session import Session
from bridge.wire.choices import Choices
from bridge.wire.codecs.codec import Dialect
from bridge.wire.ids import new_id
from bridge.wire.own_events import CallClosed, CallOpened, CallsRunning
from bridge.wire.sessions import SessionConfig, SessionRequest, default_session, default_transcription, merged
from bridge.wire.stats import CallWarning, ListenerRole

__all__ = ["Registry", "Terms", "UpstreamFactory", "unknown_call"]

_log = get_logger("registry")

_GOING_AWAY, _SERVICE_RESTART = 1001, 1012  # stock clients come back after either
_ANY_KEY = "api"

UpstreamFactory = Callable[[CallInfo], Upstream]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a new session starts with, and what it may do; from its key and its request."""

    model: str | None = None
    config: SessionRequest | None = None
    """A whole session that a key stands for, and what of it was asked for."""
    update: SessionRequest | None = None
    """What the request asks for, laid over the default."""
    is_beta: bool = False
    temperature: float | None = None
    key_id: str = "api"
    max_duration_s: float | None = None
    idle_timeout_s: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the caller's side gave the call on its way, or the application in a beta session, for whoever lists it."""
    warnings: tuple[CallWarning, ...] = ()
    """What of the request could not be used, for whoever lists the call."""
    dtmf_items: bool = False
    """Keys that the caller presses are written into the conversation."""
    caller: str = ""
    """``host:port`` from which the call is asked for."""
    carrier_ids: Mapping[str, str] = field(default_factory=dict)
    """What a carrier calls the call."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Values of ``metadata`` that open a door."""

    @property
    def wanted(self) -> SessionRequest:
        """All that was asked for."""
        asked = [request for request in (self.config, self.update) if request is not None]
        return functools.reduce(SessionRequest.with_update, asked, SessionRequest(SessionConfig(), {}))

    def session(self, session_id: str, expires_at: int, default_model: str) -> SessionConfig:
        """The whole configuration of the session ``session_id``."""
        wanted = self.wanted.config
        new = default_transcription if wanted.type == "transcription" else default_session
        whole = new(session_id=session_id, model=self.model or default_model, expires_at=expires_at)
        return msgspec.structs.replace(merged(whole, wanted), id=session_id, expires_at=expires_at)

    @property
    def names_model(self) -> bool:
        """The request or the key says which model is to answer."""
        return self.model is not None or "model" in self.wanted.body


class Registry:
    """Opens and finds sessions. ``async with`` owns what they leave to be closed."""

    def __init__(
        self,
        new_upstream: UpstreamFactory,
        *,
        max_calls: int,
        max_calls_per_key: int | None = None,
        reserved_calls: int = 0,
        max_listeners_per_call: int,
        call_limit_s: float,
        limits: Limits,
        resume_grace_s: float = 0.0,
        default_model: str = "",
        is_relayed: Callable[[str], bool] = lambda model: False,
        keep: KeepLimits | None = None,
        max_loop_lag_ms: float = 0.0,
    ) -> None:
        self.lag = LoopLag(max_loop_lag_ms)
        self._new_upstream = new_upstream
        self._max_calls = max_calls
        self._max_calls_per_key = max_calls if max_calls_per_key is None else max_calls_per_key
        self._max_calls_of_clients = max(0, max_calls - reserved_calls)
        self._max_listeners = max_listeners_per_call
        self._call_limit_s = call_limit_s
        self._limits = limits
        self.calls = Hub(new_id("calls"), replay_bytes=limits.replay_bytes)
        """Who hears of calls that begin and end."""
        self.recorder: Recorder | None = None
        """Where calls may be recorded."""
        self._resume_grace_s = resume_grace_s
        self.default_model = default_model
        """Of a call that names none."""
        self._is_relayed = is_relayed
        self._sessions: dict[str, Session] = {}
        self._keep_limits = keep or KeepLimits()
        self._kept = Budget(self._keep_limits.of_process, what="All conversations of the server together")
        self._kept_of_keys: dict[str, Budget] = {}
        self._is_draining = False
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> "Registry":
        await self._tasks.__aenter__()
        self.lag.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close_all("server_stopped", code=_GOING_AWAY)
        await self._tasks.__aexit__(None, None, None)
        self.lag.stop()
        for listener in tuple(self.calls.listeners):
            listener.close(_GOING_AWAY, "server_stopped")

    @property
    def sessions(self) -> list[Session]:
        """Those that run or connect, oldest first."""
        return list(self._sessions.values())

    @property
    def is_draining(self) -> bool:
        """No new calls are taken."""
        return self._is_draining

    def require_accepting(self) -> None:
        """Raises ``Draining`` if nothing new is begun here."""
        if self._is_draining:
            raise Draining("The server is about to stop and takes no new calls.")

    def require_room(self, key_id: str = _ANY_KEY) -> None:
        """Raises ``Draining``, ``Overloaded`` or ``OverLimit`` if a new session of the key would be refused."""
        self.require_accepting()
        self.lag.require_time()
        if len(self._sessions) >= self._max_calls:
            raise _too_many(f"The server has {self._max_calls} calls")
        if key_id == _ANY_KEY:
            return
        of_clients = [session.info.key_id for session in self._sessions.values() if session.info.key_id != _ANY_KEY]
        if of_clients.count(key_id) >= self._max_calls_per_key:
            raise _too_many(f"This key has {self._max_calls_per_key} calls")
        if len(of_clients) >= self._max_calls_of_clients:
            raise _too_many(f"The server has {self._max_calls_of_clients} calls of clients")

    def require_known(self, terms: Terms) -> None:
        """Raises ``BadEvent`` for a session of which whoever is going to answer would not understand all.

        A service that is dialled judges for itself.
        """
        complaint = terms.wanted.complaint
        if complaint is not None and not self._is_relayed(str(terms.session("", 0, self.default_model).model)):
            raise complaint.anew()

    def open(self, terms: Terms, *, transport: str) -> Session:
        """A new session; the id of a WebSocket's own is its call's id, too.

        Raises ``Draining``, ``OverLimit``, or ``BadEvent`` as ``require_known`` does.
        """
        self.require_room(terms.key_id)
        self.require_known(terms)
        limit_s = min(self._call_limit_s, terms.max_duration_s or self._call_limit_s)
        started_at = time.time()
        session_id = new_id("sess")
        config = terms.session(session_id, int(started_at + limit_s), self.default_model)
        wanted = terms.wanted
        context = CallContext(
            call_id=session_id if transport == "websocket" else new_id("rtc"),
            session_id=session_id,
            caller=terms.caller,
            carrier_ids=dict(terms.carrier_ids),
            metadata=dict(terms.metadata),
            secrets=terms.secrets,
        )
        info = CallInfo(
            context,
            transport=transport,
            model=str(config.model),
            started_at=started_at,
            key_id=terms.key_id,
            is_transcription=config.type == "transcription",
            names_model=terms.names_model,
            dialect=Dialect.BETA if terms.is_beta else Dialect.GA,
            temperature=terms.temperature,
            dtmf_items=terms.dtmf_items,
            warnings=terms.warnings,
        )
        session = Session(
            info,
            self._new_upstream(info),
            limits=self._limits,
            max_listeners=self._max_listeners,
            on_closed=self._forget,
            clock=asyncio.get_running_loop().time,
            resume_grace_s=self._resume_grace_s,
            budget=self._new_budget(terms.key_id),
        )
        self._sessions[info.id] = session
        self._tasks.create_task(self._contained(session, limit_s, terms.idle_timeout_s))
        session.start(config, wanted.body)
        self.calls.publish(CallOpened(call=session.stats()))
        return session

    def _new_budget(self, key_id: str) -> Budget:
        """Of what a new conversation may keep."""
        whole, limits = self._kept, self._keep_limits
        if key_id != _ANY_KEY:
            of_key = self._kept_of_keys.get(key_id)
            if of_key is None:
                of_key = whole.part(limits.of_key, what="All conversations of this key together")
                self._kept_of_keys[key_id] = of_key
            whole = of_key
        return whole.part(limits.of_conversation, what="This conversation")

    @property
    def kept_bytes(self) -> int:
        """What all conversations keep."""
        return self._kept.used_bytes

    def subscribe(self, consumer: EventConsumer) -> None:
        """From now on, for as long as the registry lives, the consumer is told of calls."""
        self.calls.subscriptions.append(EventSubscription(consumer, log=_log))

    def watch(self, sink: Sink, choices: Choices) -> Listener:
        """One more that hears of calls: those that run first, or what came behind ``choices.after``."""
        listener = Listener(sink, role=ListenerRole.OBSERVER, limits=self._limits, choices=choices)
        if choices.after is None:
            self.calls.tell(listener, CallsRunning(calls=[session.stats() for session in self.sessions]))
        else:
            self.calls.resume(listener, choices.after)
        self.calls.add(listener)
        return listener

    def find(self, call_id: str, key_id: str = _ANY_KEY, *, param: str = "call_id") -> Session:
        """A running session that the key may see; raises ``UnknownCall``, whether it is another's or nobody's."""
        session = self._sessions.get(call_id)
        if session is None or key_id not in (_ANY_KEY, session.info.key_id):
            raise unknown_call(call_id, param=param)
        return session

    def is_running(self, call_id: str) -> bool:
        """Whether a call of this id is running or being connected."""
        return call_id in self._sessions

    def of_key(self, key_id: str) -> list[Session]:
        """The sessions that the key may see."""
        return [session for session in self.sessions if key_id in (_ANY_KEY, session.info.key_id)]

    def close_all(self, reason: str, *, code: int) -> None:
        """Begins the end of every session."""
        for session in self.sessions:
            session.close(reason, code=code)

    def stop_accepting(self) -> None:
        """From now on ``open`` raises ``Draining``."""
        self._is_draining = True

    async def drain(self, grace_s: float) -> None:
        """Takes no more calls, lets the running ones end by themselves for ``grace_s``, then ends them."""
        self.stop_accepting()
        try:
            async with asyncio.timeout(grace_s):
                for session in self.sessions:
                    await session.lifetime.closed.wait()
        except TimeoutError:
            self.close_all("server_draining", code=_SERVICE_RESTART)

    async def _contained(self, session: Session, limit_s: float, idle_timeout_s: float | None) -> None:
        """Whatever goes wrong at one session's end must not end the others."""
        session.context.bind_task()
        try:
            await self._keep(session, limit_s, idle_timeout_s)
        except Exception as error:
            _log.error("registry.keep_failed", exc_info=error)
        finally:
            self._forget(session)

    async def _keep(self, session: Session, limit_s: float, idle_timeout_s: float | None) -> None:
        """Ends the session at its limits, and its upstream behind it."""
        deadline = asyncio.get_running_loop().time() + limit_s
        while not session.lifetime.closed.is_set():
            left = min(deadline - self._now(), session.idle_left_s(idle_timeout_s))
            try:
                async with asyncio.timeout(max(left, 0)):
                    await session.lifetime.closed.wait()
            except TimeoutError:
                if self._now() >= deadline:
                    session.expire(limit_s)
                    break
                if session.idle_left_s(idle_timeout_s) <= 0:
                    session.close("idle_timeout")
                    break
        await session.aclose()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _forget(self, session: Session) -> None:
        if self._sessions.pop(session.info.id, None) is not None:
            result, reason = session.lifetime.result
            if not any(other.info.key_id == session.info.key_id for other in self._sessions.values()):
                self._kept_of_keys.pop(session.info.key_id, None)
            self.calls.publish(CallClosed(call_id=session.info.id, result=result, reason=reason))


def unknown_call(call_id: str, *, param: str = "call_id") -> UnknownCall:
    """The refusal of a call that is another's, or nobody's: both are told alike."""
    return UnknownCall(f"No call '{call_id[:64]}' is running here.", param=param)


def _too_many(what: str) -> OverLimit:
    return OverLimit(f"{what}, which is the limit.", code="too_many_calls")
