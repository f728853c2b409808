"""Vonage's Voice API WebSocket, and Infobip's, which has its messages, but no marks and no message that clears."""

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from typing import Any
from uuid import uuid4

from bridge.client.address import CallFailed
from bridge.client.carriers.contract import FRAME_MS, BufferingCarrier, SimulatedCarrier, text_of
from bridge.client.carriers.dialling import (
    Dialling,
    Simulator,
    Wire,
    choose,
    open_socket,
    post_json,
)
from bridge.wire.audio import AudioFormat, pcm16_at

__all__ = ["INFOBIP", "VONAGE", "InfobipCarrier", "VonageCarrier", "signed_token"]

_RATES = {"audio/l16;rate=16000": pcm16_at(16000), "audio/l16;rate=8000": pcm16_at(8000),
          "audio/l16;rate=24000": pcm16_at(24000)}  # fmt: skip
_MAX_QUEUED = 3072


class VonageCarrier(BufferingCarrier):
    """One WebSocket leg. It takes frames of exactly 20 ms, and its buffer has room for 3072 of them."""

    actions = frozenset({"clear", "notify"})

    def __init__(self, content_type: str, headers: dict[str, str]) -> None:
        audio_format: AudioFormat = _RATES[content_type]
        super().__init__(audio_format)
        self.parameters = headers
        self._content_type = content_type
        self._payloads: dict[str, Any] = {}

    def opening_messages(self) -> list[str | bytes]:
        """Returns ``websocket:connected``, with the headers in the same object."""
        return [text_of({"event": "websocket:connected", "content-type": self._content_type, **self.parameters})]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as a binary message."""
        return [sound]

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns the key as ``websocket:dtmf``."""
        return [text_of({"event": "websocket:dtmf", "digit": key, "duration": 260})]

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes a frame, or an action. After a frame of another size it takes no more."""
        if isinstance(message, bytes):
            if len(message) != self.answer_format.size_of(FRAME_MS):
                self.complaints.append(f"unexpected frame size {len(message)}")
                self.has_hung_up = True
            elif self.buffer.queued_ms >= _MAX_QUEUED * FRAME_MS:
                self.complaints.append("buffer full")
            else:
                self.buffer.add_sound(message)
            return []
        try:
            said = json.loads(message)
            action = said["action"]
        except (ValueError, KeyError, TypeError):
            action, said = "", {}
        if action not in self.actions:
            self.complaints.append(f"unknown action {message[:60]}")
        elif action == "notify":
            number = str(self.next_number())
            self._payloads[number] = said["payload"]
            return self.mark_messages(self.buffer.mark(number))
        else:
            self.buffer.clear()  # the marks in it are not answered
            return [text_of({"event": "websocket:cleared"})]
        return []

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns ``websocket:notify`` for each mark, with the payload that came."""
        return [text_of({"event": "websocket:notify", "payload": self._payloads.pop(mark)}) for mark in marks]


class InfobipCarrier(VonageCarrier):
    """One stream of Infobip's WebSocket endpoint in a dialog. A pause of a second ends the call."""

    actions = frozenset()


def signed_token(secret: str, **claims: Any) -> str:
    """Returns a JSON Web Token as Vonage signs it: with HS256, and the account's signature secret."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"iss": "Vonage", "iat": int(time.time()), "jti": str(uuid4()), **claims}]
    signed = b".".join(_in_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return (signed + b"." + _in_base64url(hmac.digest(secret.encode(), signed, "sha256"))).decode()


def _in_base64url(part: bytes) -> bytes:
    return urlsafe_b64encode(part).rstrip(b"=")


async def _connect_vonage(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Calls the answer webhook, signed, and then opens the WebSocket of the NCCO that it answers with."""
    call = {"uuid": dialling.call or str(uuid4()), "conversation_uuid": f"CON-{uuid4()}"}
    body = json.dumps({"from": "15550001111", "to": "15550002222", **call}).encode()
    application = dialling.parameters.get("application_id", "11111111-0000-4000-8000-000000000009")
    token = signed_token(dialling.secret, application_id=application, payload_hash=hashlib.sha256(body).hexdigest())
    answer = await post_json(dialling.http, body, {"Authorization": f"Bearer {token}"})
    try:
        [action] = json.loads(answer)
        [endpoint] = action["endpoint"]
        content_type, headers = dialling.codec or endpoint["content-type"], endpoint["headers"]
        is_right = action["action"] == "connect" and endpoint["type"] == "websocket" and content_type in _RATES
    except (ValueError, KeyError, TypeError):
        is_right = False
    if not is_right or len(json.dumps(headers)) > 512:
        raise CallFailed("The webhook did not answer with an NCCO that connects a WebSocket.")
    wire = await open_socket(dialling.socket, headers={})
    return VonageCarrier(content_type, {**headers, **dialling.parameters}), wire


async def _connect_infobip(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Connects with the token that the application's dialog has as ``customData``."""
    content_type, _ = choose(_RATES, dialling.codec)
    wire = await open_socket(dialling.socket, headers={})
    given = {"token": dialling.secret, "callId": dialling.call or str(uuid4()), **dialling.parameters}
    return InfobipCarrier(content_type, given), wire


VONAGE = Simulator(name="vonage", variable="BRIDGE_VONAGE_SIGNATURE_SECRET", connect=_connect_vonage)
INFOBIP = Simulator(name="infobip", variable="BRIDGE_INFOBIP_SECRET", connect=_connect_infobip)
