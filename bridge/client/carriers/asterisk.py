"""Asterisk's side of chan_websocket, written after its source: a queue of frames, with XOFF and marks."""

import json
import secrets
from base64 import b64encode
from collections import deque
from typing import Any

from bridge.client.carriers.contract import FRAME_MS, SimulatedCarrier, silence_of
from bridge.client.carriers.dialling import Dialling, Simulator, Wire, choose, open_socket
from bridge.telephony.asterisk.dialect import FORMATS, SUBPROTOCOL

__all__ = ["ASTERISK", "AsteriskCarrier"]

_MAX_FRAMES, _XOFF, _XON = 1000, 900, 800
_MAX_CONTROL_BYTES = 128
_MAX_SOUND_BYTES = 65_500
_PAUSE_FRAMES = 25  # silence of this length lies between two answers, not within one
_MARK, _BUFFERED = "MEDIA_MARK_PROCESSED", "MEDIA_BUFFERING_COMPLETED"


class AsteriskCarrier:
    """A chan_websocket channel. ``is_json`` says that it was dialled with ``f(json)``."""

    def __init__(self, channel_id: str, *, codec: str = "ulaw", is_json: bool = False, variables: Any = None) -> None:
        self.audio_format = self.answer_format = FORMATS[codec]
        self.complaints: list[str] = []
        self.late_frames = 0
        self.has_hung_up = False
        self._channel_id = channel_id
        self._codec = codec
        self._is_json = is_json
        self._variables = variables or {}
        self._silence = silence_of(self.audio_format)
        self._queue: deque[bytes | tuple[str, str]] = deque()
        self._length = 0
        self._leftover = b""
        self._is_bulk = self._is_paused = self._is_full = self._reports_drained = False
        self._gap: int | None = None

    @property
    def queue_length(self) -> int:
        """The number of frames that wait to be played."""
        return self._length

    def opening_messages(self) -> list[str | bytes]:
        """Returns ``MEDIA_START``."""
        fields: dict[str, Any] = {
            "connection_id": "bridge",
            "channel": "WebSocket/bridge/0x7f00",
            "channel_id": self._channel_id,
            "format": self._codec,
            "optimal_frame_size": len(self._silence),
            "ptime": FRAME_MS,
        }
        return [self._say("MEDIA_START", {**fields, "channel_variables": self._variables} if self._is_json else fields)]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as a binary message."""
        return [sound]

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns ``DTMF_END``, as for a key that is released."""
        return [self._say("DTMF_END", {"digit": key, "channel_id": self._channel_id})]

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes sound, or a command."""
        if isinstance(message, bytes):
            return self._media(message)
        if len(message.encode()) > _MAX_CONTROL_BYTES:
            self.complaints.append("control message too long")
            return []
        command, argument = message, ""
        if self._is_json:
            try:
                said = json.loads(message)
                command, argument = said["command"], said.get("correlation_id", "")
            except (ValueError, KeyError, TypeError, AttributeError):
                return self._error("no JSON command")
        elif message.startswith("{"):
            return []  # a channel that speaks plain text ignores JSON
        else:
            command, _, argument = message.partition(" ")
        return self._command(command, argument)

    def play_frame(self) -> tuple[bytes, list[str | bytes]]:
        """Plays a frame.

        Returns it with the messages that were queued behind it, and says if the queue is no longer full.
        """
        said: list[str | bytes] = []
        if self._is_paused:
            return self._silence, said
        played = b""
        while self._queue and not (played and isinstance(self._queue[0], bytes)):
            item = self._queue.popleft()
            if isinstance(item, bytes):
                played, self._length = item, self._length - 1
            else:
                event, correlation_id = item
                said.append(self._say(event, {"channel_id": self._channel_id, "correlation_id": correlation_id}))
        if played:
            self._gap = None if self._length else 0
        elif self._gap is not None:
            self._gap += 1
        if self._is_full and self._length < _XON:
            self._is_full = False
            said.append(self._say("MEDIA_XON", {"channel_id": self._channel_id}))
        if self._reports_drained and not self._queue:
            self._reports_drained = False
            said.append(self._say("QUEUE_DRAINED", {"channel_id": self._channel_id}))
        return played + self._silence[len(played) :], said

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns nothing: there is no event for a hang-up, and the socket is closed."""
        return []

    def _media(self, sound: bytes) -> list[str | bytes]:
        size = len(self._silence)
        if len(sound) > _MAX_SOUND_BYTES:
            self.complaints.append("1009 too big")
            self.has_hung_up = True
            return []
        if self._length >= _MAX_FRAMES:
            self.complaints.append("queue overflow")
            return []
        if self._gap is not None and self._gap < _PAUSE_FRAMES:
            self.late_frames += self._gap
        self._gap = None
        sound, self._leftover = self._leftover + sound, b""
        for at in range(0, len(sound), size):
            piece = sound[at : at + size]
            if len(piece) == size:
                self._queue.append(piece)
                self._length += 1
            elif self._is_bulk:
                self._leftover = piece
            else:
                self.complaints.append("tail dropped")
        if self._length >= _XOFF and not self._is_full:
            self._is_full = True
            return [self._say("MEDIA_XOFF", {"channel_id": self._channel_id})]
        return []

    def _command(self, command: str, argument: str) -> list[str | bytes]:
        match command:
            case "MARK_MEDIA":
                self._queue.append((_MARK, argument))
            case "FLUSH_MEDIA":
                self._queue.clear()
                self._length, self._leftover, self._is_bulk, self._gap = 0, b"", False, None
            case "START_MEDIA_BUFFERING":
                self._is_bulk = True
            case "STOP_MEDIA_BUFFERING":
                if self._leftover:
                    self._queue.append(self._leftover)
                    self._length += 1
                self._leftover, self._is_bulk = b"", False
                self._queue.append((_BUFFERED, argument))
            case "PAUSE_MEDIA" | "CONTINUE_MEDIA":
                self._is_paused = command == "PAUSE_MEDIA"
            case "REPORT_QUEUE_DRAINED":
                self._reports_drained = True
            case "HANGUP":
                self.has_hung_up = True
            case "ANSWER" | "SET_MEDIA_DIRECTION":
                pass
            case "GET_STATUS":
                return [self._say("STATUS", self._status())]
            case _:
                return self._error(f"unknown command {command[:32]}")
        return []

    def _status(self) -> dict[str, Any]:
        return {
            "channel_id": self._channel_id,
            "queue_length": self._length,
            "xon_level": _XON,
            "xoff_level": _XOFF,
            "queue_full": self._is_full,
            "bulk_media": self._is_bulk,
            "media_paused": self._is_paused,
        }

    def _error(self, text: str) -> list[str | bytes]:
        self.complaints.append(text)
        return [self._say("ERROR", {"channel_id": self._channel_id, "error_text": text})]

    def _say(self, event: str, fields: dict[str, Any]) -> str:
        if self._is_json:
            return json.dumps({"event": event, **fields}, separators=(",", ":"))
        if event in (_MARK, _BUFFERED):
            return f"{event} {fields['correlation_id']}".strip()
        if event in ("MEDIA_XOFF", "MEDIA_XON", "QUEUE_DRAINED"):
            return event
        return " ".join([event, *(f"{key}:{str(value).lower() if isinstance(value, bool) else value}"
                                  for key, value in fields.items())])  # fmt: skip


async def _connect(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    credentials = b64encode(f"asterisk:{dialling.secret}".encode()).decode()
    wire = await open_socket(
        dialling.socket, headers={"Authorization": f"Basic {credentials}"}, subprotocol=SUBPROTOCOL
    )
    call = dialling.call or f"pbx-{secrets.token_hex(4)}.{secrets.randbelow(1000)}"
    codec, _ = choose(FORMATS, dialling.codec)
    return AsteriskCarrier(call, codec=codec, is_json=True, variables=dict(dialling.parameters)), wire


ASTERISK = Simulator(name="asterisk", variable="BRIDGE_ASTERISK_SECRET", connect=_connect)
