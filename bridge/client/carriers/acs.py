"""Azure Communication Services' bidirectional audio, which has a buffer but no marks."""

import json
from uuid import uuid4

from bridge.client.carriers.contract import BufferingCarrier, SimulatedCarrier, in_base64, text_of
from bridge.client.carriers.dialling import Dialling, Simulator, Wire, choose, open_socket
from bridge.wire.audio import AudioFormat, pcm16_at

__all__ = ["ACS", "AcsCarrier"]

_FORMATS = {"pcm24KMono": pcm16_at(24000), "pcm16KMono": pcm16_at(16000)}


class AcsCarrier(BufferingCarrier):
    """One stream. It writes the names of fields as Microsoft's samples do, and ignores their case when it reads."""

    def __init__(self, audio_format: AudioFormat) -> None:
        super().__init__(audio_format)
        self._subscription = str(uuid4())

    def opening_messages(self) -> list[str | bytes]:
        """Returns ``AudioMetadata``."""
        metadata = {
            "subscriptionId": self._subscription,
            "encoding": "PCM",
            "sampleRate": self.audio_format.rate_hz,
            "channels": 1,
            "length": self.audio_format.size_of(20),
        }
        return [text_of({"kind": "AudioMetadata", "audioMetadata": metadata})]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as ``AudioData``."""
        is_silent = not any(sound)
        data = {"Timestamp": "2026-01-01T00:00:00.020Z", "ParticipantRawID": "4:+15550001111", "Data": in_base64(sound)}
        return [text_of({"Kind": "AudioData", "AudioData": {**data, "Silent": is_silent}})]

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns the key as ``DtmfData``."""
        return [text_of({"kind": "DtmfData", "dtmfData": {"data": key}})]

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes ``AudioData`` or ``StopAudio``."""
        try:
            match json.loads(message):
                case {"kind": "AudioData", "audioData": {"data": str(data)}, "stopAudio": None}:
                    self.buffer_payload(data)
                case {"kind": "StopAudio", "audioData": None, "stopAudio": {}}:
                    self.buffer.clear()
                case _:
                    raise ValueError
        except ValueError:
            self.complaints.append(f"unknown message {str(message)[:60]}")
        return []

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns nothing, because there are no marks."""
        return []


async def _connect(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Connects with the token that whoever answers with Call Automation has put into ``transportUrl``.

    Azure's own key cannot be had here.
    """
    _, audio_format = choose(_FORMATS, dialling.codec)
    headers = {"x-ms-call-connection-id": dialling.call or str(uuid4()), "x-ms-call-correlation-id": str(uuid4())}
    wire = await open_socket(f"{dialling.socket}?token={dialling.secret}", headers=headers)
    return AcsCarrier(audio_format), wire


ACS = Simulator(name="acs", variable="", connect=_connect)
