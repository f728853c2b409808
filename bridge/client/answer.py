"""What comes back in a call: follows its events and its sound to the moment where the answer is complete.

    waiting ──response.created──▶ being made ──response.done──▶ being heard ──▶ complete
       ▲                              │ cancelled: the caller went on speaking
       └──────────────────────────────┘

Over a WebSocket ``response.done`` is the end. Over WebRTC the server plays the answer and says when: the end is
``output_audio_buffer.stopped``, or a second of silence with servers that never say it. Takes ``now``, never waits.
"""

from dataclasses import dataclass
from typing import Any

from bridge.client.sound import BYTES_PER_MS, is_silent, sounding_end

__all__ = ["Answer", "AnsweredFunctionCall"]

_DRAIN_S = 0.2  # sound that is still on its way when the server says that it has stopped
_SILENCE_S = 1.0
_SETTLE_S = 2.0  # an answer that began before the caller had finished may be followed by another
_LEAD_BYTES = 100 * BYTES_PER_MS  # sound may be so much earlier than the event that announces it
_AUDIO_EVENTS = ("response.output_audio", "response.audio")


@dataclass(frozen=True, slots=True)
class AnsweredFunctionCall:
    """A function that the model wants called; ``arguments`` is JSON text."""

    name: str
    arguments: str


class Answer:
    """The answer of one call. ``is_paced``: sound arrives as it is played, as over WebRTC."""

    def __init__(self, *, is_paced: bool) -> None:
        self.text = ""
        self.function_calls: dict[str, AnsweredFunctionCall] = {}
        self.failure = self.failure_code = ""
        self.heard_at: float | None = None
        """When the latest response was first heard."""
        self.spoken_at: float | None = None
        """When the caller had finished."""
        self._is_paced = is_paced
        self._sound = bytearray()
        self._start: int | None = None
        self._stop = 0
        self._from: int | None = None
        self._status = ""
        self._is_active = False
        self._caller_speaks = False
        self._was_noticed = False
        self._claims_sound = False
        self._is_announced = False
        self._is_playing = False
        self._created_at = self._done_at = self._played_at = self._loud_at = 0.0

    @property
    def pcm(self) -> bytes:
        """What was heard, PCM16 24 kHz mono, without the silence around it."""
        if not self._is_paced:
            return bytes(self._sound)
        if self._start is None:
            return b""
        heard = bytes(self._sound[self._start :])
        return heard[: max(self._stop - self._start, sounding_end(heard))]

    @property
    def heard_ms(self) -> int:
        """How much there is to hear so far."""
        return 0 if self._start is None else (len(self._sound) - self._start) // BYTES_PER_MS

    @property
    def flaw(self) -> str:
        """Why what is complete is no answer all the same; nothing where it is one."""
        if self._claims_sound and self._start is None:
            return "The server says that it spoke, but no sound of it arrived."
        return "" if self.pcm or self.text or self.function_calls else "The server's response is empty."

    @property
    def wants_to_hear(self) -> bool:
        """The caller's silence still has to be sent, so that the server can tell that the turn is over."""
        return not self._is_active

    def finish_speaking(self, now: float) -> None:
        """The caller has said everything."""
        self.spoken_at = now

    def receive_audio(self, pcm: bytes, now: float) -> None:
        """A piece of sound came."""
        at = len(self._sound)
        self._sound += pcm
        if not self._is_paced:
            self._begin_to_hear(at, now)
        elif not is_silent(pcm):
            self._loud_at = now
            if self._from is not None:
                self._begin_to_hear(max(self._from, at), now)

    def receive_event(self, event: dict[str, Any], now: float) -> None:
        """A server event came."""
        if event["type"].startswith(_AUDIO_EVENTS):
            self._claims_sound = True
        match event:
            case {"type": "input_audio_buffer.speech_started"}:
                self._caller_speaks = self._was_noticed = True
            case {"type": "input_audio_buffer.speech_stopped"}:
                self._caller_speaks = False
            case {"type": "response.created"}:
                self._is_active, self._status, self._created_at = True, "", now
                self.heard_at = None
                if self._from is None:
                    self._from = max(0, len(self._sound) - _LEAD_BYTES)
            case {"type": "response.output_text.done" | "response.text.done", "text": str(text)}:
                self.text = text
            case {
                "type": "response.output_audio_transcript.done" | "response.audio_transcript.done",
                "transcript": str(text),
            }:
                self.text = text
            case {"type": "response.output_item.done", "item": item}:
                self._take_item(item)
            case {"type": "response.done", "response": dict(response)}:
                self._finish(response, now)
            case {"type": "output_audio_buffer.started"}:
                self._is_announced = self._is_playing = True
                self._begin_to_hear(len(self._sound), now)
            case {"type": "output_audio_buffer.stopped" | "output_audio_buffer.cleared"}:
                self._is_playing, self._played_at, self._stop = False, now, len(self._sound)

    def is_complete(self, now: float) -> bool:
        """Everything was said, and everything was heard."""
        if self.failure:
            return True
        if self.spoken_at is None or self._is_active or self._caller_speaks or self._status in ("", "cancelled"):
            return False
        if self._created_at < self.spoken_at and now - max(self.spoken_at, self._done_at) < _SETTLE_S:
            return False
        if not self._is_paced or self.function_calls or (self.text and not self._claims_sound):
            return True
        if self._is_announced:
            return not self._is_playing and now - max(self._done_at, self._played_at) >= _DRAIN_S
        return now - max(self._done_at, self._loud_at) >= _SILENCE_S

    def what_is_missing(self, *, had_sound: bool) -> str:
        """Why the answer is not complete, for a caller whose patience ended."""
        if self.spoken_at is None:
            return "the sound was still being spoken"
        if had_sound and not (self._was_noticed or self._created_at):
            return "the server noticed no speech, or its turn detection is off"
        if self._caller_speaks:
            return "the server believes that the caller still speaks"
        if not self._created_at:
            return "the server began no response"
        if self._is_active:
            return "the server did not finish its response"
        return "the response was cancelled" if self._status == "cancelled" else "the answer was still being played"

    def _begin_to_hear(self, at: int, now: float) -> None:
        if self.heard_at is None:
            self.heard_at = now
        if self._start is None:
            self._start = at

    def _take_item(self, item: object) -> None:
        match item:
            case {"type": "function_call", "call_id": str(call_id), "name": str(name), "arguments": str(arguments)}:
                self.function_calls[call_id] = AnsweredFunctionCall(name, arguments)

    def _finish(self, response: dict[str, Any], now: float) -> None:
        self._is_active, self._done_at = False, now
        self._status = str(response.get("status") or "completed")
        for item in response.get("output") or []:
            self._take_item(item)
        if self._status == "failed":
            self.failure_code = "response_failed"
            self.failure = "The response failed, and the server gave no reason."
            match response.get("status_details"):
                case {"error": {"message": str(reason)} as error} | {"error": {"code": str(reason)} as error}:
                    self.failure = f"The response failed: {reason}"
                    self.failure_code = str(error.get("code") or self.failure_code)
