"""46elks' real-time voice: no sound goes before ``listening`` and ``sending``, and ``sync`` has no name."""

import json
from uuid import uuid4

from bridge.client.carriers.contract import BufferingCarrier, SimulatedCarrier, in_base64, text_of
from bridge.client.carriers.dialling import Dialling, Simulator, Wire, open_socket
from bridge.wire.audio import pcm16_at

__all__ = ["ELKS", "ElksCarrier"]


class ElksCarrier(BufferingCarrier):
    """One call."""

    def __init__(self, call_id: str) -> None:
        super().__init__(pcm16_at(24000))
        self._call_id = call_id
        self._is_listened_to = self._is_sent_to = False

    def opening_messages(self) -> list[str | bytes]:
        """Returns ``hello``."""
        return [text_of({"t": "hello", "callid": self._call_id, "from": "+15550001111", "to": "+15550002222"})]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as ``audio``, if the bridge listens."""
        return [text_of({"t": "audio", "data": in_base64(sound)})] if self._is_listened_to else []

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns nothing, because there is no message for keys."""
        return []

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes one of its six messages."""
        try:
            match json.loads(message):
                case {"t": "listening", "format": "pcm_24000"}:
                    self._is_listened_to = True
                case {"t": "sending", "format": "pcm_24000"}:
                    self._is_sent_to = True
                case {"t": "audio", "data": str(data)}:
                    if self._is_sent_to:
                        self.buffer_payload(data)
                    else:
                        self.complaints.append("audio that is ignored")
                case {"t": "sync"}:
                    return self.mark_messages(self.buffer.mark("sync"))
                case {"t": "interrupt"}:
                    self.buffer.clear()
                    self._is_sent_to = False
                case {"t": "bye"}:
                    self.has_hung_up = True
                case _:
                    raise ValueError
        except ValueError:
            self.complaints.append(f"unknown message {str(message)[:60]}")
        return []

    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns ``sync`` for each mark."""
        return [text_of({"t": mark}) for mark in marks]

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns ``bye``."""
        return [text_of({"t": "bye", "reason": "hangup", "message": "Call finished"})]


async def _connect(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Connects to the address of the number's ``voice_start``, which has the secret in it."""
    wire = await open_socket(f"{dialling.socket}?token={dialling.secret}", headers={})
    return ElksCarrier(dialling.call or f"c{uuid4().hex}"), wire


ELKS = Simulator(name="elks", variable="BRIDGE_ELKS_SECRET", connect=_connect)
