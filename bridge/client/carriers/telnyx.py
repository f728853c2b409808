"""Telnyx media streaming, in mode ``rtp``."""

import json
import secrets
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from bridge.client.carriers.contract import (
    FRAME_MS,
    BufferingCarrier,
    SimulatedCarrier,
    in_base64,
    out_of_base64,
    text_of,
)
from bridge.client.carriers.dialling import Dialling, Simulator, Wire, choose, open_socket
from bridge.wire.audio import G711_ALAW, G711_ULAW, AudioFormat, pcm16_at

__all__ = ["TELNYX", "TelnyxCarrier"]

_MIN_MS, _MAX_MS = 20, 30_000
_CODECS = {"PCMU": G711_ULAW, "PCMA": G711_ALAW, "L16": pcm16_at(16000)}
_AUTH_TOKEN_HEADER = "x-telnyx-streaming-auth-token"


class TelnyxCarrier(BufferingCarrier):
    """One stream of Telnyx, in mode ``rtp``."""

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
        super().__init__(audio_format, answer_format)
        self._call_control_id = call_control_id
        self._stream_id = stream_id
        self._parameters = parameters
        self._encoding = encoding

    def opening_messages(self) -> list[str | bytes]:
        """Returns ``connected`` and ``start``."""
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
        return [text_of({"event": "connected", "version": "1.0.0"}), self._say("start", {"start": start})]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as ``media``."""
        chunk = self.next_chunk()
        media = {
            "track": "inbound",
            "chunk": str(chunk),
            "timestamp": str(chunk * FRAME_MS),
            "payload": in_base64(sound),
        }
        return [self._say("media", {"media": media})]

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns the key as ``dtmf``."""
        return [self._say("dtmf", {"occurred_at": "2026-01-01T10:00:00.000001Z", "dtmf": {"digit": key}})]

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes ``media``, ``mark`` or ``clear``. Every other message is answered by ``error``."""
        try:
            match json.loads(message):
                case {"event": "media", "media": {"payload": str(payload)}}:
                    return self._media(payload)
                case {"event": "mark", "mark": {"name": str(name)}}:
                    return self.mark_messages(self.buffer.mark(name))
                case {"event": "clear"}:
                    return self.mark_messages(self.buffer.clear())
        except ValueError:
            pass
        return [self._complain(100003, "malformed_frame")]

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns ``stop``."""
        return [self._say("stop", {"stop": {"user_id": "u-1", "call_control_id": self._call_control_id}})]

    def _media(self, payload: str) -> list[str | bytes]:
        sound = out_of_base64(payload)
        if sound is None:
            return [self._complain(100004, "invalid_media")]
        if not _MIN_MS <= self.answer_format.ms_of(len(sound)) <= _MAX_MS:
            return [self._complain(100003, "malformed_frame")]
        self.buffer.add_sound(sound)
        return []

    def _complain(self, code: int, title: str) -> str:
        self.complaints.append(f"{code} {title}")
        complaint = {"code": code, "title": title, "detail": ""}
        return text_of({"event": "error", "stream_id": self._stream_id, "payload": complaint})

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns ``mark`` for each mark."""
        return [self._say("mark", {"mark": {"name": mark}}) for mark in marks]

    def _say(self, event: str, content: dict[str, Any]) -> str:
        number = str(self.next_number())
        return text_of({"event": event, "sequence_number": number, "stream_id": self._stream_id, **content})


async def _connect(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    address = dialling.socket
    answer_codec, answer_format = choose(_CODECS, dialling.answer_codec)
    if dialling.answer_codec is not None:
        told = {
            "stream_bidirectional_codec": answer_codec,
            "stream_bidirectional_sampling_rate": answer_format.rate_hz,
        }
        address += f"?{urlencode(told)}"
    wire = await open_socket(address, headers={_AUTH_TOKEN_HEADER: dialling.secret} if dialling.secret else {})
    call = dialling.call or f"v3:{secrets.token_hex(16)}"
    encoding, audio_format = choose(_CODECS, dialling.codec)
    parameters = dict(dialling.parameters)
    carrier = TelnyxCarrier(
        call, str(uuid4()), parameters, encoding=encoding, audio_format=audio_format, answer_format=answer_format
    )
    return carrier, wire


TELNYX = Simulator(name="telnyx", variable="BRIDGE_TELNYX_SECRET", connect=_connect)
