"""Sinch's voice streams: nothing flows before ``answer``; a buffer of 5 MB drops its oldest sound."""

import base64
import hmac
import json
from datetime import UTC, datetime
from hashlib import md5
from urllib.parse import urlsplit
from uuid import uuid4

from bridge.client.address import CallFailed
from bridge.client.carriers.contract import BufferingCarrier, SimulatedCarrier, text_of
from bridge.client.carriers.dialling import Dialling, Simulator, Wire, choose, open_socket, post_json
from bridge.wire.audio import pcm16_at

__all__ = ["SINCH", "SinchCarrier", "signed_headers"]

_RATES_HZ = (16_000, 8_000, 24_000, 44_100, 48_000, 96_000)
_MAX_BYTES = 5_000_000
_KEY = "669E367E-6BBA-48AB-AF15-266871C28135"
_SILENT_TICKS = 3000  # a minute


class SinchCarrier(BufferingCarrier):
    """One stream."""

    def __init__(self, call_id: str, rate_hz: int, headers: dict[str, str]) -> None:
        super().__init__(pcm16_at(rate_hz))
        self.parameters = headers
        self._call_id = call_id
        self._is_answered = False
        self._silent_ticks = 0

    def opening_messages(self) -> list[str | bytes]:
        """Returns ``connect``."""
        return [
            text_of(
                {
                    "command": "connect",
                    "version": 1,
                    "callId": self._call_id,
                    "applicationKey": _KEY,
                    "codec": "PCM",
                    "sampleRate": self.audio_format.rate_hz,
                    "callHeaders": self.parameters,
                }
            )
        ]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as a binary message, if the call was answered."""
        return [sound] if self._is_answered else []

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns nothing, because there is no message for keys."""
        return []

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes sound, or a command."""
        self._silent_ticks = 0
        if isinstance(message, bytes):
            if not self._is_answered or len(message) % 2:
                self.complaints.append("sound before the answer" if not self._is_answered else "half a sample")
            self.buffer.add_sound(message)
            if self.answer_format.size_of(self.buffer.queued_ms) > _MAX_BYTES:
                self.complaints.append("buffer full: the oldest is dropped")
            return []
        try:
            command = json.loads(message)["command"]
        except (ValueError, KeyError, TypeError):
            command = ""
        match command:
            case "answer" if not self._is_answered:
                self._is_answered = True
            case "busy" | "reject" if not self._is_answered:
                self.has_hung_up = True
            case "clear":
                self.buffer.clear()
            case "heartbeat":
                pass
            case _:
                self.complaints.append(f"unknown command {message[:60]}")
        return []

    def play_frame(self) -> tuple[bytes, list[str | bytes]]:
        """Plays a frame. After a minute in which nothing has come the call ends."""
        self._silent_ticks += 1
        self.has_hung_up = self.has_hung_up or self._silent_ticks > _SILENT_TICKS
        return super().play_frame()

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns nothing, because there are no marks."""
        return []


def signed_headers(secret: str, path: str, body: bytes, timestamp: str) -> dict[str, str]:
    """Returns the headers of a callback, as Sinch's page *Callback Request Signing* has them."""
    digest = base64.b64encode(md5(body, usedforsecurity=False).digest()).decode()
    text = f"POST\n{digest}\napplication/json\nx-timestamp:{timestamp}\n{path}"
    signature = base64.b64encode(hmac.digest(base64.b64decode(secret), text.encode(), "sha256")).decode()
    return {"Authorization": f"application {_KEY}:{signature}", "x-timestamp": timestamp}


async def _connect(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Sends the event of an incoming call, signed, and then opens the stream of the SVAML that comes back."""
    call_id = dialling.call or str(uuid4())
    to = {"type": "number", "endpoint": "+15550002222"}
    body = json.dumps({"event": "ice", "callid": call_id, "cli": "+15550001111", "to": to, "version": 1}).encode()
    timestamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    try:
        headers = signed_headers(dialling.secret, urlsplit(dialling.http).path, body, timestamp)
    except ValueError:
        raise CallFailed("Sinch's secret must be base64.") from None
    answer = await post_json(dialling.http, body, headers)
    try:
        action = json.loads(answer)["action"]
        given = {header["key"]: header["value"] for header in action["callHeaders"]}
        rate_hz, version = action["streamingOptions"]["sampleRate"], action["streamingOptions"]["version"]
        is_right = action["name"] == "connectStream" and action["destination"]["type"] == "Websocket" and version == 1
    except (ValueError, KeyError, TypeError):
        is_right = False
    if not is_right or not 0 < action["maxDuration"] <= 14_400:
        raise CallFailed("The callback was not answered with SVAML that connects a stream.")
    choose({str(one): pcm16_at(one) for one in _RATES_HZ}, dialling.codec or str(rate_hz))
    wire = await open_socket(dialling.socket, headers={})
    return SinchCarrier(call_id, int(dialling.codec or rate_hz), {**given, **dialling.parameters}), wire


SINCH = Simulator(name="sinch", variable="BRIDGE_SINCH_APPLICATION_SECRET", connect=_connect)
