"""Exotel's Voicebot applet: Twilio's messages in snake_case, and PCM16 in pieces of a certain size, near real time."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from bridge.client.address import CallFailed
from bridge.client.carriers.contract import BufferingCarrier, SimulatedCarrier, in_base64, out_of_base64, text_of
from bridge.client.carriers.dialling import Dialling, Simulator, Wire, basic, choose, get_json, open_socket
from bridge.wire.audio import AudioFormat, pcm16_at

__all__ = ["EXOTEL", "ExotelCarrier"]

_RATES = {"8000": pcm16_at(8000), "16000": pcm16_at(16000), "24000": pcm16_at(24000)}
_PIECE_BYTES, _MAX_BYTES = 320, 100_000
_MAX_AHEAD_MS = 1000  # a greeting that comes in one burst ends the call


class ExotelCarrier(BufferingCarrier):
    """One stream. Each message has 100 ms of the caller's sound."""

    def __init__(self, call_sid: str, audio_format: AudioFormat, parameters: dict[str, str]) -> None:
        super().__init__(audio_format)
        self.parameters = parameters
        self._call_sid = call_sid
        self._stream_sid = uuid4().hex
        self._spoken = bytearray()

    def opening_messages(self) -> list[str | bytes]:
        """Returns ``connected`` and ``start``."""
        start = {
            "stream_sid": self._stream_sid,
            "call_sid": self._call_sid,
            "account_sid": "exotel1",
            "from": "05550001111",
            "to": "05550002222",
            "custom_parameters": self.parameters,
            "media_format": {
                "encoding": "audio/x-raw",
                "sample_rate": str(self.audio_format.rate_hz),
                "bit_rate": "16",
            },
        }
        return [text_of({"event": "connected"}), self._say("start", start)]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns ``media`` every 100 ms."""
        self._spoken += sound
        if len(self._spoken) < self.audio_format.size_of(100):
            return []
        payload, chunk = in_base64(bytes(self._spoken)), self.next_chunk()
        self._spoken.clear()
        return [self._say("media", {"chunk": chunk, "timestamp": str(100 * chunk), "payload": payload})]

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns the key as ``dtmf``."""
        return [self._say("dtmf", {"digit": key, "duration": "160"})]

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes ``media``, ``mark`` or ``clear``, in the names that ``start`` used."""
        try:
            said = json.loads(message)
            if said["stream_sid"] != self._stream_sid:
                raise ValueError
            match said:
                case {
                    "event": "media",
                    "media": {"chunk": str(), "timestamp": str(), "sequenceNumber": str()} as media,
                }:
                    self._play(out_of_base64(media["payload"]) or b"")
                case {"event": "mark", "mark": {"name": str(name)}}:
                    return self.mark_messages(self.buffer.mark(name))
                case {"event": "clear"}:
                    return self.mark_messages(self.buffer.clear())
                case _:
                    raise ValueError
        except (ValueError, KeyError, TypeError):
            self.complaints.append(f"unknown message {str(message)[:60]}")
        return []

    def _play(self, sound: bytes) -> None:
        if not sound or len(sound) % _PIECE_BYTES or len(sound) > _MAX_BYTES:
            self.complaints.append(f"a piece of {len(sound)} bytes")
        elif self.buffer.queued_ms > _MAX_AHEAD_MS:
            self.complaints.append("burst")
        else:
            self.buffer.add_sound(sound)

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns ``mark`` for each mark."""
        return [self._say("mark", {"name": mark}) for mark in marks]

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns ``stop``."""
        return [self._say("stop", {"call_sid": self._call_sid, "reason": "callended"})]

    def _say(self, event: str, content: dict[str, Any]) -> str:
        number = self.next_number()
        return text_of({"event": event, "sequence_number": number, "stream_sid": self._stream_sid, event: content})


async def _connect(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Asks by HTTPS where to stream to, as the applet does. The query of that address has the rate."""
    rate, audio_format = choose(_RATES, dialling.codec)
    call_sid = dialling.call or uuid4().hex
    url = f"{dialling.http}/url?sample-rate={rate}&CallSid={call_sid}&From=1555"
    answer = await get_json(url, basic("exotel", dialling.secret))
    try:
        query = urlsplit(str(json.loads(answer)["url"])).query
        given = {name: values[0] for name, values in parse_qs(query).items()}
    except (ValueError, KeyError, TypeError):
        raise CallFailed("The webhook did not answer with an address.") from None
    given |= {"token": dialling.parameters["token"]} if "token" in dialling.parameters else {}
    wire = await open_socket(f"{dialling.socket}?sample-rate={rate}&token={given['token']}", headers={})
    carrier = ExotelCarrier(call_sid, audio_format, {"token": given["token"], **dialling.parameters})
    return carrier, wire


EXOTEL = Simulator(name="exotel", variable="BRIDGE_EXOTEL_SECRET", connect=_connect)
