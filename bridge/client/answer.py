"""The answer in a call: follows the call's events and its sound until the answer is complete.

    waiting ──response.created──▶ being made ──response.done──▶ being heard ──▶ complete
       ▲                              │ cancelled: the caller went on speaking
       └──────────────────────────────┘

Over a WebSocket ``response.done`` is the end. Over WebRTC the server plays the answer and says when: the end is
``output_audio_buffer.stopped``, or a second of silence with servers that never say it. Every method that needs
the time gets it as ``now``. Nothing here waits.
"""

from dataclasses import dataclass
from typing import Any

from bridge.client.answer_sound import AnswerSound

__all__ = ["Answer", "AnsweredFunctionCall"]

_SETTLE_S = 2.0  # an answer that began before the caller had finished may be followed by another
_AUDIO_EVENTS = ("response.output_audio", "response.audio")


@dataclass(frozen=True, slots=True)
class AnsweredFunctionCall:
    """A function that the model wants to be called; ``arguments`` is JSON text."""

    name: str
    arguments: str


class Answer:
    """The answer of one call. ``is_paced`` says that sound arrives as it is played, as over WebRTC."""

    def __init__(self, *, is_paced: bool) -> None:
        self.text = ""
        self.function_calls: dict[str, AnsweredFunctionCall] = {}
        self.failure = self.failure_code = ""
        self.spoken_at: float | None = None
        """When the caller had finished; None before."""
        self._sound = AnswerSound(is_paced=is_paced)
        self._status = ""
        self._is_active = False
        self._caller_speaks = False
        self._was_noticed = False
        self._claims_sound = False
        self._created_at = self._done_at = 0.0

    @property
    def heard_at(self) -> float | None:
        """When the latest response was first heard; None before."""
        return self._sound.heard_at

    @property
    def pcm(self) -> bytes:
        """The sound that was heard, PCM16 24 kHz mono, without the silence around it."""
        return self._sound.pcm

    @property
    def heard_ms(self) -> int:
        """How much there is to hear so far, in milliseconds."""
        return self._sound.heard_ms

    @property
    def flaw(self) -> str:
        """Why the complete response is no answer all the same; empty if it is one."""
        if self._claims_sound and not self._sound.has_begun:
            return "The server says that it spoke, but no sound arrived."
        return "" if self.pcm or self.text or self.function_calls else "The server's response is empty."

    @property
    def wants_to_hear(self) -> bool:
        """Whether the caller's silence still has to be sent, so that the server can tell that the turn is over."""
        return not self._is_active

    def finish_speaking(self, now: float) -> None:
        """Notes that the caller has said everything."""
        self.spoken_at = now

    def receive_audio(self, pcm: bytes, now: float) -> None:
        """Takes a piece of sound."""
        self._sound.receive_answer_sound(pcm, now)

    def receive_event(self, event: dict[str, Any], now: float) -> None:
        """Takes a server event."""
        if event["type"].startswith(_AUDIO_EVENTS):
            self._claims_sound = True
        match event:
            case {"type": "input_audio_buffer.speech_started"}:
                self._caller_speaks = self._was_noticed = True
            case {"type": "input_audio_buffer.speech_stopped"}:
                self._caller_speaks = False
            case {"type": "response.created"}:
                self._is_active, self._status, self._created_at = True, "", now
                self._sound.expect()
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
                self._sound.started(now)
            case {"type": "output_audio_buffer.stopped" | "output_audio_buffer.cleared"}:
                self._sound.stopped(now)

    def is_complete(self, now: float) -> bool:
        """Returns whether everything was said, and everything was heard."""
        if self.failure:
            return True
        if self.spoken_at is None or self._is_active or self._caller_speaks or self._status in ("", "cancelled"):
            return False
        if self._created_at < self.spoken_at and now - max(self.spoken_at, self._done_at) < _SETTLE_S:
            return False
        if self.function_calls or (self.text and not self._claims_sound):
            return True
        return self._sound.is_heard(now, done_at=self._done_at)

    def what_is_missing(self, *, had_sound: bool) -> str:
        """Returns why the answer is not complete, for a caller whose patience ended."""
        if self.spoken_at is None:
            return "the sound was still being spoken"
        if had_sound and not (self._was_noticed or self._created_at):
            return "the server detected no speech, or its turn detection is off"
        if self._caller_speaks:
            return "the server believes that the caller is still speaking"
        if not self._created_at:
            return "the server started no response"
        if self._is_active:
            return "the server did not finish its response"
        return "the response was cancelled" if self._status == "cancelled" else "the answer was still being played"

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
