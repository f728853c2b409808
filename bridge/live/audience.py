"""The connections of one Live call, and how each is told what it may hear: an event is written once for all of them."""

from binascii import b2a_base64

from bridge.live.connection import LiveConnection
from bridge.wire.live.client_events import LiveBearer
from bridge.wire.live.server_events import (
    InputSound,
    LiveServerEvent,
    OutputSound,
    ResponseEvent,
)
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import Body, encode

__all__ = ["LiveAudience", "named"]


class LiveAudience:
    """See the module; ``call_id`` begins the ids of its events."""

    def __init__(self, call_id: str) -> None:
        self.connections: list[LiveConnection] = []
        self._prefix = f"event_{call_id.rpartition('_')[2][:12]}_"
        self._number = 0

    def has(self, bearer: LiveBearer) -> bool:
        """Whether there is a connection of this kind."""
        return any(connection.bearer is bearer for connection in self.connections)

    def remove(self, connection: LiveConnection) -> None:
        """Removes a connection that is gone; may be called twice."""
        if connection in self.connections:
            self.connections.remove(connection)

    def tell(self, event: LiveServerEvent, *, only: LiveConnection | None = None) -> None:
        """Numbers an event and sends it to all who may hear it, or to one."""
        self._number += 1
        event.event_id = f"{self._prefix}{self._number}"
        nested = event.event.get("type") if isinstance(event, ResponseEvent) else None
        self._send(event.type, nested, encode(event), event.event_id, only)

    def tell_as_it_is(self, body: Body) -> None:
        """Sends an event that a service has written, with its own id."""
        nested = body.get("event")
        kind = nested.get("type") if isinstance(nested, dict) else None
        event_id = body.get("event_id")
        self._send(str(body.get("type")), kind, encode(body), event_id if isinstance(event_id, str) else "", None)

    def _send(self, kind: str, nested: str | None, text: bytes, event_id: str, only: LiveConnection | None) -> None:
        message = EncodedMessage(text, event_id=event_id)
        for connection in tuple(self.connections) if only is None else (only,):
            if connection.hears(kind, nested):
                connection.send_message(message)

    # Sound

    def play(self, connection: LiveConnection, sound: bytes, audio_ms: int) -> None:
        """Sends the primary WebSocket a piece of what the caller hears, in the session's format."""
        text = encode(OutputSound(delta=_base64(sound)))
        connection.send_message(EncodedMessage(text, audio_ms=max(1, audio_ms), is_live=True))

    def reflect_output(self, pcm: bytes, start_ms: int, end_ms: int) -> None:
        """Sends sidebands what the caller hears between two times of the session."""
        text = encode(OutputSound(delta=_base64(pcm), start_ms=start_ms, end_ms=end_ms))
        self._reflect(EncodedMessage(text, audio_ms=max(1, end_ms - start_ms)))

    def reflect_input(self, pcm: bytes, audio_ms: int) -> None:
        """Sends sidebands what the caller says."""
        self._reflect(EncodedMessage(encode(InputSound(audio=_base64(pcm))), audio_ms=max(1, audio_ms)))

    def _reflect(self, message: EncodedMessage) -> None:
        for connection in tuple(self.connections):
            if connection.bearer is LiveBearer.SIDEBAND:
                connection.send_message(message)


def _base64(sound: bytes) -> str:
    return b2a_base64(sound, newline=False).decode()


def named(client_event_id: str | None) -> dict[str, str]:
    """Returns the field with which an answer names the client event that it answers."""
    return {} if client_event_id is None else {"client_event_id": client_event_id}
