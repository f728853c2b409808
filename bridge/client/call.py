"""One call to a Realtime server: it says something, waits for the answer, and knows how it went."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from bridge.client.address import DEFAULT_URL, CallFailed, parse_address
from bridge.client.answer import Answer, AnsweredFunctionCall
from bridge.client.change_signal import ChangeSignal
from bridge.client.lines import ClientLine, ClientWebRtcLine, SocketLine
from bridge.client.listening import HeardSound, Listening
from bridge.client.sound import BYTES_PER_MS, sounding_end

__all__ = ["Call", "Plan", "Summary", "Watcher"]

_PATIENCE_S = 60.0
_LISTENER_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call is to do."""

    url: str = DEFAULT_URL
    transport: Literal["webrtc", "websocket"] = "webrtc"
    model: str | None = None
    """The model; None stands for the one in the URL, or else ``gpt-realtime``."""
    api_key: str | None = field(default=None, repr=False)
    pcm: bytes = field(default=b"", repr=False)
    """The sound that is spoken, PCM16 24 kHz mono."""
    text: str | None = None
    """The text that is typed. Without ``pcm`` it is answered at once."""
    instructions: str | None = None
    listen: bool = False
    """Whether a WebSocket listener is attached to the call, to see what it gets."""
    timeout_s: float | None = None
    """How long the whole call may take; None stands for a minute more than the sound."""

    @property
    def sound_s(self) -> float:
        """How long it takes to speak the sound, in seconds."""
        return len(self.pcm) / BYTES_PER_MS / 1000


@dataclass(frozen=True, slots=True)
class Summary:
    """How a call went. Fields are None if the call did not come that far."""

    result: str
    """``answered``, ``function_call`` or ``failed``."""
    transport: str
    call_id: str | None
    connect_ms: int | None
    """The time from the first request to the open data channel, or to ``session.created``."""
    first_audio_ms: int | None
    """The time from the last audible sound of the caller to the first of the answer."""
    spoken_s: float
    """How much of the sound had been said by the end of the call, in seconds."""
    answer_s: float
    text: str
    """The text of the answer, or its transcript."""
    function_calls: list[AnsweredFunctionCall]
    events: int
    packets: int | None
    """The number of packets that arrived; None for a WebSocket, which has none."""
    lost: int | None
    jitter_ms: float | None
    sent: int | None
    listener: HeardSound | None
    error: str | None


class Watcher(Protocol):
    """Watches a call, to show it to a person."""

    def event(self, at_s: float, event: dict[str, Any], *, is_ours: bool) -> None:
        """An event was sent, or has come."""
        ...

    def note(self, at_s: float, text: str) -> None:
        """Something happened that is no event."""
        ...

    def progress(self, stage: Literal["speaking", "listening"], done_s: float, total_s: float | None) -> None:
        """This much of the sound has been spoken, or heard."""
        ...


class Call:
    """One call. ``run`` makes it, once.

    The sound is in ``answer.pcm``. ``summary`` is there also after a failure.
    """

    def __init__(self, plan: Plan, watcher: Watcher | None = None) -> None:
        self.plan = plan
        self.address = parse_address(plan.url, plan.model)
        self._line: ClientLine = ClientWebRtcLine(self) if plan.transport == "webrtc" else SocketLine(self)
        self.answer = Answer(is_paced=self._line.is_paced)
        self._watcher = watcher
        self._listening: Listening | None = None
        self._events = 0
        self._spoken_ms = 0
        self._sent_ids: set[str] = set()
        self._connect_ms: int | None = None
        self._failure = ""
        self._complaint = ""  # the server's last one
        self._is_answered = False
        self._began = 0.0
        self._changes = ChangeSignal()

    async def run(self) -> Summary:
        """Makes the call, from the first request to the end of the answer; raises ``CallFailed`` if there is none."""
        plan = self.plan
        self._began = self._now()
        limit_s = plan.timeout_s if plan.timeout_s is not None else plan.sound_s + _PATIENCE_S
        try:
            async with asyncio.timeout(limit_s) as limit:
                async with self._line.open(self.address, plan.api_key, sound_s=plan.sound_s):
                    self._connect_ms = round(1000 * (self._now() - self._line.requested_at))
                    self._note(f"connected over {plan.transport}")
                    await self._converse()
        except TimeoutError:
            if not limit.expired():
                raise
            why = "the call did not connect" if self._connect_ms is None else self._what_is_missing()
            self._failure = f"There was no complete answer within {limit_s:g} s: {why}."
        except CallFailed as failure:
            self._failure = self._failure or failure.message
        self._failure = self._failure or self.answer.flaw
        if self._failure:
            raise CallFailed(self._failure)
        self._is_answered = True
        return self.summary()

    def summary(self) -> Summary:
        """Returns how the call went, as far as it went."""
        answer = self.answer
        heard_at, spoken_at = answer.heard_at, answer.spoken_at
        first_audio_ms = None
        if heard_at is not None and spoken_at is not None and heard_at >= spoken_at:
            first_audio_ms = round(1000 * (heard_at - spoken_at))
        figures = self._line.describe()
        return Summary(
            result="failed" if not self._is_answered else "function_call" if answer.function_calls else "answered",
            transport=self.plan.transport,
            call_id=self._line.call_id,
            connect_ms=self._connect_ms,
            first_audio_ms=first_audio_ms,
            spoken_s=round(self._spoken_ms / 1000, 2),
            answer_s=round(len(answer.pcm) / BYTES_PER_MS / 1000, 2),
            text=answer.text,
            function_calls=list(answer.function_calls.values()),
            events=self._events,
            packets=figures.get("packets"),
            lost=figures.get("lost"),
            jitter_ms=figures.get("jitter_ms"),
            sent=figures.get("sent"),
            listener=self._listening.heard if self._listening is not None else None,
            error=self._failure or None,
        )

    # The conversation

    async def _converse(self) -> None:
        plan = self.plan
        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(self._line.read())]
            if plan.listen:
                self._listening = await self._listen(tasks, workers)
            if plan.instructions is not None:
                session = {"type": "realtime", "instructions": plan.instructions}
                await self._send({"type": "session.update", "session": session})
            if plan.text is not None:
                content = [{"type": "input_text", "text": plan.text}]
                item = {"type": "message", "role": "user", "content": content}
                await self._send({"type": "conversation.item.create", "item": item})
            if plan.pcm:
                end = sounding_end(plan.pcm) or len(plan.pcm)
                workers.append(tasks.create_task(self._line.play_caller_audio(plan.pcm[:end], plan.pcm[end:])))
            else:
                await self._send({"type": "response.create"})
                self.spoken()
            await self._wait_complete()
            for worker in workers:
                worker.cancel()

    async def _listen(self, tasks: asyncio.TaskGroup, workers: list[asyncio.Task[None]]) -> Listening:
        """Attaches a listener before the first word, so that it can be expected to hear all words."""
        call_id = self._line.call_id
        listening = Listening(self.address.listener(call_id or ""), self.plan.api_key)
        if call_id is None:
            listening.heard.note = "no listener could be attached: the server gave this call no ID"
            return listening
        workers.append(tasks.create_task(listening.run()))
        with suppress(TimeoutError):
            async with asyncio.timeout(_LISTENER_TIMEOUT_S):
                await listening.is_settled.wait()
        self._note(f"listener: {listening.heard.note}" if listening.heard.note else "listener attached")
        return listening

    async def _send(self, event: dict[str, Any]) -> None:
        event_id = f"call_{len(self._sent_ids) + 1}"
        self._sent_ids.add(event_id)
        event = {"event_id": event_id, **event}
        if self._watcher is not None:
            self._watcher.event(self._now() - self._began, event, is_ours=True)
        await self._line.send_client_event(event)

    async def _wait_complete(self) -> None:
        await self._changes.until(self._is_over)
        self._failure = self._failure or self.answer.failure

    def _is_over(self) -> bool:
        if self._watcher is not None and self.answer.heard_ms:
            self._watcher.progress("listening", self.answer.heard_ms / 1000, None)
        return bool(self._failure) or self.answer.is_complete(self._now())

    def _what_is_missing(self) -> str:
        return self.answer.what_is_missing(had_sound=bool(self.plan.pcm))

    # The line's reports

    def receive_event(self, event: dict[str, Any]) -> None:
        """Takes a server event."""
        self._events += 1
        if self._watcher is not None:
            self._watcher.event(self._now() - self._began, event, is_ours=False)
        self.answer.receive_event(event, self._now())
        error = event.get("error")
        if event["type"] == "error" and isinstance(error, dict):
            self._complaint = str(error.get("message"))
            if error.get("event_id") in self._sent_ids:
                self._failure = f"The server refused an event: {self._complaint}"
        self._changes.notify()

    def receive_audio(self, pcm: bytes) -> None:
        """Takes a piece of sound."""
        self.answer.receive_audio(pcm, self._now())

    def speaking(self, spoken_ms: int) -> None:
        """Notes how much of the sound has been spoken."""
        self._spoken_ms = spoken_ms
        if self._watcher is not None and self.answer.spoken_at is None:
            self._watcher.progress("speaking", spoken_ms / 1000, self.plan.sound_s)

    def spoken(self) -> None:
        """Notes that everything has been said."""
        self._spoken_ms = round(1000 * self.plan.sound_s)
        self.answer.finish_speaking(self._now())
        if self.plan.pcm:
            self._note("finished speaking")

    def wants_silence(self) -> bool:
        """Returns whether the server still has to hear that the caller is silent."""
        return self.answer.wants_to_hear

    def line_lost(self, message: str, code: str) -> None:
        """Notes that the line is down."""
        if not self.answer.is_complete(self._now()):
            self._failure = self._failure or (f"{message} {self._complaint}" if self._complaint else message)
        self._changes.notify()

    def _note(self, text: str) -> None:
        if self._watcher is not None:
            self._watcher.note(self._now() - self._began, text)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
