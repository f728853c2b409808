"""Twilio Media Streams, and two that have its messages: SignalWire's cXML streams, and sipgate-sip-stream-bridge."""

import json
import secrets
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

from bridge.client.address import CallFailed
from bridge.client.carriers.contract import FRAME_MS, BufferingCarrier, SimulatedCarrier, in_base64, text_of
from bridge.client.carriers.dialling import Dialling, Simulator, Wire, choose, open_socket, post_webhook
from bridge.telephony.twilio.sign_in import SIGNATURE_HEADER, sign
from bridge.wire.audio import G711_ULAW, AudioFormat, pcm16_at

__all__ = ["SIGNALWIRE", "SIPGATE", "TWILIO", "SignalWireCarrier", "SipgateCarrier", "TwilioCarrier"]

_MAX_QUEUED_MS = 600_000
_ACCOUNT = "AC22222222222222222222222222222222"
_FIELDS = {
    "media": ({"event", "streamSid", "media"}, "media", {"payload"}),
    "mark": ({"event", "streamSid", "mark"}, "mark", {"name"}),
    "clear": ({"event", "streamSid"}, "", set()),
}


class TwilioCarrier(BufferingCarrier):
    """One stream of Twilio."""

    no_sound = "31951 payload"
    fields = _FIELDS

    def __init__(
        self, call_sid: str, stream_sid: str, parameters: dict[str, str], *, audio_format: AudioFormat = G711_ULAW
    ) -> None:
        super().__init__(audio_format)
        self.call_sid = call_sid
        self.stream_sid = stream_sid
        self.parameters = parameters

    def start(self) -> list[str | bytes]:
        """Returns ``connected`` and ``start``."""
        return [
            text_of({"event": "connected", "protocol": "Call", "version": "1.0.0"}),
            self.say("start", self._start()),
        ]

    def _start(self) -> dict[str, Any]:
        return {
            "streamSid": self.stream_sid,
            "accountSid": _ACCOUNT,
            "callSid": self.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self.parameters,
        }

    def speak(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as ``media``."""
        chunk = self.next_chunk()
        media = {
            "track": "inbound",
            "chunk": str(chunk),
            "timestamp": str(chunk * FRAME_MS),
            "payload": in_base64(sound),
        }
        return [self.say("media", media)]

    def press(self, key: str) -> list[str | bytes]:
        """Returns the key as ``dtmf``."""
        return [self.say("dtmf", {"track": "inbound_track", "digit": key})]

    def receive(self, message: str | bytes) -> list[str | bytes]:
        """Takes ``media``, ``mark`` or ``clear``, each with exactly its fields."""
        if isinstance(message, bytes):
            self.complaints.append("31950 binary")
            return []
        try:
            said = json.loads(message)
            fields, name, inner = self.fields[said["event"]]
            is_right = set(said) == fields and said["streamSid"] == self.stream_sid
            is_right = is_right and (not name or set(said[name]) == inner)
        except (ValueError, KeyError, TypeError):
            is_right = False
        if not is_right:
            self.complaints.append(f"31951 {message[:100]}")
            return []
        match said["event"]:
            case "media" if self.buffer.queued_ms > _MAX_QUEUED_MS:
                self.complaints.append("31931")
            case "media":
                self.add(said["media"]["payload"])
            case "mark":
                return self.set_mark(said["mark"]["name"])
            case "clear":
                return self.echo(self.buffer.clear())
            case _:
                self.hear_word(said)
        return []

    def set_mark(self, name: str) -> list[str | bytes]:
        """Sets a mark behind all that waits."""
        return self.echo(self.buffer.mark(name))

    def hear_word(self, said: dict[str, Any]) -> None:
        """Takes a message that only some carriers with this dialect know."""

    def hang_up(self) -> list[str | bytes]:
        """Returns ``stop``."""
        return [self.say("stop", {"accountSid": _ACCOUNT, "callSid": self.call_sid})]

    def echo(self, marks: list[str]) -> list[str | bytes]:
        """Returns ``mark`` for each mark."""
        return [self.say("mark", {"name": mark}) for mark in marks]

    def say(self, event: str, content: dict[str, Any]) -> str:
        """Returns a message in the carrier's form."""
        number = str(self.next_number())
        return text_of({"event": event, "sequenceNumber": number, "streamSid": self.stream_sid, event: content})


class SignalWireCarrier(TwilioCarrier):
    """A stream of SignalWire's cXML ``<Connect><Stream>``.

    Only ``start`` has the stream's id. Keys go in both directions.
    """

    fields = {**_FIELDS, "dtmf": ({"event", "streamSid", "dtmf"}, "dtmf", {"digit"})}

    def start(self) -> list[str | bytes]:
        """Returns ``connected`` and ``start``."""
        return [
            text_of({"event": "connected", "protocol": "Call", "version": "0.2.0"}),
            self.say("start", self._start()),
        ]

    def _start(self) -> dict[str, Any]:
        encoding = "audio/x-mulaw" if self.audio_format is G711_ULAW else "audio/x-L16"
        media_format = {"encoding": encoding, "sampleRate": self.audio_format.rate_hz, "channels": 1}
        return {**super()._start(), "mediaFormat": media_format}

    def press(self, key: str) -> list[str | bytes]:
        """Returns the key as ``dtmf``, with how long it was pressed."""
        return [self.say("dtmf", {"digit": key, "duration": 160})]

    def hear_word(self, said: dict[str, Any]) -> None:
        """Takes ``dtmf``."""
        self.keys += said["dtmf"]["digit"]

    def hang_up(self) -> list[str | bytes]:
        """Returns ``stop``, which has no body."""
        return [text_of({"event": "stop", "sequenceNumber": str(self.next_number())})]

    def say(self, event: str, content: dict[str, Any]) -> str:
        """Returns a message without the stream's id."""
        return text_of({"event": event, "sequenceNumber": str(self.next_number()), event: content})


class SipgateCarrier(TwilioCarrier):
    """One stream of sipgate-sip-stream-bridge.

    It has 10 s of queue, and takes ten marks at once. After ``stop`` from the bridge it sends a BYE.
    """

    fields = {**_FIELDS, "stop": ({"event", "streamSid"}, "", set())}
    _MAX_FRAMES, _MAX_MARKS = 500, 10

    def _start(self) -> dict[str, Any]:
        of_sip = {
            "sipCallId": f"{self.call_sid}@192.0.2.1",
            "From": "+15550001111",
            "To": "+15550002222",
            "CallSid": self.call_sid,
            "AccountSid": _ACCOUNT,
        }
        return {
            **super()._start(),
            "tracks": ["inbound", "outbound"],
            "customParameters": {**self.parameters, **of_sip},
        }

    def add(self, payload: object) -> None:
        """Adds sound to the queue. If the queue is full, the sound is dropped."""
        if self.buffer.queued_ms >= self._MAX_FRAMES * FRAME_MS:
            self.complaints.append("queue full, frame dropped")
        else:
            super().add(payload)

    def set_mark(self, name: str) -> list[str | bytes]:
        """Sets a mark. If there are too many, it is dropped without a message."""
        return super().set_mark(name) if self.buffer.marks < self._MAX_MARKS else []

    def hear_word(self, said: dict[str, Any]) -> None:
        """Takes ``stop``."""
        self.has_hung_up = True

    def hang_up(self) -> list[str | bytes]:
        """Returns ``stop``, whose number is empty."""
        content = {"accountSid": _ACCOUNT, "callSid": self.call_sid}
        return [text_of({"event": "stop", "sequenceNumber": "", "streamSid": self.stream_sid, "stop": content})]


async def _connect_twilio(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Calls the webhook of an incoming call, and then opens the stream that it answers with. Both are signed."""
    call_sid, parameters, url = await _answered(dialling, {})
    headers = {SIGNATURE_HEADER: sign(dialling.secret, url)}
    wire = await open_socket(dialling.socket, headers=headers)
    return TwilioCarrier(call_sid, f"MZ{secrets.token_hex(16)}", {**parameters, **dialling.parameters}), wire


async def _connect_sipgate(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Calls the webhook, signed, between 180 and 200, and then opens the stream, which is not signed."""
    call_sid, parameters, _ = await _answered(dialling, {"CallStatus": "ringing", "Direction": "inbound"})
    wire = await open_socket(dialling.socket, headers={})
    return SipgateCarrier(call_sid, f"MZ{secrets.token_hex(16)}", {**parameters, **dialling.parameters}), wire


async def _answered(dialling: Dialling, more: dict[str, str]) -> tuple[str, dict[str, str], str]:
    """Calls the webhook, and returns the call's id, with parameters and address of the stream in its TwiML."""
    call_sid = dialling.call or f"CA{secrets.token_hex(16)}"
    form = {"CallSid": call_sid, "From": "+15550001111", "To": "+15550002222", **more}
    signature = sign(dialling.secret, f"{dialling.public}/v1/telephony/twilio", form)
    answer = await post_webhook(dialling.http, form, {SIGNATURE_HEADER: signature})
    try:
        stream = ElementTree.fromstring(answer).find("./Connect/Stream")
    except ElementTree.ParseError:
        stream = None
    if stream is None:
        raise CallFailed("The webhook answered with something else than TwiML that connects a stream.")
    given = {str(entry.get("name")): str(entry.get("value")) for entry in stream.iter("Parameter")}
    return call_sid, given, str(stream.get("url"))


async def _connect_signalwire(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Opens the stream with the ``authBearerToken`` of the application's cXML; nothing is signed."""
    codecs = {"PCMU": G711_ULAW, "L16@16000h": pcm16_at(16000), "L16@24000h": pcm16_at(24000)}
    _, audio_format = choose(codecs, dialling.codec)
    headers = {"Authorization": f"Bearer {dialling.secret}"}
    wire = await open_socket(dialling.socket, headers=headers)
    call, stream = dialling.call or str(uuid4()), str(uuid4())
    return SignalWireCarrier(call, stream, dict(dialling.parameters), audio_format=audio_format), wire


TWILIO = Simulator(name="twilio", variable="BRIDGE_TWILIO_AUTH_TOKEN", connect=_connect_twilio)
SIGNALWIRE = Simulator(name="signalwire", variable="", connect=_connect_signalwire)
SIPGATE = Simulator(name="sipgate", variable="BRIDGE_TWILIO_AUTH_TOKEN", connect=_connect_sipgate)
