"""A Live session as a service would keep it, without a transport: strict about what it is asked, and a parrot.

Written from descriptions of the protocol, and from nothing of the bridge. Its time passes with the sound that it hears:
for each piece it gives as much of its own, silence if it has nothing to say. What was said to it before a pause of
0.6 s it says again, with made-up words.
"""

import base64
import io
import itertools
import wave
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["LiveModel", "Refused", "error_object"]

Event = dict[str, Any]

_OF_ALL = {"model", "instructions", "input", "audio", "delegation", "triggers", "store", "safety_identifier", "client"}
_FIELDS = {
    "websocket": _OF_ALL,
    "webrtc": {*_OF_ALL, "idle_timeout_s", "wake_policy"},
    "fork": {"store", "audio", "delegation"},
}
_LOUD = 500.0
_PAUSE_MS = 600
_FRAME_MS = 20
_WORDS_EACH_MS = 400
_USAGE_EACH_MS = 1000
_numbers = itertools.count(1)


class Refused(Exception):
    """What the service answers with an error."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def error_object(error: Refused) -> Event:
    """The error as the protocol has it."""
    return {"type": "invalid_request_error", "code": error.code, "message": error.message, "param": error.param}


class LiveModel:
    """One session. ``say`` takes each event, ``speak`` each piece of sound (PCM16 at ``rate_hz``)."""

    def __init__(
        self,
        session: Any,
        *,
        transport: str,
        say: Callable[[Event], None],
        speak: Callable[[bytes], None],
        parent: "LiveModel | None" = None,
    ) -> None:
        """Raises ``Refused`` for what a service would not start."""
        self.id = f"live_theirs{next(_numbers)}"
        self.session = _checked(session, "fork" if parent is not None else transport)
        self.transport = transport
        self.is_closed = False
        self.events: list[Event] = []
        """What clients have sent, sound excepted."""
        self.heard = bytearray()
        self.said = bytearray()
        self.parent = parent
        self._say = say
        self._speak = speak
        self._is_muted = False
        self._turn = bytearray()
        self._quiet_ms = 0
        self._answer = bytearray()
        self._answer_at = 0
        self._calls: set[str] = set()
        self._reported_ms = 0

    @property
    def rate_hz(self) -> int:
        """The rate of its PCM16."""
        audio_format = self.session.get("audio", {}).get("format", {})
        return int(audio_format.get("rate", 24_000))

    @property
    def ms(self) -> int:
        """The model's time."""
        return len(self.heard) // 2 * 1000 // self.rate_hz

    @property
    def resource(self) -> Event:
        """The session as events show it."""
        shown = {"instructions": None, "input": [], "store": False, **self.session}
        if self.parent is not None:
            shown = {**self.parent.session, **shown}
        audio = {"output": {"voice": "marin"}, **shown.get("audio", {})}
        if self.transport == "websocket":
            audio.setdefault("format", {"type": "audio/pcm", "rate": 24_000})
        shown.setdefault("delegation", {"type": "client"})
        return {**shown, "audio": audio, "id": self.id, "expires_at": 1, "status": "active"}

    @property
    def recording(self) -> bytes:
        """A stereo WAV: what it heard on the left, what it said on the right."""
        length = max(len(self.heard), len(self.said)) // 2
        sides = np.zeros((length, 2), np.int16)
        for side, pcm in enumerate((self.heard, self.said)):
            sides[: len(pcm) // 2, side] = np.frombuffer(bytes(pcm), np.int16)
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(2)
            out.setsampwidth(2)
            out.setframerate(self.rate_hz)
            out.writeframes(sides.tobytes())
        return file.getvalue()

    def tell(self, kind: str, *, asked_by: Event | None = None, **fields: Any) -> None:
        """Says an event."""
        body: Event = {"type": kind, "event_id": f"event_theirs{next(_numbers)}", **fields}
        if asked_by is not None and asked_by.get("event_id") is not None:
            body["client_event_id"] = asked_by["event_id"]
        self._say(body)

    def start(self, asked_by: Event | None = None) -> None:
        """The session starts."""
        self.tell("session.started", asked_by=asked_by, session=self.resource)

    # What clients say

    def take(self, event: Event) -> None:
        """Takes a client event."""
        try:
            self._take(event)
        except Refused as error:
            said = {**error_object(error), "client_event_id": event.get("event_id")}
            self.tell("error", asked_by=event, error=said)

    def _take(self, event: Event) -> None:
        kind = event.get("type")
        if kind == "session.input_audio.append":
            if self.transport != "websocket":
                raise Refused("invalid_event", "Sound comes on the track.", "type")
            sound = base64.b64decode(event["audio"], validate=True)
            if len(sound) % 2:
                raise Refused("invalid_audio", "Half a sample.", "audio")
            self.hear(sound)
            return
        self.events.append(event)
        match kind:
            case "session.update":
                self._update(event)
            case "session.input_audio.mute" | "session.input_audio.unmute":
                self._is_muted = kind.endswith(".mute")
                self.tell(f"{kind}d", asked_by=event)
            case "session.instructions.append" | "session.thinking.append" | "session.commentary.append":
                if "delegation_id" not in event:
                    raise Refused("missing_required_parameter", "Missing delegation_id.", "delegation_id")
                self.tell(f"{kind}ed", asked_by=event, start_ms=self.ms, end_ms=self.ms)
                if kind == "session.commentary.append":
                    self._answer += _tone(self.rate_hz)
            case "response.item.create":
                item = event["item"]
                if item["type"] == "function_call_output":
                    self._calls.discard(item["call_id"])
            case "response.create":
                if self._calls:
                    raise Refused("function_call_outputs_required", f"{len(self._calls)} calls wait.")
                self._tell_backend({"type": "response.completed", "response": {"id": "resp_theirs", "output": []}})
                self._answer += _tone(self.rate_hz)
            case "session.close":
                self.close("close_requested", asked_by=event)
            case _:
                raise Refused("unknown_event", f"Unknown event type {kind}.", "type")

    def _update(self, event: Event) -> None:
        for name in event["session"]:
            if name not in ("delegation", "triggers"):
                raise Refused("immutable_field_update", f"{name} cannot be changed.", f"session.{name}")
        delegation = {**self.session.get("delegation", {}), **event["session"].get("delegation", {})}
        self.session["delegation"] = delegation
        self.tell("session.updated", asked_by=event, session=self.resource)

    def close(self, reason: str, asked_by: Event | None = None) -> None:
        """The session ends."""
        if not self.is_closed:
            self.is_closed = True
            self.tell("session.closed", asked_by=asked_by, reason=reason, session=self.resource, usage=self._usage)

    @property
    def _usage(self) -> Event:
        return {"seconds": self.ms / 1000}

    # Sound

    def hear(self, pcm: bytes) -> None:
        """Takes sound, and gives as much."""
        if self.is_closed:
            return
        frame_bytes = 2 * self.rate_hz * _FRAME_MS // 1000
        for at in range(0, len(pcm), frame_bytes):
            self._hear_frame(pcm[at : at + frame_bytes])

    def _hear_frame(self, frame: bytes) -> None:
        self.heard += bytes(len(frame)) if self._is_muted else frame
        samples = np.frombuffer(frame, np.int16).astype(np.float64)
        is_loud = not self._is_muted and bool(len(samples)) and float(np.sqrt(np.mean(samples**2))) > _LOUD
        if is_loud or self._turn:
            self._turn += frame
            self._quiet_ms = 0 if is_loud else self._quiet_ms + _FRAME_MS
        if self._turn and self._quiet_ms >= _PAUSE_MS:
            self._end_turn()
        piece = bytes(self._answer[self._answer_at : self._answer_at + len(frame)])
        if piece:
            if self._answer_at // 2 * 1000 // self.rate_hz % _WORDS_EACH_MS < _FRAME_MS:
                self.tell("session.output_transcript.delta", delta="squawk ", start_ms=self.ms, end_ms=self.ms + 200)
            self._answer_at += len(piece)
        elif self._answer:
            self._answer.clear()
            self._answer_at = 0
        piece += bytes(len(frame) - len(piece))
        self.said += piece
        self._speak(piece)
        if self.ms - self._reported_ms >= _USAGE_EACH_MS:
            self._reported_ms = self.ms
            self.tell("session.usage.updated", usage=self._usage)

    def _end_turn(self) -> None:
        spoken = bytes(self._turn[: -2 * self.rate_hz * _PAUSE_MS // 1000])
        start_ms = self.ms - len(self._turn) // 2 * 1000 // self.rate_hz
        self._turn.clear()
        self._quiet_ms = 0
        self.tell("session.input_transcript.delta", delta="words ", start_ms=start_ms, end_ms=start_ms + 200)
        self.tell("session.input_transcript.delta", delta="words", start_ms=start_ms + 200, end_ms=start_ms + 400)
        delegation = self.session.get("delegation") or {}
        if delegation.get("type") == "responses":
            self._call(delegation.get("responses", {}).get("tools") or [])
        self._answer += spoken

    def _call(self, tools: list[Event]) -> None:
        """The backend model calls the first function that it has."""
        for tool in tools[:1]:
            call_id = f"call_theirs{next(_numbers)}"
            self._calls.add(call_id)
            item = {"type": "function_call", "id": "fc_1", "call_id": call_id, "name": tool["name"], "arguments": "{}"}
            delegation = {"id": "dlg_1", "type": "delegation", "target": "responses", "response_id": "resp_theirs"}
            self.tell("session.delegation.created", delegation=delegation, offset_ms=self.ms)
            self._tell_backend({"type": "response.output_item.done", "output_index": 0, "item": item})

    def _tell_backend(self, event: Event) -> None:
        self.tell("response.event", event={"sequence_number": next(_numbers), **event}, delegation_id="dlg_1")


def _tone(rate_hz: int) -> bytes:
    at = np.arange(rate_hz // 2) / rate_hz
    return (8000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16).tobytes()


def _checked(session: Any, kind: str) -> Event:
    """The session, if a service would take it."""
    if not isinstance(session, Mapping):
        raise Refused("missing_required_parameter", "Missing required parameter: 'session'.", "session")
    for name in session:
        if name not in _FIELDS[kind]:
            raise Refused("unknown_parameter", f"Unknown parameter: 'session.{name}'.", f"session.{name}")
    if kind != "fork" and not str(session.get("model", "")).startswith("gpt-live"):
        raise Refused("invalid_model", f"Not a Live model: {session.get('model')!r}.", "session.model")
    audio = session.get("audio", {})
    if kind == "webrtc" and "format" in audio:
        raise Refused("unknown_parameter", "Unknown parameter: 'session.audio.format'.", "session.audio.format")
    audio_format = audio.get("format", {"type": "audio/pcm", "rate": 24_000})
    if audio_format.get("type") != "audio/pcm" or audio_format.get("rate", 24_000) not in (16_000, 24_000):
        raise Refused("invalid_value", "This service takes PCM only.", "session.audio.format")
    return dict(session)
