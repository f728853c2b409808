"""jambonz' verb ``listen``, which streams in both directions, as mod_audio_fork does it."""

import json
from typing import Any
from uuid import uuid4

from bridge.client.address import CallFailed
from bridge.client.carriers.contract import BufferingCarrier, SimulatedCarrier, silence_of, text_of
from bridge.client.carriers.dialling import Dialling, Simulator, Wire, basic, open_socket, post_json
from bridge.wire.audio import pcm16_at

__all__ = ["JAMBONZ", "JambonzCarrier"]

_MAX_MARKS = 30
_PREBUFFER_MS = 80


class JambonzCarrier(BufferingCarrier):
    """One fork.

    It plays nothing before it has 80 ms of sound, never plays the last 80 ms, and drops the 31st mark.
    """

    def __init__(self, call_sid: str, rate_hz: int, metadata: dict[str, str]) -> None:
        super().__init__(pcm16_at(rate_hz))
        self.parameters = metadata
        self._call_sid = call_sid

    def opening_messages(self) -> list[str | bytes]:
        """Returns the call's attributes, together with the metadata."""
        call = {
            "sampleRate": self.audio_format.rate_hz,
            "mixType": "mono",
            "callSid": self._call_sid,
            "direction": "inbound",
            "from": "+15550001111",
            "to": "+15550002222",
            "callId": "sip-1@192.0.2.1",
            "accountSid": "ac-1",
            "applicationSid": "app-1",
        }
        return [text_of({**call, **self.parameters})]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as a binary message."""
        return [sound]

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns the key as ``dtmf``, with its duration in RTP units."""
        return [text_of({"event": "dtmf", "dtmf": key, "duration": "1600"})]

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes sound, or a command."""
        if isinstance(message, bytes):
            self.buffer.add_sound(message)
            return []
        try:
            match json.loads(message):
                case {"type": "mark", "data": {"name": str(name)}}:
                    return self._mark(name)
                case {"type": "killAudio"}:
                    return self._tell(self.buffer.clear(), "cleared")
                case {"type": "disconnect"}:
                    self.has_hung_up = True
                    return []
        except ValueError:
            pass
        self.complaints.append(f"unknown command {message[:60]}")
        return []

    def play_frame(self) -> tuple[bytes, list[str | bytes]]:
        """Plays a frame if there is enough sound, and else waits for more."""
        if self.buffer.queued_ms < _PREBUFFER_MS:
            return silence_of(self.answer_format), []
        return super().play_frame()

    def _mark(self, name: str) -> list[str | bytes]:
        if self.buffer.marks >= _MAX_MARKS:
            self.complaints.append("too many marks")
            return []
        return self.mark_messages(self.buffer.mark(name))

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns ``mark`` for each mark."""
        return self._tell(marks, "playout")

    def _tell(self, marks: list[str], event: str) -> list[str | bytes]:
        return [text_of({"type": "mark", "data": {"name": mark, "event": event}}) for mark in marks]


async def _connect(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Calls the application's webhook, with HTTP Basic, and then connects as ``listen`` says."""
    call_sid = dialling.call or str(uuid4())
    body = json.dumps({"call_sid": call_sid, "direction": "inbound", "from": "1555", "to": "1556"}).encode()
    answer = await post_json(dialling.http, body, basic("jambonz", dialling.secret))
    verb: Any = {}
    try:
        verb = next(verb for verb in json.loads(answer) if verb["verb"] == "listen")
        both = verb["bidirectionalAudio"]
        is_right = both == {"enabled": True, "streaming": True, "sampleRate": verb["sampleRate"]} and verb["passDtmf"]
    except (ValueError, KeyError, TypeError, StopIteration):
        is_right = False
    if not is_right:
        raise CallFailed("The webhook did not answer with verbs that listen and stream back.")
    wire = await open_socket(dialling.socket, headers={}, subprotocol="audio.jambonz.org")
    rate_hz = int(dialling.codec or verb["sampleRate"])
    return JambonzCarrier(call_sid, rate_hz, {**verb["metadata"], **dialling.parameters}), wire


JAMBONZ = Simulator(name="jambonz", variable="BRIDGE_JAMBONZ_SECRET", connect=_connect)
