"""Genesys Audio Connector, AudioHook version 2: numbered messages, pings, and large pieces of sound only."""

import base64
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from bridge.client.address import CallFailed
from bridge.client.carriers.contract import FRAME_MS, BufferingCarrier, SimulatedCarrier, text_of
from bridge.client.carriers.dialling import Dialling, Simulator, Wire, choose, open_socket
from bridge.wire.audio import G711_ULAW, AudioFormat, pcm16_at

__all__ = ["GENESYS", "GenesysCarrier", "signed_headers"]

_FORMATS = {"PCMU": G711_ULAW, "L16": pcm16_at(8000)}
_MAX_BYTES = 64_000
_FIRST_PING_TICKS, _PING_TICKS = 50, 250
_MAX_A_SECOND = 10
_COVERED = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)


class GenesysCarrier(BufferingCarrier):
    """One session of the Architect action *Call Audio Connector*."""

    def __init__(self, session_id: str, name: str, audio_format: AudioFormat, variables: dict[str, str]) -> None:
        super().__init__(audio_format)
        self._id = session_id
        self._media = {"type": "audio", "format": name, "channels": ["external"], "rate": 8000}
        self._variables = variables
        self._server_seq = 0
        self._ticks = self._bytes = 0
        self._pings: list[int] = []
        self._is_opened = self._is_playing = self._has_left = False
        self._times: list[int] = []

    def opening_messages(self) -> list[str | bytes]:
        """Returns ``open``."""
        participant = {"id": str(uuid4()), "ani": "+15550001111", "aniName": "", "dnis": "+15550002222"}
        return [
            self._say(
                "open",
                organizationId="11111111-0000-4000-8000-000000000001",
                conversationId=str(uuid4()),
                participant=participant,
                media=[{**self._media, "channels": ["external", "internal"]}, self._media],
                inputVariables=self._variables,
            )
        ]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as a binary message, if the session is open."""
        if not self._is_opened or self._has_left:
            return []
        self._bytes += len(sound)
        return [sound]

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns the key as ``dtmf``."""
        return [self._say("dtmf", digit=key)]

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes sound, or a numbered message."""
        if isinstance(message, bytes):
            return self._sound(message)
        try:
            said = json.loads(message)
            self._server_seq += 1
            is_right = (said["version"], said["id"], said["seq"]) == ("2", self._id, self._server_seq)
            if not is_right or said["clientseq"] > self._number:
                raise ValueError
            return self._said(said["type"], said["clientseq"], said["parameters"])
        except (ValueError, KeyError, TypeError):
            self.complaints.append(f"400 {message[:80]}")
            return []

    def _said(self, kind: str, clientseq: int, parameters: Mapping[str, Any]) -> list[str | bytes]:
        match kind:
            case "opened" if not self._is_opened and list(parameters["media"]) == [self._media]:
                self._is_opened = True
            case "pong" if self._pings and clientseq == self._pings[0]:
                self._pings.pop(0)
            case "event":
                self.buffer.clear()
                self._is_playing = False
            case "disconnect" if parameters["reason"] == "completed":
                self._has_left = True
                return [self._say("close", reason="disconnect")]
            case "closed" if self._has_left:
                self.has_hung_up = True
            case _:
                self.complaints.append(f"409 {kind}")
        return []

    def _sound(self, sound: bytes) -> list[str | bytes]:
        self._times = [at for at in self._times if at > self._ticks - 1000 // FRAME_MS] + [self._ticks]
        if not self._is_opened or self._has_left or len(sound) > _MAX_BYTES:
            self.complaints.append("sound out of place")
        elif len(self._times) > _MAX_A_SECOND:
            self.complaints.append("429 too many messages")
        else:
            self.buffer.add_sound(sound)
            if not self._is_playing:
                self._is_playing = True
                return [self._say("playback_started")]
        return []

    def play_frame(self) -> tuple[bytes, list[str | bytes]]:
        """Plays a frame. Returns it with a ping now and then, and with a message if all has been played."""
        self._ticks += 1
        frame, _ = self.buffer.play_frame()
        said: list[str | bytes] = []
        if self._is_opened and not self._has_left:
            if self._is_playing and not self.buffer.queued_ms:
                self._is_playing = False
                said.append(self._say("playback_completed"))
            if self._ticks % _PING_TICKS == _FIRST_PING_TICKS:
                if self._pings:
                    self.complaints.append("408 no pong")
                said.append(self._say("ping"))
                self._pings.append(self._number)
        return frame, said

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns nothing, because there are no marks."""
        return []

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns ``close``."""
        if self._has_left:
            return []
        self._has_left = True
        return [self._say("close", reason="end")]

    def _say(self, kind: str, **parameters: Any) -> str:
        position = f"PT{self._bytes / 8000 / self.audio_format.bytes_per_sample:.2f}S"
        return text_of(
            {
                "version": "2",
                "type": kind,
                "seq": self.next_number(),
                "serverseq": self._server_seq,
                "id": self._id,
                "position": position,
                "parameters": parameters,
            }
        )


def signed_headers(secret: str, key: str, path: str, authority: str, session_id: str, **params: Any) -> dict[str, str]:
    """Returns the headers of an upgrade, signed with a secret in base64; ``params`` replace those of the signature."""
    headers = {
        "audiohook-organization-id": "11111111-0000-4000-8000-000000000001",
        "audiohook-session-id": session_id,
        "audiohook-correlation-id": str(uuid4()),
        "x-api-key": key,
    }
    now = int(time.time())
    told = {
        "keyid": key,
        "nonce": secrets.token_urlsafe(24),
        "alg": "hmac-sha256",
        "created": now,
        "expires": now + 10,
        **params,
    }
    quoted = ";".join(
        f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}" for name, value in told.items()
    )
    names = " ".join(f'"{name}"' for name in _COVERED)
    signature_params = f"({names});{quoted}"
    values = {"@request-target": path, "@authority": authority, **headers}
    lines = [f'"{name}": {values[name]}' for name in _COVERED]
    signed = "\n".join([*lines, f'"@signature-params": {signature_params}'])
    digest = hmac.digest(base64.b64decode(secret), signed.encode(), "sha256")
    signature = f"sig1=:{base64.b64encode(digest).decode()}:"
    return {**headers, "Signature-Input": f"sig1={signature_params}", "Signature": signature}


async def _connect(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Connects with API key and client secret, which ``--secret`` has with a colon between them."""
    key, colon, secret = dialling.secret.partition(":")
    try:
        base64.b64decode(secret, validate=True)
    except ValueError:
        colon = ""
    if not colon:
        raise CallFailed("Genesys needs --secret KEY:SECRET: its API key, and its client secret in base64.")
    name, audio_format = choose(_FORMATS, dialling.codec)
    session_id = dialling.call or str(uuid4())
    authority = urlsplit(dialling.public).netloc
    headers = signed_headers(secret, key, "/v1/telephony/genesys/bot-1", authority, session_id)
    wire = await open_socket(f"{dialling.socket}/bot-1", headers=headers)
    return GenesysCarrier(session_id, name, audio_format, dict(dialling.parameters)), wire


GENESYS = Simulator(name="genesys", variable="", connect=_connect)
