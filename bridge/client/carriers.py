"""The other end of each carrier dialect, as the carriers' references have it: buffers, marks, flow control, complaints.

Pure, like the dialects: ``speak``, ``press``, ``receive`` and ``play`` return the messages that go to the bridge. What
the bridge does wrong is kept in ``complaints``, by the carrier's own number or name for it.
"""

import json
from binascii import b2a_base64
from collections import deque
from typing import Any, Protocol

from bridge.telephony.dialect import decode_sound
from bridge.wire.audio import G711_ALAW, G711_ULAW, AudioFormat

__all__ = ["FRAME_MS", "Buffer", "SimulatedCarrier", "TelnyxCarrier", "TwilioCarrier", "silence_of"]

FRAME_MS = 20
_MAX_QUEUED_MS = 600_000  # Twilio's; of Telnyx's nothing is known
_MIN_TELNYX_MS, _MAX_TELNYX_MS = 20, 30_000
_SILENCE = {G711_ULAW: b"\xff", G711_ALAW: b"\xd5"}
_FIELDS = {
    "media": ({"event", "streamSid", "media"}, "media", {"payload"}),
    "mark": ({"event", "streamSid", "mark"}, "mark", {"name"}),
    "clear": ({"event", "streamSid"}, "", set()),
}


class SimulatedCarrier(Protocol):
    """A carrier with one call; the caller's sound is in its ``audio_format``, and the bridge's in ``answer_format``."""

    audio_format: AudioFormat
    answer_format: AudioFormat
    complaints: list[str]
    has_hung_up: bool
    """The bridge has ended the call."""

    @property
    def late_frames(self) -> int:
        """Frames that were not there in time, though more of the same answer came."""
        ...

    def start(self) -> list[str | bytes]:
        """What it says when it is connected."""
        ...

    def speak(self, sound: bytes) -> list[str | bytes]:
        """20 ms of the caller's sound."""
        ...

    def press(self, key: str) -> list[str | bytes]:
        """The caller presses a key."""
        ...

    def receive(self, message: str | bytes) -> list[str | bytes]:
        """What the bridge says, and the answer to it."""
        ...

    def play(self) -> tuple[bytes, list[str | bytes]]:
        """20 ms pass: what the caller hears, and what there is to tell the bridge about it."""
        ...

    def hang_up(self) -> list[str | bytes]:
        """The caller hangs up; closing follows."""
        ...


def silence_of(audio_format: AudioFormat) -> bytes:
    """20 ms without sound."""
    return _SILENCE.get(audio_format, b"\0") * audio_format.size_of(FRAME_MS)


class Buffer:
    """What waits to be played to the caller, with the marks in it."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.late_frames = 0
        self._format = audio_format
        self._silence = silence_of(audio_format)
        self._items: deque[bytearray | str] = deque()
        self._bytes = 0
        self._gap: int | None = None

    @property
    def queued_ms(self) -> int:
        """How long it will take to play."""
        return self._format.ms_of(self._bytes)

    def add(self, sound: bytes) -> None:
        """Sound behind all that waits."""
        if self._gap is not None and self._gap * FRAME_MS < 500:  # a longer pause is one between two answers
            self.late_frames += self._gap
        self._gap = None
        self._items.append(bytearray(sound))
        self._bytes += len(sound)

    def mark(self, name: str) -> list[str]:
        """A mark behind all that waits; returned if nothing does."""
        if not self._items:
            return [name]
        self._items.append(name)
        return []

    def clear(self) -> list[str]:
        """Throws everything away; the marks that were in it."""
        marks = [item for item in self._items if isinstance(item, str)]
        self._items.clear()
        self._bytes = 0
        self._gap = None
        return marks

    def play(self) -> tuple[bytes, list[str]]:
        """20 ms of it, and the marks behind what has been played completely."""
        frame, marks = bytearray(), []
        while self._items:
            item = self._items[0]
            if isinstance(item, str):
                marks.append(item)
            elif len(frame) == len(self._silence):
                break
            else:
                missing = len(self._silence) - len(frame)
                frame += item[:missing]
                del item[:missing]
                if item:
                    break
            self._items.popleft()
        self._bytes -= len(frame)
        if frame:
            self._gap = 0 if not self._items else None
        elif self._gap is not None:
            self._gap += 1
        return bytes(frame + self._silence[len(frame) :]), marks


class TwilioCarrier:
    """Twilio Media Streams."""

    def __init__(self, call_sid: str, stream_sid: str, parameters: dict[str, str]) -> None:
        self.audio_format = self.answer_format = G711_ULAW
        self.complaints: list[str] = []
        self.has_hung_up = False
        self.buffer = Buffer(G711_ULAW)
        self._call_sid = call_sid
        self._stream_sid = stream_sid
        self._parameters = parameters
        self._sequence = self._chunk = 0

    @property
    def late_frames(self) -> int:
        """That the buffer missed."""
        return self.buffer.late_frames

    def start(self) -> list[str | bytes]:
        """``connected`` and ``start``."""
        start = {
            "streamSid": self._stream_sid,
            "accountSid": "AC22222222222222222222222222222222",
            "callSid": self._call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self._parameters,
        }
        connected = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        return [connected, self._say("start", start)]

    def speak(self, sound: bytes) -> list[str | bytes]:
        """``media``."""
        self._chunk += 1
        timestamp = str(self._chunk * FRAME_MS)
        payload = b2a_base64(sound, newline=False).decode()
        media = {"track": "inbound", "chunk": str(self._chunk), "timestamp": timestamp, "payload": payload}
        return [self._say("media", media)]

    def press(self, key: str) -> list[str | bytes]:
        """``dtmf``."""
        return [self._say("dtmf", {"track": "inbound_track", "digit": key})]

    def receive(self, message: str | bytes) -> list[str | bytes]:
        """``media``, ``mark`` or ``clear``, each with exactly its fields."""
        if isinstance(message, bytes):
            self.complaints.append("31950 binary")
            return []
        try:
            said = json.loads(message)
            fields, name, inner = _FIELDS[said["event"]]
            is_right = set(said) == fields and said["streamSid"] == self._stream_sid
            is_right = is_right and (not name or set(said[name]) == inner)
        except (ValueError, KeyError, TypeError):
            is_right = False
        if not is_right:
            self.complaints.append(f"31951 {message[:100]}")
            return []
        if said["event"] == "media":
            sound = decode_sound(said["media"]["payload"])
            if sound is None:
                self.complaints.append("31951 payload")
            elif self.buffer.queued_ms > _MAX_QUEUED_MS:
                self.complaints.append("31931")
            else:
                self.buffer.add(sound)
            return []
        return self._echo(self.buffer.mark(said["mark"]["name"]) if said["event"] == "mark" else self.buffer.clear())

    def play(self) -> tuple[bytes, list[str | bytes]]:
        """A frame, and the marks behind it."""
        frame, marks = self.buffer.play()
        return frame, self._echo(marks)

    def hang_up(self) -> list[str | bytes]:
        """``stop``."""
        return [self._say("stop", {"accountSid": "AC22222222222222222222222222222222", "callSid": self._call_sid})]

    def _echo(self, marks: list[str]) -> list[str | bytes]:
        return [self._say("mark", {"name": mark}) for mark in marks]

    def _say(self, event: str, content: dict[str, Any]) -> str:
        self._sequence += 1
        said = {"event": event, "sequenceNumber": str(self._sequence), "streamSid": self._stream_sid, event: content}
        return json.dumps(said, separators=(",", ":"))


class TelnyxCarrier:
    """Telnyx media streaming, in mode ``rtp``."""

    def __init__(
        self,
        call_control_id: str,
        stream_id: str,
        parameters: dict[str, str],
        *,
        encoding: str = "PCMU",
        audio_format: AudioFormat = G711_ULAW,
        answer_format: AudioFormat = G711_ULAW,
    ) -> None:
        self.audio_format = audio_format
        self.answer_format = answer_format
        self.complaints: list[str] = []
        self.has_hung_up = False
        self.buffer = Buffer(answer_format)
        self._call_control_id = call_control_id
        self._stream_id = stream_id
        self._parameters = parameters
        self._encoding = encoding
        self._sequence = self._chunk = 0

    @property
    def late_frames(self) -> int:
        """That the buffer missed."""
        return self.buffer.late_frames

    def start(self) -> list[str | bytes]:
        """``connected`` and ``start``."""
        rate_hz = self.audio_format.rate_hz
        start = {
            "user_id": "u-1",
            "call_control_id": self._call_control_id,
            "call_session_id": "s-1",
            "from": "+15550001111",
            "to": "+15550002222",
            "tags": [],
            "client_state": "",
            "custom_parameters": self._parameters,
            "media_format": {"encoding": self._encoding, "sample_rate": rate_hz, "channels": 1},
        }
        return [json.dumps({"event": "connected", "version": "1.0.0"}), self._say("start", {"start": start})]

    def speak(self, sound: bytes) -> list[str | bytes]:
        """``media``."""
        self._chunk += 1
        timestamp = str(self._chunk * FRAME_MS)
        payload = b2a_base64(sound, newline=False).decode()
        media = {"track": "inbound", "chunk": str(self._chunk), "timestamp": timestamp, "payload": payload}
        return [self._say("media", {"media": media})]

    def press(self, key: str) -> list[str | bytes]:
        """``dtmf``."""
        return [self._say("dtmf", {"occurred_at": "2026-01-01T10:00:00.000001Z", "dtmf": {"digit": key}})]

    def receive(self, message: str | bytes) -> list[str | bytes]:
        """``media``, ``mark`` or ``clear``; whatever else is answered by ``error``."""
        try:
            match json.loads(message):
                case {"event": "media", "media": {"payload": str(payload)}}:
                    return self._media(payload)
                case {"event": "mark", "mark": {"name": str(name)}}:
                    return self._echo(self.buffer.mark(name))
                case {"event": "clear"}:
                    return self._echo(self.buffer.clear())
        except ValueError:
            pass
        return [self._complain(100003, "malformed_frame")]

    def play(self) -> tuple[bytes, list[str | bytes]]:
        """A frame, and the marks behind it."""
        frame, marks = self.buffer.play()
        return frame, self._echo(marks)

    def hang_up(self) -> list[str | bytes]:
        """``stop``."""
        return [self._say("stop", {"stop": {"user_id": "u-1", "call_control_id": self._call_control_id}})]

    def _media(self, payload: str) -> list[str | bytes]:
        sound = decode_sound(payload)
        if sound is None:
            return [self._complain(100004, "invalid_media")]
        if not _MIN_TELNYX_MS <= self.answer_format.ms_of(len(sound)) <= _MAX_TELNYX_MS:
            return [self._complain(100003, "malformed_frame")]
        self.buffer.add(sound)
        return []

    def _complain(self, code: int, title: str) -> str:
        self.complaints.append(f"{code} {title}")
        complaint = {"code": code, "title": title, "detail": ""}
        return json.dumps({"event": "error", "stream_id": self._stream_id, "payload": complaint})

    def _echo(self, marks: list[str]) -> list[str | bytes]:
        return [self._say("mark", {"mark": {"name": mark}}) for mark in marks]

    def _say(self, event: str, content: dict[str, Any]) -> str:
        self._sequence += 1
        said = {"event": event, "sequence_number": str(self._sequence), "stream_id": self._stream_id, **content}
        return json.dumps(said, separators=(",", ":"))
