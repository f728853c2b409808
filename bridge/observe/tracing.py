"""A trace of each call: its set-up, the dials of upstreams, and each turn with its stages.

    call ─┬─ waiting                 until it was accepted, if it had to be
          ├─ setup                   from the request until sound could flow
          ├─ dial NAME               each try to open a connection to an upstream
          └─ turn ─┬─ speech         the caller speaks
                   ├─ wait           from its end to the answer's first sound, or first word
                   └─ chat MODEL     the answer, from its beginning to its end

The trace is made of typed subscriptions: one of all calls, and one of each call. Nothing is done for a packet. Unless
``has_content`` is set, spans leave out what was said, and what the model was told. Names of attributes are those of
OpenTelemetry's conventions for generative AI, and begin with ``bridge.`` if these have no name.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import msgspec
from prometheus_client.core import CounterMetricFamily, Metric

from bridge.context import TraceContext
from bridge.session.fanout.subscription import TrackName
from bridge.session.session import Session
from bridge.wire import server_events as server
from bridge.wire.audio import AudioFormat
from bridge.wire.items import Response
from bridge.wire.own_events import CallClosed, CallIncoming, CallOpened, CallSettled, UpstreamDialled
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import WEBSOCKET, CallResult, ListenerStats

__all__ = ["Attributes", "CallTracing", "SpanTaker", "TracedSpan", "families_of", "wants_content"]

_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_NO_CONTENT = ("", "0", "false", "no_content")
_MAX_WAITING = 10_000
_ENGINE = "local"

Attributes = Mapping[str, str | int | float | bool | tuple[str, ...] | None]
"""The attributes of a span; those that are None are left out."""


class TracedSpan(Protocol):
    """One stretch of time in a call."""

    def begin_child(
        self, name: str, *, at_s: float, attributes: Attributes | None = None, is_client: bool = False
    ) -> "TracedSpan":
        """Begins a span below this one; ``is_client`` says that somebody else works meanwhile. Times are Unix times."""
        ...

    def set(self, attributes: Attributes) -> None:
        """Sets attributes that are known by now."""
        ...

    def note(self, name: str, *, at_s: float, attributes: Attributes | None = None) -> None:
        """Notes something that happened at one moment of the span."""
        ...

    def end(self, *, at_s: float, error: str | None = None) -> None:
        """Ends the span; ``error`` is the code of what went wrong."""
        ...


class SpanTaker(Protocol):
    """The place where spans go."""

    def new_context(self, asked: TraceContext | None) -> TraceContext:
        """Returns a new call's place in a trace, below the span of the request for it."""
        ...

    def begin_span(self, trace: TraceContext, name: str, *, at_s: float, attributes: Attributes) -> TracedSpan | None:
        """Begins the span that ``trace`` names. Returns None if nobody wants this trace."""
        ...


def wants_content(environ: Mapping[str, str] = os.environ) -> bool:
    """Returns whether OpenTelemetry's variable says that spans may hold what was said."""
    return environ.get(_CONTENT, "").strip().lower() not in _NO_CONTENT


def families_of(exported: int, dropped: int) -> Iterator[Metric]:
    """Yields the counts of spans as metrics."""
    yield CounterMetricFamily("bridge_trace_spans_exported", "Spans that the collector accepted.", exported)
    yield CounterMetricFamily(
        "bridge_trace_spans_dropped",
        "Spans that the collector refused, or that found the queue full.",
        dropped,
    )


class CallTracing:
    """Makes the traces of all calls. It subscribes to the events of all calls."""

    def __init__(
        self,
        spans: SpanTaker,
        find: Callable[[str], Session],
        *,
        has_content: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._spans = spans
        self._find = find
        self._has_content = has_content
        self._clock = clock
        self._calls: dict[str, _TracedCall] = {}
        self._waiting: dict[str, float] = {}
        """The times since which calls wait that are not accepted yet."""

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Handles what all followers of all calls are told."""
        match event:
            case CallIncoming(call_id=call_id) if len(self._waiting) < _MAX_WAITING:
                self._waiting[call_id] = self._clock()
            case CallSettled(call_id=call_id):
                self._waiting.pop(call_id, None)
            case CallOpened(call=call):
                self._open(self._find(call.id), self._waiting.pop(call.id, None))
            case CallClosed(call_id=call_id):
                traced = self._calls.pop(call_id, None)
                if traced is not None:
                    traced.close(event.result, event.reason)
            case UpstreamDialled(call_id=call_id):
                traced = self._calls.get(call_id)
                if traced is not None:
                    traced.dialled(event)

    def _open(self, session: Session, waits_since: float | None) -> None:
        trace = session.context.trace
        if trace is None:
            return
        info = session.info
        attributes = {
            "bridge.call.id": info.id,
            "bridge.call.transport": str(info.transport),
            "gen_ai.conversation.id": info.session_id,
            "gen_ai.request.model": info.model,
        }
        began = info.started_at if waits_since is None else waits_since
        span = self._spans.begin_span(trace, f"call {info.transport}", at_s=began, attributes=attributes)
        if span is None:
            return
        if waits_since is not None:
            span.begin_child("waiting", at_s=waits_since).end(at_s=info.started_at)
        traced = self._calls[info.id] = _TracedCall(session, span, has_content=self._has_content, clock=self._clock)
        session.audience.subscribe(traced)


class _Turn:
    """The open spans of one turn."""

    def __init__(self, span: TracedSpan) -> None:
        self.span = span
        self.speech: TracedSpan | None = None
        self.wait: TracedSpan | None = None
        self.chat: TracedSpan | None = None
        self.response_id = ""
        self.is_heard = False
        """Whether the first sound of its answer was heard."""
        self.has_sound = False
        """Whether there is sound in its answer, which may be heard later."""
        self.is_played = False
        """Whether all of its sound was heard, or thrown away."""


class _TracedCall:
    """Makes the trace of one call, as a ``Consumer`` of its events."""

    def __init__(self, session: Session, span: TracedSpan, *, has_content: bool, clock: Callable[[], float]) -> None:
        self._session = session
        self._span = span
        self._has_content = has_content
        self._clock = clock
        self._is_played_here = session.info.transport != WEBSOCKET
        """Whether the bridge knows when sound is played. Otherwise the client plays it, and does not say when."""
        self._turn: _Turn | None = None
        self._dials = 0
        self._turns = 0

    # The whole call

    def dialled(self, event: UpstreamDialled) -> None:
        """Adds the span of a dial of an upstream, which is over."""
        now = self._clock()
        self._dials += 1
        attributes: Attributes = {"bridge.upstream.name": event.upstream, "bridge.upstream.dial": self._dials}
        dial = self._span.begin_child(
            f"dial {event.upstream}", at_s=now - event.seconds, attributes=attributes, is_client=True
        )
        dial.end(at_s=now, error=event.code)

    def close(self, result: CallResult, reason: str) -> None:
        """Ends the spans of the call."""
        now = self._clock()
        self._end_turn(now, error="call_ended")
        stats = self._session.stats()
        if stats.setup_ms is not None:
            setup = self._span.begin_child("setup", at_s=stats.started_at)
            setup.end(at_s=stats.started_at + stats.setup_ms / 1000)
        self._span.set(
            {
                "bridge.call.result": str(result),
                "bridge.call.reason": reason,
                "bridge.call.turns": self._turns,
                "bridge.upstream.name": stats.upstream.name or None,
                "bridge.upstream.lost": stats.upstream.lost,
            }
        )
        self._span.end(at_s=now, error=None if result is CallResult.SUCCESS else reason)

    # Consumer

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Handles the few events that begin and end stages."""
        match event:
            case server.InputAudioBufferSpeechStarted():
                now = self._clock()
                turn = self._begin_turn(now)
                turn.speech = turn.span.begin_child("speech", at_s=now)
            case server.InputAudioBufferSpeechStopped() if self._turn is not None:
                self._end_speech(self._clock())
            case server.ResponseCreated(response=response):
                self._begin_answer(response)
            case server.OutputAudioBufferStarted():
                self._hear(is_played=True)
            case server.OutputAudioTranscriptDelta() | server.OutputAudioDone():
                self._hear(is_played=False)
            case server.OutputAudioBufferStopped(response_id=response_id):
                self._end_sound(response_id, is_cut=False)
            case server.OutputAudioBufferCleared(response_id=response_id):
                self._end_sound(response_id, is_cut=True)
            case server.ResponseDone(response=response):
                self._end_answer(response)
            case server.InputAudioTranscriptionCompleted(transcript=said) if self._has_content:
                span = self._span if self._turn is None else self._turn.span
                span.set({"gen_ai.input.messages": _messages("user", said)})
            case server.OutputAudioTranscriptDone(transcript=said) if self._has_content:
                self._tell_answer(said)
            case server.OutputTextDone(text=said) if self._has_content:
                self._tell_answer(said)

    def sound(self, track: TrackName, audio_format: AudioFormat, pcm: bytes, timestamp: int) -> None:
        """Does nothing, because this consumer asks for no sound."""

    def ended(self, error: Exception | None) -> None:
        """Does nothing, because followers of all calls are told when a call closes."""

    def listed(self) -> ListenerStats | None:
        """Returns None, because this is no listener."""
        return None

    # Stages

    def _begin_turn(self, now: float) -> _Turn:
        if self._turn is not None and self._turn.is_heard and not self._turn.is_played and self._is_played_here:
            self._turn.span.set({"bridge.turn.is_cut": True})  # whoever speaks now has cut it
        self._end_turn(now)
        self._turns += 1
        self._turn = _Turn(self._span.begin_child("turn", at_s=now, attributes={"bridge.turn.number": self._turns}))
        return self._turn

    def _end_speech(self, now: float) -> None:
        turn = self._turn
        if turn is None or turn.speech is None:
            return
        turn.speech.end(at_s=now)
        turn.speech = None
        turn.wait = turn.span.begin_child("wait", at_s=now, is_client=True)

    def _begin_answer(self, response: Response) -> None:
        now = self._clock()
        turn = self._turn
        if turn is None or turn.chat is not None:
            turn = self._begin_turn(now)
        self._end_speech(now)  # if a client has ended the turn, no event tells the end of speech
        turn.response_id = response.id
        session = self._session
        model = str(session.state.session.get("model") or session.info.model)
        upstream = session.stats().upstream.name
        turn.chat = turn.span.begin_child(
            f"chat {model}",
            at_s=now,
            is_client=True,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "bridge" if upstream == _ENGINE else "openai",
                "gen_ai.request.model": model,
                "gen_ai.response.id": response.id,
                "gen_ai.conversation.id": session.info.session_id,
                "gen_ai.output.type": "speech" if "audio" in response.output_modalities else "text",
                "bridge.upstream.name": upstream or None,
                "gen_ai.system_instructions": self._instructions() if self._has_content else None,
            },
        )

    def _instructions(self) -> str | None:
        said = self._session.state.session.get("instructions")
        return _written([{"type": "text", "content": str(said)}]) if said else None

    def _tell_answer(self, said: str) -> None:
        if self._turn is not None and self._turn.chat is not None:
            self._turn.chat.set({"gen_ai.output.messages": _messages("assistant", said)})

    def _hear(self, *, is_played: bool) -> None:
        """Notes that the caller hears the answer.

        A client that plays for itself does not say when, so its first word counts.
        """
        turn = self._turn
        if turn is None:
            return
        turn.has_sound = True
        if turn.is_heard or is_played is not self._is_played_here:
            return
        now = self._clock()
        turn.is_heard = True
        turn.span.note("first sound", at_s=now)
        if turn.wait is not None:
            turn.wait.end(at_s=now)
            turn.wait = None

    def _end_sound(self, response_id: str, *, is_cut: bool) -> None:
        turn = self._turn
        if turn is None or turn.response_id != response_id:
            return
        turn.is_played = True
        if is_cut:
            turn.span.set({"bridge.turn.is_cut": True})
        if turn.chat is None:
            self._end_turn(self._clock())

    def _end_answer(self, response: Response) -> None:
        turn = self._turn
        if turn is None or turn.chat is None or turn.response_id != response.id:
            return
        now = self._clock()
        usage = response.usage
        turn.chat.set(
            {
                "gen_ai.response.finish_reasons": (_finish_reason(response),),
                "gen_ai.usage.input_tokens": None if usage is None else usage.input_tokens,
                "gen_ai.usage.output_tokens": None if usage is None else usage.output_tokens,
            }
        )
        turn.chat.end(at_s=now, error="response_failed" if response.status == "failed" else None)
        turn.chat = None
        if turn.is_played or not turn.has_sound or not self._is_played_here:
            self._end_turn(now)

    def _end_turn(self, now: float, *, error: str | None = None) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        open_stages = [stage for stage in (turn.speech, turn.wait, turn.chat) if stage is not None]
        for stage in open_stages:
            stage.end(at_s=now, error=error)
        turn.span.end(at_s=now, error=error if open_stages else None)


def _finish_reason(response: Response) -> str:
    """Returns why a response ended, in the words of the conventions if they have one."""
    return {"completed": "stop", "failed": "error", "incomplete": "length"}.get(response.status, response.status)


def _messages(role: str, said: str) -> str:
    return _written([{"role": role, "parts": [{"type": "text", "content": said}]}])


def _written(value: Any) -> str:
    return msgspec.json.encode(value).decode()
