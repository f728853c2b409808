"""One connection to the server that is checked: what was sent over it, what came, and when it came."""

import asyncio
import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from time import monotonic
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from bridge.client.change_signal import ChangeSignal
from bridge.client.check.target import CheckTarget
from bridge.client.lines import ClientWebRtcLine, open_socket
from bridge.client.sound import BYTES_PER_MS, is_silent
from bridge.wire.message import EncodedMessage

__all__ = ["Link", "PeerLink", "SocketLink", "open_link", "open_socket_link"]

_FRAME_MS = 20
_DELTAS = ("response.output_audio.delta", "response.audio.delta", "session.output_audio.delta")
_LIVE_DELTA = "session.output_audio.delta"
"""A Live session sends sound all the time, silence too."""
_MOST_EVENTS = 20_000


class Link:
    """The base of links over either transport. It has the events in the order in which they came."""

    call_id: str | None = None
    append_kind = "input_audio_buffer.append"
    """The type of the event that carries the caller's sound."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.heard_ms = 0.0
        """How much sound came that is not silence, in milliseconds."""
        self.close_code: int | None = None
        """The close code, once the connection has ended; 1006 if it ended without one."""
        self.changes = ChangeSignal()
        self.strays: list[str] = []
        """Descriptions of what came and was no event."""
        self.is_speaking = False
        self._came_at = monotonic()

    @property
    def quiet_s(self) -> float:
        """The seconds since the last message came."""
        return monotonic() - self._came_at

    def receive_message(self, text: str | bytes) -> None:
        """Takes a message."""
        self._came_at = monotonic()
        try:
            event = json.loads(text)
        except ValueError:
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            self.strays.append(f"a message that is not an event: {text[:80]!r}")
        elif len(self.events) < _MOST_EVENTS:
            self.events.append(event)
            if event["type"] in _DELTAS:
                self._count_delta(event)
        self.changes.notify()

    def take_sound(self, pcm: bytes) -> None:
        """Takes sound that came over a track."""
        if not is_silent(pcm):
            self.heard_ms += len(pcm) / BYTES_PER_MS
            self.changes.notify()

    def _count_delta(self, event: dict[str, Any]) -> None:
        try:
            pcm = b64decode(event.get("delta", ""), validate=True)
            self.heard_ms += 0.0 if event["type"] == _LIVE_DELTA and is_silent(pcm) else len(pcm) / BYTES_PER_MS
        except (Base64Error, TypeError, ValueError):
            self.strays.append(f"{event['type']} whose delta is no base64")

    @property
    def stood_still_ms(self) -> int:
        """How long this process has stood still, if that makes pauses in what is spoken over this link.

        Over a WebSocket it does not, because there the sound itself is the time.
        """
        return 0

    async def send_message(self, message: str | bytes) -> None:
        """Sends a message as it is."""
        raise NotImplementedError

    async def play_caller_audio(self, pcm: bytes) -> None:
        """Speaks in real time, and then is silent in real time, until it is cancelled."""
        raise NotImplementedError

    async def ping(self) -> None:
        """Sends a ping, and returns when the server has answered it."""
        raise NotImplementedError


class SocketLink(Link):
    """A link over a WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__()
        self._socket = socket
        self.subprotocol = socket.subprotocol

    async def read(self) -> None:
        """Takes what comes, until the socket is closed."""
        try:
            while True:
                self.receive_message(await self._socket.recv())
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd is not None else 1006
            self.changes.notify()

    async def send_message(self, message: str | bytes) -> None:
        """Sends a text or a binary message. If the socket is closed, it does nothing."""
        with suppress(ConnectionClosed):
            await self._socket.send(message)

    async def play_caller_audio(self, pcm: bytes) -> None:
        """Appends 20 ms of sound each 20 ms."""
        size, clock = _FRAME_MS * BYTES_PER_MS, asyncio.get_running_loop().time
        due, at = clock(), 0
        while True:
            due += _FRAME_MS / 1000
            await asyncio.sleep(max(0.0, due - clock()))
            frame = pcm[at : at + size].ljust(size, b"\0")
            at += size
            await self.send_message(json.dumps({"type": self.append_kind, "audio": b64encode(frame).decode()}))

    async def ping(self) -> None:
        """Sends a ping, and returns when the pong has come."""
        await (await self._socket.ping())


class _Sink(Protocol):
    def send_message(self, message: EncodedMessage) -> None: ...


class PeerLink(Link):
    """A link over WebRTC. It is the owner of its line."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        """``headers`` go with the offer."""
        super().__init__()
        self.line = ClientWebRtcLine(self, headers=headers)

    @property
    def call_id(self) -> str | None:  # type: ignore[override]
        """The server's id of the call."""
        return self.line.call_id

    @property
    def stood_still_ms(self) -> int:
        """The pauses that the clock of the line has left in the sound."""
        return self.line.stood_still_ms

    async def send_message(self, message: str | bytes) -> None:
        """Sends a text over the data channel."""
        self.line.send_text(message if isinstance(message, bytes) else message.encode())

    async def play_caller_audio(self, pcm: bytes) -> None:
        """Plays the sound, and then silence."""
        self.is_speaking = True
        try:
            await self.line.play_caller_audio(pcm, b"")
        finally:
            self.is_speaking = False

    # The line's reports

    def receive_event(self, event: dict[str, Any]) -> None:
        """Takes a server event."""
        self.receive_message(json.dumps(event))

    def receive_audio(self, pcm: bytes) -> None:
        """Takes the track's sound."""
        self.take_sound(pcm)

    def speaking(self, spoken_ms: int) -> None:
        """Does nothing, because nobody looks on."""

    def spoken(self) -> None:
        """Does nothing, because nobody looks on."""

    def wants_silence(self) -> bool:
        """Returns whether the turn of the phrase has not ended yet."""
        return self.is_speaking

    def line_lost(self, message: str, code: str) -> None:
        """Notes that the call is over."""
        self.close_code = 1006
        self.changes.notify()


@asynccontextmanager
async def open_link(target: CheckTarget, tasks: asyncio.TaskGroup) -> AsyncIterator[Link]:
    """Opens a connection of the target's transport, in its dialect, and reads it in ``tasks``.

    Raises ``CallFailed``.
    """
    if target.transport == "websocket":
        async with open_socket_link(target, tasks) as link:
            yield link
        return
    peer = PeerLink(target.extra_headers)
    address = target.address
    if target.is_beta:  # beta's offers go where its WebSockets go
        address = replace(address, calls=address.calls.replace("/realtime/calls", "/realtime"))
    async with peer.line.open(address, target.api_key, sound_s=60):
        yield peer


@asynccontextmanager
async def open_socket_link(
    target: CheckTarget,
    tasks: asyncio.TaskGroup,
    url: str | None = None,
    *,
    key: str | None = None,
    subprotocols: tuple[str, ...] = (),
) -> AsyncIterator[SocketLink]:
    """Opens a WebSocket to ``url``, or one for a session of its own; raises ``CallFailed``."""
    shown = None if subprotocols and key else (key or target.api_key)
    socket = await open_socket(
        url or target.socket_url(), shown, headers=_without_key(target), subprotocols=subprotocols
    )
    link = SocketLink(socket)
    if target.is_live:
        link.append_kind = "session.input_audio.append"
    tasks.create_task(link.read())
    try:
        yield link
    finally:
        await socket.close()


def _without_key(target: CheckTarget) -> dict[str, str]:
    return {name: value for name, value in target.headers().items() if name != "Authorization"}
