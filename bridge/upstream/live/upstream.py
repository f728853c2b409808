"""A Live service as the upstream of a call, whoever the caller is: a Live client, a telephone, a Realtime client.

One task a call starts the session and hands over what comes, until the end. A Live client's events pass as they are
(``live_passage``), and its sound by the call's own tracks, so that listeners, recordings and legs hear it as they hear
any call. For those who do not speak Live, ``LiveTurns`` makes turns of the session, and ``RealtimeClient`` makes Live
events of what they say.

    holding ──first word of a Realtime client, or a while──▶ opening ──session.started──▶ live ──lost──▶ reopening
    reopening ──session.started──▶ live
    any of them ──aclose()──▶ closing ──session.closed, or a while──▶ over

A lost session that the service has stored is forked, and the call goes on. One that is not stored is lost for a Live
client. For others the bridge knows what was said, and a new session is told it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from bridge.context import CallContext
from bridge.errors import BridgeError, UpstreamError
from bridge.media.contracts import PassingUpstream
from bridge.media.model_time import ModelTime
from bridge.media.playback import Part
from bridge.session.contracts import Downstream
from bridge.session.state import SessionState
from bridge.state_machine import StateMachine
from bridge.upstream.backlog import UpstreamBacklog
from bridge.upstream.live.managed import LiveRefusal, ManagedLiveLine
from bridge.upstream.live.opener import LiveOpener, OpenedLive
from bridge.upstream.live.passage import PassedEvents
from bridge.upstream.live.realtime_client import RealtimeClient, live_session
from bridge.upstream.live.sessions import LiveSessions, ServiceSession
from bridge.upstream.live.start import LiveStart
from bridge.upstream.live.turns import LiveTurns
from bridge.upstream.target import Target
from bridge.wire import client_events as client
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.audio import AudioFormat
from bridge.wire.server_events import Body
from bridge.wire.sessions import AudioConfig, AudioInput, SemanticVad, SessionConfig, merged
from bridge.wire.stats import WEBSOCKET, Transport, UpstreamStats

__all__ = ["LiveCaller", "LiveUpstream", "LiveUpstreamState"]

_LIVE_SOCKET = Transport("live")
_HOLD_S = 1.0  # Realtime clients set their session up with their first event, and Live's is fixed at its start
_FAREWELL_S = 10.0
_TICK_S = 0.04
_MAX_TOLD_ITEMS = 128
_OWN_TURNS = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=SemanticVad(interrupt_response=False))))
"""What is true of each Live session in Realtime's words: the model finds turns, and interrupts itself."""


class LiveUpstreamState(StrEnum):
    """See the module."""

    HOLDING = "holding"
    OPENING = "opening"
    LIVE = "live"
    REOPENING = "reopening"
    CLOSING = "closing"
    OVER = "over"


_HOLDING, _OPENING, _LIVE, _REOPENING, _CLOSING, _OVER = LiveUpstreamState
_TRANSITIONS = {
    _HOLDING: {_OPENING, _CLOSING, _OVER},
    _OPENING: {_LIVE, _CLOSING, _OVER},
    _LIVE: {_REOPENING, _CLOSING, _OVER},
    _REOPENING: {_LIVE, _CLOSING, _OVER},
    _CLOSING: {_OVER},
    _OVER: set[LiveUpstreamState](),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCaller:
    """Whoever calls a Live service, and what for."""

    call_id: str
    """The id by which Live clients know the session."""
    transport: Transport
    model: str
    key_id: str = "api"
    """The id of the key that opened the call."""
    session: Body | None = None
    """The session that a Live client has asked for; None for a caller who does not speak Live."""
    fork_of: str | None = None
    """The id of the stored session that a Live client forks."""
    backend_model: str | None = None
    """The backend model of a caller who does not speak Live."""
    is_telephone: bool = False

    @property
    def speaks_live(self) -> bool:
        """Whether the caller is a Live client."""
        return self.session is not None

    @property
    def keeps_time(self) -> bool:
        """Whether the caller brings sound for all of the time: a Live client over a WebSocket has to."""
        return self.speaks_live and self.transport in (WEBSOCKET, _LIVE_SOCKET)


@dataclass(slots=True)
class _Figures:
    name: str = ""
    lines: int = 0
    lost: int = 0


class LiveUpstream:
    """See the module; an ``Upstream``, and the ``LiveHearer`` of the line that it has."""

    def __init__(
        self,
        caller: LiveCaller,
        *,
        new_opener: Callable[[Callable[[], Part]], LiveOpener],
        sessions: LiveSessions,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        context: CallContext,
    ) -> None:
        """``new_opener`` makes an opener from what says which part of an answer is being given."""
        self._caller = caller
        self._context = context
        self._log = context.logger("upstream")
        first = _OPENING if caller.speaks_live or caller.is_telephone else _HOLDING
        self._states = StateMachine("upstream", first, _TRANSITIONS, log=self._log, event="upstream.state")
        self._opener = new_opener(lambda: self._turns.part)
        self._sessions = sessions
        self._spawn = spawn
        self._start_request = LiveStart(
            session=caller.session or {}, is_socket_caller=caller.keeps_time, fork_of=caller.fork_of
        )
        self._passed = PassedEvents(self._start_request)
        self._client = RealtimeClient(has_backend=caller.backend_model is not None)
        self._current: ManagedLiveLine | None = None
        self._time: ModelTime | None = None
        self._figures = _Figures()

    # Upstream

    def start(self, downstream: Downstream, state: SessionState) -> None:
        """Begins to dial. A Realtime client hears ``session.created`` at once, all others when the session starts."""
        self._downstream = downstream
        self._state = state
        self._backlog = UpstreamBacklog(state.budget)
        self._backlog.input_format = self.input_format
        self._turns = LiveTurns(
            downstream.deliver_event,
            is_endless=self._caller.speaks_live,
            conversation_id=state.conversation.id,
        )
        if self._states.state is _HOLDING:
            downstream.deliver_event(server.SessionCreated(session=merged(state.config, _OWN_TURNS)))
        self._spawn(self._run())

    @property
    def live_passage(self) -> "LiveUpstream":
        """Itself: Live events pass by ``receive_live_client_event`` and ``tell``."""
        return self

    def receive_live_client_event(self, body: Body) -> None:
        """Takes a Live client's event other than sound, as it wrote it; raises ``BadEvent`` if too many wait."""
        if self._current is not None:
            self._current.line.send_live_event(body)
        else:
            self._backlog.keep_event(body)

    def tell(self, taker: Callable[[Body], None] | None) -> None:
        """From now on ``taker`` gets what the service says, sound excepted; ``session.started`` is the first."""
        self._passed.tell(taker)

    @property
    def passage(self) -> PassingUpstream | None:
        """The passage of the present line."""
        return self._current.line.passage if self._current is not None else None

    @property
    def input_format(self) -> AudioFormat:
        """The format of the present line; before, the one that it is going to have over a WebSocket."""
        return self._current.line.input_format if self._current is not None else self._start_request.audio_format

    @property
    def output_format(self) -> AudioFormat:
        """The format of the present line; before, the one that it is going to have over a WebSocket."""
        return self._current.line.output_format if self._current is not None else self._start_request.audio_format

    def receive_client_event(self, message: client.ClientMessage) -> None:
        """Takes a Realtime client's event; raises ``BadEvent``, which names what has no counterpart."""
        event = message.event
        if event.event_id is None and isinstance(event, client.ConversationItemTruncate):
            return  # the call's own ledger: the model itself decides what was heard
        if isinstance(event, client.SessionUpdate):
            self._update(message.known, message)
            return
        bodies = self._client.events(message)
        for body in bodies:
            self.receive_live_client_event({**body, "event_id": event.event_id} if event.event_id is not None else body)
        if isinstance(event, client.ConversationItemCreate):
            self._add_item(event.item)
        self._begin()

    def receive_caller_audio(self, sound: bytes) -> None:
        """Takes a piece of the caller's sound, in ``input_format``."""
        if self._current is None:
            self._backlog.add_audio(sound)
            return
        if self._time is not None:
            sound = self._time.push(sound, _now())
        if sound:
            self._send_audio(self._current, sound)

    def stats(self) -> UpstreamStats:
        """The stats over all lines."""
        figures = self._figures
        return UpstreamStats(name=figures.name, lines=figures.lines, lost=figures.lost, answers=self._turns.answers)

    async def aclose(self) -> None:
        """Closes the session, and waits for the service to say so; may be called twice."""
        if self._states.may_enter(_CLOSING):
            self._states.enter(_CLOSING)
        await self._states.until(_OVER)

    # What Realtime clients set

    def _update(self, event: Any, message: client.ClientMessage) -> None:
        update: SessionConfig = event.session
        if self._states.state is _HOLDING:
            config = self._state.updated(update)
            live_session(config, model=self._caller.model, backend_model=self._caller.backend_model)
        else:
            for body in self._client.update(self._state.config, update):
                self.receive_live_client_event({**body, "event_id": event.event_id})
            config = self._state.updated(update)
        self._downstream.deliver_event(server.SessionUpdated(session=merged(config, _OWN_TURNS)))
        self._begin()

    def _begin(self) -> None:
        """Holds the start no longer, because the client has said what it wants."""
        if self._states.state is _HOLDING:
            self._states.enter(_OPENING)

    def _add_item(self, item: items.Item) -> None:
        previous = self._state.conversation.place(item)
        self._downstream.deliver_event(server.ConversationItemAdded(previous_item_id=previous, item=item))
        self._downstream.deliver_event(server.ConversationItemDone(previous_item_id=previous, item=item))

    # The life of it

    async def _run(self) -> None:
        self._context.bind_task()
        error: BridgeError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                closing = group.create_task(self._states.until(_CLOSING))
                living = group.create_task(self._live())
                await asyncio.wait((closing, living), return_when=asyncio.FIRST_COMPLETED)
                closing.cancel()
                living.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    error = await living
                await self._say_goodbye()
        except Exception as failure:
            self._log.error("upstream.failed", exc_info=failure)
            error = UpstreamError("Something went wrong between the bridge and its upstream.")
        finally:
            self._current = None
            self._backlog.clear()
            self._end(error)

    async def _say_goodbye(self) -> None:
        managed = self._current
        if managed is None:
            return
        await managed.finish(_FAREWELL_S)
        usage = self._passed.usage
        self._log.info("live.closed", upstream=managed.target.name, is_final=managed.is_finished,
                       seconds=usage.get("seconds"))  # fmt: skip

    def _end(self, error: BridgeError | None) -> None:
        is_wanted = self._states.state is _CLOSING
        if self._states.may_enter(_OVER):
            self._states.enter(_OVER)
            if not is_wanted:
                self._downstream.upstream_closed(error)

    async def _live(self) -> BridgeError | None:
        """Runs from the first session to the end of the last; returns why there is no further one."""
        try:
            await self._hold()
            start = self._first_start()
            opened = await self._opener.open(start, self._group, only=self._forked)
            while True:
                self._take(opened)
                await self._until_over(opened.managed)
                if opened.managed.is_finished:
                    self._turns.end()
                    return None
                opened = await self._reopen(opened.managed)
        except LiveRefusal as refusal:
            self._passed.say(refusal.body)
            return refusal
        except UpstreamError as error:
            return error
        except BridgeError as error:  # the call was opened with what a Live session cannot be
            return UpstreamError(error.message, code=error.code, param=error.param, type=error.type)

    async def _hold(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HOLD_S):
                await self._states.until(_OPENING, _CLOSING)
        self._begin()

    def _first_start(self) -> LiveStart:
        """What the session is asked for; raises ``BridgeError`` if that cannot be asked."""
        caller = self._caller
        if not caller.speaks_live:
            return self._realtime_start()
        if caller.fork_of is None:
            return self._start_request
        stored = self._sessions.find(caller.fork_of)
        return replace(self._start_request, fork_of=stored.session_id)

    @property
    def _forked(self) -> Target | None:
        """The service that has the session which is forked; None if the session begins anew."""
        return None if self._caller.fork_of is None else self._sessions.find(self._caller.fork_of).target

    def _realtime_start(self) -> LiveStart:
        caller = self._caller
        session = live_session(self._state.config, model=caller.model, backend_model=caller.backend_model)
        history = _history(self._state)
        return LiveStart(session={**session, **({"input": history} if history else {})}, is_socket_caller=False)

    def _take(self, opened: OpenedLive) -> None:
        """Makes this the line. Sound that waited for it goes out first, then what clients have said."""
        is_first, managed = not self._figures.lines, opened.managed
        line = managed.line
        self._current = managed
        self._states.enter(_LIVE)
        self._figures.name, self._figures.lines = managed.target.name, self._figures.lines + 1
        if not self._caller.keeps_time:
            self._time = ModelTime(line.input_format, _now())
        if is_first:
            self._passed.pass_event(opened.started)
            if self._caller.speaks_live or self._caller.is_telephone:
                self._downstream.deliver_event(server.SessionCreated(session=merged(self._state.config, _OWN_TURNS)))
        else:
            self._passed.go_on(opened.started, self._turns.heard_ms)
        caller = self._caller
        theirs = ServiceSession(managed.target, self._passed.session_id, caller.model, caller.key_id)
        self._sessions.add(caller.call_id, theirs)
        self._downstream.upstream_changed()
        waiting = self._backlog.take_audio(line.input_format)
        if waiting:
            self.receive_caller_audio(waiting)
        for body in self._backlog.take_events():
            line.send_live_event(body)
        managed.set_hearer(self)
        managed.replay_early()

    async def _until_over(self, managed: ManagedLiveLine) -> None:
        """Waits until the line ends, and keeps model time going meanwhile."""
        while not await managed.wait_over(None if self._time is None else _TICK_S):
            if self._time is not None and managed.line.passage is None:
                sound = self._time.due(_now())
                if sound:
                    self._send_audio(managed, sound)

    async def _reopen(self, managed: ManagedLiveLine) -> OpenedLive:
        """Returns a session that goes on after the line was lost. Raises ``UpstreamError`` if there is none."""
        ending = managed.ending or UpstreamError("The upstream hung up before it was finished.", code="upstream_lost")
        self._figures.lost += 1
        self._opener.lose(managed.target)
        self._log.warning("upstream.lost", code=ending.code, message=ending.message)
        self._backlog.input_format, self._current = managed.line.input_format, None
        self._downstream.upstream_changed()
        self._states.enter(_REOPENING)
        await managed.aclose()
        try:
            return await self._open_again(managed)
        except UpstreamError:
            self._passed.lose(ending.code, ending.message)
            raise ending from None

    async def _open_again(self, managed: ManagedLiveLine) -> OpenedLive:
        if self._passed.is_stored and self._passed.session_id:
            session: Body = {}
            if self._caller.keeps_time and "audio" in self._start_request.session:
                asked = self._start_request.session["audio"]
                session = {"audio": {"format": asked["format"]}} if "format" in asked else {}
            start = LiveStart(
                session={**session, "store": True},
                is_socket_caller=self._caller.keeps_time,
                fork_of=self._passed.session_id,
            )
            return await self._opener.open(start, self._group, only=managed.target)
        if self._caller.speaks_live:
            raise UpstreamError("A session that is not stored cannot be forked.", is_transient=False)
        self._turns.end()
        return await self._opener.open(self._realtime_start(), self._group)

    def _send_audio(self, managed: ManagedLiveLine, sound: bytes) -> None:
        line = managed.line
        line.send_audio(sound)
        self._turns.hear(sound, line.input_format)

    # LiveHearer

    def hear(self, body: Body) -> None:
        """Takes an event of the service."""
        self._passed.pass_event(body)
        match body:
            case {"type": "session.input_transcript.delta", "delta": str(delta), "start_ms": int(start_ms)}:
                self._turns.hear_words(delta, start_ms)
            case {"type": "session.output_transcript.delta", "delta": str(delta)}:
                self._turns.say_words(delta)
            case {"type": "response.event", "event": dict(event)} if not self._caller.speaks_live:
                self._hear_backend(event)
            case {"type": "error", "error": dict(error)} if not self._caller.speaks_live:
                self._hear_error(error)

    def hear_audio(self, sound: bytes) -> None:
        """Takes a piece of the model's sound."""
        if self._current is None:
            return
        said = self._turns.take_model_sound(sound, self._current.line.output_format)
        if said is not None:
            self._downstream.deliver_audio(*said)

    def _hear_backend(self, event: Body) -> None:
        """Takes an event of the backend model: a function that it calls."""
        item = event.get("item")
        if event.get("type") != "response.output_item.done" or not isinstance(item, dict):
            return
        if item.get("type") == "function_call":
            self._client.call(str(item.get("call_id", "")))
            self._turns.call_function(item)

    def _hear_error(self, error: Body) -> None:
        event_id = error.get("client_event_id")
        detail = server.ErrorDetail(
            type=str(error.get("type") or "server_error"),
            code=_text(error.get("code")),
            message=str(error.get("message") or ""),
            param=_text(error.get("param")),
            event_id=_text(event_id),
        )
        self._downstream.deliver_event(server.Error(error=detail))


def _history(state: SessionState) -> list[Body]:
    """What was said, as a new session is told it: the newest messages that have words."""
    told: list[Body] = []
    for item in state.conversation.items():
        if not isinstance(item, items.Message):
            continue
        words = " ".join(filter(None, (_words(part) for part in item.content)))
        if not words:
            continue
        is_model = item.role == "assistant"
        content = [{"type": "output_text" if is_model else "input_text", "text": words}]
        told.append(
            {"type": "message", "role": "developer" if item.role == "system" else item.role, "content": content}
        )
    return told[-_MAX_TOLD_ITEMS:]


def _words(part: items.Content) -> str | None:
    if isinstance(part, items.InputText | items.OutputText):
        return part.text
    if isinstance(part, items.InputAudio | items.OutputAudio):
        return part.transcript if isinstance(part.transcript, str) else None
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _now() -> float:
    return asyncio.get_running_loop().time()
