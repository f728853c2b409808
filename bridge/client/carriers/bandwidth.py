"""Bandwidth's ``<StartStream mode="bidirectional">``: µ-law in, µ-law or PCM16 out, without marks and keys."""

import json
from uuid import uuid4
from xml.etree import ElementTree

from bridge.client.address import CallFailed
from bridge.client.carriers.contract import BufferingCarrier, SimulatedCarrier, in_base64, text_of
from bridge.client.carriers.dialling import Dialling, Simulator, Wire, basic, choose, open_socket, post_json
from bridge.wire.audio import G711_ULAW, AudioFormat, pcm16_at

__all__ = ["BANDWIDTH", "BandwidthCarrier"]

_ANSWERS = {"PCMU": G711_ULAW, "L16": pcm16_at(24000)}
_PCM = "audio/pcm;rate=24000;channels=1;bit-depth=16;endian=little;encoding=signed"


class BandwidthCarrier(BufferingCarrier):
    """One stream."""

    def __init__(self, call_id: str, parameters: dict[str, str], answer_format: AudioFormat) -> None:
        super().__init__(G711_ULAW, answer_format)
        self.parameters = parameters
        self._type = "audio/pcmu" if answer_format is G711_ULAW else _PCM
        media_format = {"encoding": "audio/PCMU", "sampleRate": 8000}
        self._metadata = {
            "accountId": "5555555",
            "callId": call_id,
            "streamId": f"s-{uuid4()}",
            "streamName": "bridge",
            "tracks": [{"name": "inbound", "mediaFormat": media_format}],
        }

    def opening_messages(self) -> list[str | bytes]:
        """Returns ``start``."""
        return [text_of({"eventType": "start", "metadata": self._metadata, "streamParams": self.parameters})]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as ``media``."""
        return [text_of({"eventType": "media", "track": "inbound", "payload": in_base64(sound)})]

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns nothing, because the stream has no message for keys."""
        return []

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes ``playAudio`` or ``clear``."""
        try:
            match json.loads(message):
                case {"eventType": "playAudio", "media": {"contentType": self._type, "payload": str(payload)}}:
                    self.buffer_payload(payload)
                case {"eventType": "clear"}:
                    self.buffer.clear()
                case _:
                    raise ValueError
        except ValueError:
            self.complaints.append(f"unknown message {str(message)[:60]}")
        return []

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns nothing, because there are no marks."""
        return []

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns ``stop``."""
        return [text_of({"eventType": "stop", "metadata": self._metadata})]


async def _connect(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Calls the callback, with HTTP Basic, and then opens the stream of the BXML that answers it."""
    call_id = dialling.call or f"c-{uuid4()}"
    body = json.dumps({"eventType": "initiate", "callId": call_id, "from": "+15550001111", "to": "+15550002222"})
    answer = await post_json(dialling.http, body.encode(), basic("bandwidth", dialling.secret))
    try:
        root = ElementTree.fromstring(answer)
        stream, waiting = root.find("./StartStream"), root.find("./StopStream")
    except ElementTree.ParseError:
        stream = waiting = None
    if stream is None or stream.get("mode") != "bidirectional" or waiting is None or waiting.get("wait") != "true":
        raise CallFailed("The webhook did not answer with BXML that waits for a bidirectional stream.")
    given = {str(entry.get("name")): str(entry.get("value")) for entry in stream.iter("StreamParam")}
    name, answer_format = choose(_ANSWERS, dialling.answer_codec)
    told = {} if name == "PCMU" else {"answer_encoding": "audio/pcm", "answer_rate": "24000"}
    wire = await open_socket(dialling.socket, headers={})
    return BandwidthCarrier(call_id, {**given, **told, **dialling.parameters}, answer_format), wire


BANDWIDTH = Simulator(name="bandwidth", variable="BRIDGE_BANDWIDTH_SECRET", connect=_connect)
