"""A Live service over WebSocket: the client speaks first, and sound travels in events both ways."""

import binascii
from binascii import b2a_base64

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.context import CallContext
from bridge.errors import BadEvent, UpstreamError
from bridge.upstream.live.line import LiveLineOwner
from bridge.upstream.live.start import LiveStart
from bridge.upstream.service_socket import ServiceSocket
from bridge.upstream.target import Target
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.relayed import UPSTREAM_PROTOCOL, decode_relayed
from bridge.wire.server_events import Body, encode

__all__ = ["LiveWebSocketLine"]

_APPEND = b'{"type":"session.input_audio.append","audio":"%b"}'
_DELTA = "session.output_audio.delta"


class _Delta(Struct):
    """A piece of the model's sound. It is the one event that is read without a body."""

    type: str
    delta: str | UnsetType = UNSET


_delta_decoder = msgspec.json.Decoder(_Delta)


class LiveWebSocketLine:
    """See ``LiveLine``."""

    passage = None

    def __init__(self, target: Target, *, timeout_s: float, context: CallContext) -> None:
        """``context`` is of the call that it is for."""
        self._target = target
        self._timeout_s = timeout_s
        self._headers = {**target.headers, **context.trace_headers}
        self._socket: ServiceSocket | None = None
        self._format = PCM16
        self._half_sample = b""

    async def open(self, owner: LiveLineOwner, start: LiveStart) -> None:
        """Connects and sends ``session.start``; raises ``UpstreamError``."""
        self._owner = owner
        self._format = start.audio_format
        path = () if start.fork_of is None else (start.fork_of, "fork")
        socket = self._socket = ServiceSocket(
            self._target.live_address(*path), self._headers, timeout_s=self._timeout_s
        )
        await socket.open()
        session = start.for_socket(self._target.model)
        socket.write_message(encode({"type": "session.start", "event_id": new_id("event"), "session": session}))

    async def run(self) -> UpstreamError | None:
        """Hands over what comes, until the end; returns why it ended."""
        assert self._socket is not None, "it has been opened"
        return await self._socket.run(self._receive)

    @property
    def input_format(self) -> AudioFormat:
        """The session's format, which both directions have."""
        return self._format

    @property
    def output_format(self) -> AudioFormat:
        """The session's format, which both directions have."""
        return self._format

    def send_live_event(self, body: Body) -> None:
        """Sends a Live client event."""
        if self._socket is not None:
            self._socket.write_message(encode(body))

    def send_audio(self, sound: bytes) -> None:
        """Sends a piece of the caller's sound; this is the hot path."""
        if self._socket is not None:
            self._socket.write_message(_APPEND % b2a_base64(sound, newline=False))

    async def aclose(self) -> None:
        """Says goodbye, and cuts where that takes too long; may be called twice."""
        if self._socket is not None:
            await self._socket.aclose()

    def _receive(self, text: bytes) -> None:
        try:
            delta = _delta_decoder.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            delta = None  # it is another event, or none
        if delta is None or delta.type != _DELTA or delta.delta is UNSET:
            body = decode_relayed(text)
            if not isinstance(body, dict):
                raise BadEvent("The upstream speaks Realtime, not Live.", code=UPSTREAM_PROTOCOL)
            self._owner.received(self, body)
            return
        try:
            sound = self._half_sample + binascii.a2b_base64(delta.delta, strict_mode=True)
        except (binascii.Error, ValueError):
            raise BadEvent("The upstream sent sound that is not base64.", code=UPSTREAM_PROTOCOL) from None
        whole_bytes = len(sound) - len(sound) % self._format.bytes_per_sample
        self._half_sample = sound[whole_bytes:]
        if whole_bytes:
            self._owner.received_audio(self, sound[:whole_bytes])
