"""Asterisk's side of AudioSocket, written after its source: frames over TCP, and no buffer."""

import asyncio
from collections import deque
from contextlib import suppress
from urllib.parse import urlsplit
from uuid import UUID

from bridge.client.address import CallFailed, explain
from bridge.client.carriers.contract import SimulatedCarrier, silence_of
from bridge.client.carriers.dialling import TIMEOUT_S, Dialling, Simulator, Wire, choose, reset
from bridge.telephony.asterisk.dialect import FORMATS
from bridge.telephony.audiosocket.dialect import DTMF, HANG_UP, IDENTITY, SOUND_TYPES, Splitter, frame
from bridge.wire.audio import AudioFormat

__all__ = ["AUDIOSOCKET", "AudioSocketCarrier"]

_DEFAULT_PORT = 9092
_MAX_BURST = 10  # frames that its reader takes at once, 200 ms
_SLIN = {name: audio_format for name, audio_format in FORMATS.items() if name.startswith("slin")}


class AudioSocketCarrier:
    """One AudioSocket connection. Each message is a whole frame."""

    def __init__(self, uuid: UUID, audio_format: AudioFormat) -> None:
        self.audio_format = self.answer_format = audio_format
        self.complaints: list[str] = []
        self.late_frames = 0
        self.has_hung_up = False
        self._uuid = uuid
        self._kind = next(kind for kind, known in SOUND_TYPES.items() if known is audio_format)
        self._silence = silence_of(self.audio_format)
        self._waiting: deque[bytes] = deque()
        self._has_begun = False

    def opening_messages(self) -> list[str | bytes]:
        """Returns the frame that says which call this is."""
        return [frame(IDENTITY, self._uuid.bytes)]

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the caller's sound as a frame."""
        return [frame(self._kind, sound)]

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns the key as a frame."""
        return [frame(DTMF, key.encode())]

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes sound or a hang-up. Any other frame, and one of sound without content, ends the call."""
        assert isinstance(message, bytes)
        kind, sound = message[0], message[3:]
        if kind == HANG_UP:
            self.has_hung_up = True
        elif not 0x10 <= kind <= 0x18 or not sound:
            self.complaints.append(f"frame of type {kind:#04x}, {len(sound)} bytes")
            self.has_hung_up = True
        elif len(self._waiting) >= _MAX_BURST:
            self.complaints.append("burst")
        elif kind == self._kind:  # sound of another kind comes before ours is known; it is silence
            self._waiting.append(sound)
        return []

    def play_frame(self) -> tuple[bytes, list[str | bytes]]:
        """Plays the frame that came, or silence."""
        if not self._has_begun:  # frames come at their own pace; with one in reserve, none is waited for
            self._has_begun = len(self._waiting) > 1
        if self._has_begun and self._waiting:
            played = self._waiting.popleft()
            return played + self._silence[len(played) :], []
        self.late_frames += self._has_begun
        return self._silence, []

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns nothing: there is no frame for a hang-up, and the socket is closed."""
        return []


class _TcpWire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._splitter = Splitter()
        self._frames: list[bytes] = []

    async def send_messages(self, messages: list[str | bytes]) -> None:
        if not self._writer.is_closing():
            self._writer.write(b"".join(message for message in messages if isinstance(message, bytes)))

    async def receive_message(self) -> bytes | None:
        try:
            while not self._frames:
                data = await self._reader.read(65_536)
                if not data:
                    return None
                self._frames = self._splitter.push(data)
        except ConnectionError:
            return None
        return self._frames.pop(0)

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def cut(self) -> None:
        reset(self._writer.transport)


async def _connect(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    where = urlsplit(dialling.url if "://" in dialling.url else f"tcp://{dialling.url}")
    try:
        uuid = UUID(dialling.secret)
        host, port = where.hostname or "127.0.0.1", where.port or _DEFAULT_PORT
    except ValueError:
        raise CallFailed("AudioSocket needs host:port, and --secret with a UUID that the bridge knows.") from None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        raise explain(error, f"tcp://{host}:{port}") from None
    _, audio_format = choose(_SLIN, dialling.codec)
    return AudioSocketCarrier(uuid, audio_format), _TcpWire(reader, writer)


AUDIOSOCKET = Simulator(name="audiosocket", variable="BRIDGE_AUDIOSOCKET_UUID", connect=_connect)
