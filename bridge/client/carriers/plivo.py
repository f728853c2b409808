"""Plivo's audio streaming, and Vobiz': JSON, µ-law, and checkpoints that are not answered after a clear."""

import hmac
import json
import secrets
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

from bridge.client.address import CallFailed
from bridge.client.carriers.contract import FRAME_MS, BufferingCarrier, SimulatedCarrier, in_base64, text_of
from bridge.client.carriers.dialling import Dialling, Simulator, Wire, open_socket, post_webhook
from bridge.wire.audio import G711_ULAW

__all__ = ["PLIVO", "VOBIZ", "PlivoCarrier", "VobizCarrier"]

_MAX_MESSAGE_CHARS = 65_536
_MAX_PAYLOAD_CHARS = 16_384
_MAX_QUEUED_MS = 60_000


class PlivoCarrier(BufferingCarrier):
    """One stream."""

    has_stop = True

    def __init__(self, call_id: str, extra_headers: str) -> None:
        super().__init__(G711_ULAW)
        self.extra_headers = extra_headers
        self.parameters = dict(part.split("=", 1) for part in extra_headers.split(","))
        self._call_id = call_id
        self._stream_id = str(uuid4())

    def opening_messages(self) -> list[str | bytes]:
        """Returns ``start``, which is the first message."""
        start = {
            "callId": self._call_id,
            "streamId": self._stream_id,
            "accountId": "MAXXXXXXXXXXXXXXXXXX",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        }
        headers = self.extra_headers
        return [
            text_of({"event": "start", "sequenceNumber": self.next_number(), "start": start, "extra_headers": headers})
        ]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as ``media``."""
        chunk = self.next_chunk()
        media = {"track": "inbound", "timestamp": str(chunk * FRAME_MS), "chunk": chunk, "payload": in_base64(sound)}
        return [self._say("media", media=media, extra_headers=self.extra_headers)]

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns the key as ``dtmf``."""
        return [self._say("dtmf", dtmf={"track": "inbound", "digit": key}, extra_headers=self.extra_headers)]

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes ``playAudio``, ``checkpoint``, ``clearAudio`` or ``sendDTMF``."""
        try:
            match json.loads(message):
                case {
                    "event": "playAudio",
                    "media": {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": p},
                }:
                    return self._play(str(p), len(message))
                case {"event": "checkpoint", "streamId": self._stream_id, "name": str(name)}:
                    return self.mark_messages(self.buffer.mark(name))
                case {"event": "clearAudio", "streamId": self._stream_id}:
                    self.buffer.clear()  # the checkpoints in it are not answered
                    return [text_of({"event": "clearedAudio", "streamId": self._stream_id})]
                case {"event": str(event), **more} if self.hear_word(event, more):
                    return []
        except ValueError:
            pass
        self.complaints.append(f"unknown message {str(message)[:80]}")
        return []

    def hear_word(self, event: str, more: Mapping[Any, Any]) -> bool:
        """Takes ``sendDTMF``, and returns whether the message is one."""
        self.keys += str(more.get("dtmf")) if event == "sendDTMF" else ""
        return event == "sendDTMF"

    def _play(self, payload: str, size: int) -> list[str | bytes]:
        if size > _MAX_MESSAGE_CHARS or len(payload) > _MAX_PAYLOAD_CHARS:
            self.complaints.append("message too big")
        elif self.buffer.queued_ms > _MAX_QUEUED_MS:
            self.complaints.append("queue full")
        else:
            self.buffer_payload(payload)
        return []

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns ``playedStream`` for each mark."""
        return [text_of({"event": "playedStream", "streamId": self._stream_id, "name": mark}) for mark in marks]

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns ``stop``, if the carrier has such a message."""
        return [self._say("stop", reason="hangup")] if self.has_stop else []

    def _say(self, event: str, **content: Any) -> str:
        number = self.next_number()
        return text_of({"event": event, "sequenceNumber": number, "streamId": self._stream_id, **content})


class VobizCarrier(PlivoCarrier):
    """One stream of Vobiz.

    At its end the socket just closes. ``stop`` from the bridge ends it, and what is queued is lost.
    """

    has_stop = False

    def hear_word(self, event: str, more: Mapping[Any, Any]) -> bool:
        """Takes ``stop``, and returns whether the message is one."""
        self.has_hung_up = event == "stop"
        return self.has_hung_up

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns ``playedStream`` for each mark, with nothing but its name."""
        return [text_of({"event": "playedStream", "name": mark}) for mark in marks]


async def _answered(dialling: Dialling, header: str) -> tuple[str, str]:
    """Calls the webhook, and returns the call's id and the ``extraHeaders`` of the XML that answers it."""
    call_id = dialling.call or str(uuid4())
    form = {"CallUUID": call_id, "From": "15550001111", "To": "15550002222", "Event": "StartApp"}
    nonce = secrets.token_hex(8)
    fields = "".join(f"{name}{form[name]}" for name in sorted(form))
    signed = f"{dialling.public}/v1/telephony/{dialling.carrier}?{fields}.{nonce}"
    signature = b64encode(hmac.digest(dialling.secret.encode(), signed.encode(), "sha256")).decode()
    answer = await post_webhook(dialling.http, form, {header: signature, f"{header}-Nonce": nonce})
    try:
        stream = ElementTree.fromstring(answer).find("./Stream")
    except ElementTree.ParseError:
        stream = None
    if stream is None or stream.get("bidirectional") != "true" or not (stream.text or "").startswith("ws"):
        raise CallFailed("The webhook did not answer with XML that starts a bidirectional stream.")
    given = dict(part.split("=", 1) for part in stream.get("extraHeaders", "").split(",")) | dict(dialling.parameters)
    return call_id, ",".join(f"{name}={value}" for name, value in given.items())


async def _connect_plivo(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    call_id, headers = await _answered(dialling, "X-Plivo-Signature-V3")
    return PlivoCarrier(call_id, headers), await open_socket(dialling.socket, headers={})


async def _connect_vobiz(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    call_id, headers = await _answered(dialling, "X-Vobiz-Signature-V3")
    return VobizCarrier(call_id, headers), await open_socket(dialling.socket, headers={})


PLIVO = Simulator(name="plivo", variable="BRIDGE_PLIVO_AUTH_TOKEN", connect=_connect_plivo)
VOBIZ = Simulator(name="vobiz", variable="BRIDGE_VOBIZ_AUTH_TOKEN", connect=_connect_vobiz)
