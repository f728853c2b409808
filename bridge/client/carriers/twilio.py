"""Twilio Media Streams, and two that have its messages: SignalWire's cXML streams, and sipgate-sip-stream-bridge."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

from bridge.client.address import CallFailed
from bridge.client.carriers.contract import FRAME_MS, BufferingCarrier, SimulatedCarrier, in_base64, text_of
from bridge.client.carriers.dialling import Dialling, Simulator, SocketWire, Wire, choose, open_socket, post_webhook
from bridge.telephony.twilio.sign_in import SIGNATURE_HEADER, sign
from bridge.wire.audio import G711_ULAW, AudioFormat, pcm16_at

__all__ = ["SIGNALWIRE", "SIPGATE", "TWILIO", "SignalWireCarrier", "SipgateCarrier", "TwilioCarrier"]

_MAX_QUEUED_MS = 600_000
_ACCOUNT = "AC22222222222222222222222222222222"
_NOTHING: Mapping[str, str] = {}
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

    def begin_stream(self, stream_sid: str, parameters: dict[str, str]) -> None:
        """Begins another stream of the same call. What was queued in the last one is gone."""
        self.stream_sid, self.parameters = stream_sid, parameters
        self.buffer.clear()
        self._number = self._chunk = 0

    def opening_messages(self) -> list[str | bytes]:
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

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as ``media``."""
        chunk = self.next_chunk()
        media = {
            "track": "inbound",
            "chunk": str(chunk),
            "timestamp": str(chunk * FRAME_MS),
            "payload": in_base64(sound),
        }
        return [self.say("media", media)]

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns the key as ``dtmf``."""
        return [self.say("dtmf", {"track": "inbound_track", "digit": key})]

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
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
                self.buffer_payload(said["media"]["payload"])
            case "mark":
                return self.set_mark(said["mark"]["name"])
            case "clear":
                return self.mark_messages(self.buffer.clear())
            case _:
                self.hear_word(said)
        return []

    def set_mark(self, name: str) -> list[str | bytes]:
        """Sets a mark behind all that waits."""
        return self.mark_messages(self.buffer.mark(name))

    def hear_word(self, said: dict[str, Any]) -> None:
        """Takes a message that only some carriers with this dialect know."""

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns ``stop``."""
        return [self.say("stop", {"accountSid": _ACCOUNT, "callSid": self.call_sid})]

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
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

    def opening_messages(self) -> list[str | bytes]:
        """Returns ``connected`` and ``start``."""
        return [
            text_of({"event": "connected", "protocol": "Call", "version": "0.2.0"}),
            self.say("start", self._start()),
        ]

    def _start(self) -> dict[str, Any]:
        encoding = "audio/x-mulaw" if self.audio_format is G711_ULAW else "audio/x-L16"
        media_format = {"encoding": encoding, "sampleRate": self.audio_format.rate_hz, "channels": 1}
        return {**super()._start(), "mediaFormat": media_format}

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns the key as ``dtmf``, with how long it was pressed."""
        return [self.say("dtmf", {"digit": key, "duration": 160})]

    def hear_word(self, said: dict[str, Any]) -> None:
        """Takes ``dtmf``."""
        self.keys += said["dtmf"]["digit"]

    def hang_up_messages(self) -> list[str | bytes]:
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

    def buffer_payload(self, payload: object) -> None:
        """Adds sound to the queue. If the queue is full, the sound is dropped."""
        if self.buffer.queued_ms >= self._MAX_FRAMES * FRAME_MS:
            self.complaints.append("queue full, frame dropped")
        else:
            super().buffer_payload(payload)

    def set_mark(self, name: str) -> list[str | bytes]:
        """Sets a mark. If there are too many, it is dropped without a message."""
        return super().set_mark(name) if self.buffer.marks < self._MAX_MARKS else []

    def hear_word(self, said: dict[str, Any]) -> None:
        """Takes ``stop``."""
        self.has_hung_up = True

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns ``stop``, whose number is empty."""
        content = {"accountSid": _ACCOUNT, "callSid": self.call_sid}
        return [text_of({"event": "stop", "sequenceNumber": "", "streamSid": self.stream_sid, "stop": content})]


class _TwimlWire:
    """The streams of one call, one after the other: behind the end of each, Twilio goes on with the TwiML."""

    def __init__(self, dialling: Dialling, twiml: "_Twiml", carrier: TwilioCarrier, wire: SocketWire) -> None:
        self.streams = 1
        """The number of streams that there were."""
        self._dialling = dialling
        self._twiml = twiml
        self._carrier = carrier
        self._wire = wire
        self._has_hung_up = False

    async def send_messages(self, messages: list[str | bytes]) -> None:
        """Sends the messages on the stream that there is."""
        await self._wire.send_messages(messages)

    async def receive_message(self) -> str | bytes | None:
        """Returns the next message; None if the call is over."""
        while (message := await self._wire.receive_message()) is None:
            if self._has_hung_up or self._twiml.redirect is None or not await self._go_on(self._twiml.redirect):
                return None
        return message

    async def _go_on(self, redirect: str) -> bool:
        """Asks the webhook what is next; returns False if that is the end of the call."""
        try:
            self._twiml = await _asked(self._dialling, self._carrier.call_sid, redirect)
            if self._twiml.stream is None:
                return False
            headers = {SIGNATURE_HEADER: sign(self._dialling.secret, self._twiml.stream)}
            wire = await open_socket(self._dialling.socket, headers=headers)
        except CallFailed as failure:
            self._carrier.complaints.append(f"11200 {failure.message}")
            return False
        self._wire = wire
        if self._has_hung_up:  # while the webhook was asked
            await wire.close()
            return False
        self.streams += 1
        parameters = {**self._twiml.parameters, **self._dialling.parameters}
        self._carrier.begin_stream(f"MZ{secrets.token_hex(16)}", parameters)
        await self._wire.send_messages(self._carrier.opening_messages())
        return True

    async def close(self) -> None:
        """Hangs up."""
        self._has_hung_up = True
        await self._wire.close()

    def cut(self) -> None:
        """Breaks the stream, as a network does. The call goes on with the TwiML."""
        self._wire.cut()


async def _connect_twilio(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Calls the webhook of an incoming call, and then opens the stream that it answers with. Both are signed."""
    call_sid, twiml = await _answered(dialling, {})
    headers = {SIGNATURE_HEADER: sign(dialling.secret, str(twiml.stream))}
    wire = await open_socket(dialling.socket, headers=headers)
    parameters = {**twiml.parameters, **dialling.parameters}
    carrier = TwilioCarrier(call_sid, f"MZ{secrets.token_hex(16)}", parameters)
    return carrier, _TwimlWire(dialling, twiml, carrier, wire)


async def _connect_sipgate(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Calls the webhook, signed, between 180 and 200, and then opens the stream, which is not signed."""
    call_sid, twiml = await _answered(dialling, {"CallStatus": "ringing", "Direction": "inbound"})
    wire = await open_socket(dialling.socket, headers={})
    parameters = {**twiml.parameters, **dialling.parameters}
    return SipgateCarrier(call_sid, f"MZ{secrets.token_hex(16)}", parameters), wire


@dataclass(frozen=True, slots=True)
class _Twiml:
    """What a webhook has answered."""

    stream: str | None
    """The URL of the stream that is connected; None if there is none."""
    parameters: dict[str, str]
    redirect: str | None
    """The webhook that is asked behind the stream's end."""


async def _answered(dialling: Dialling, more: dict[str, str]) -> tuple[str, _Twiml]:
    """Calls the webhook of an incoming call, and returns the call's id, and the TwiML."""
    call_sid = dialling.call or f"CA{secrets.token_hex(16)}"
    twiml = await _asked(dialling, call_sid, f"{dialling.public}/v1/telephony/twilio", more)
    if twiml.stream is None:
        raise CallFailed("The webhook did not answer with TwiML that connects a stream.")
    return call_sid, twiml


async def _asked(dialling: Dialling, call_sid: str, public: str, more: Mapping[str, str] = _NOTHING) -> _Twiml:
    """Calls the webhook that is known as ``public``, signed, and returns its TwiML; raises ``CallFailed``."""
    form = {"CallSid": call_sid, "From": "+15550001111", "To": "+15550002222", **more}
    below = public.partition("/v1/telephony/twilio")[2]
    signed = {SIGNATURE_HEADER: sign(dialling.secret, public, form)}
    answer = await post_webhook(f"{dialling.http}{below}", form, signed)
    try:
        root = ElementTree.fromstring(answer)
    except ElementTree.ParseError:
        raise CallFailed("The webhook did not answer with TwiML.") from None
    stream = root.find("./Connect/Stream")
    given = {} if stream is None else {str(one.get("name")): str(one.get("value")) for one in stream.iter("Parameter")}
    return _Twiml(None if stream is None else str(stream.get("url")), given, root.findtext("./Redirect"))


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
