"""A Realtime service over WebSocket, by the ``websockets`` client."""

import binascii
from binascii import b2a_base64
from typing import cast

from websockets.asyncio.client import connect
from websockets.asyncio.connection import broadcast
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from bridge.context import CallContext
from bridge.errors import BadEvent, UpstreamError
from bridge.media.playback import Part
from bridge.names import until_answered
from bridge.outgoing import TLS, refusal
from bridge.session.state import SessionState
from bridge.sliced import SlicedConnection
from bridge.upstream.line import LineOwner, WholeSamples
from bridge.upstream.target import Target, Tongue
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.relayed import AudioDelta, decode_relayed
from bridge.wire.server_events import Body, encode
from bridge.wire.sessions import SessionConfig

__all__ = ["WebSocketLine"]

_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_MAX_BUFFERED_BYTES = 8 * 1024 * 1024  # 80 s of sound, or the largest append: a service that takes no more is gone
_PING_S = 10.0
_CLOSE_TIMEOUT_S = 1.0
_APPEND = b'{"type":"input_audio_buffer.append","audio":"%b"}'
_NORMAL = 1000
_FINAL_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 1010, 4000})  # trying again would end the same way


class _Connect(connect):
    """Connects without following redirects, which would take the key and the caller's sound to a place that no operator
    chose.
    """

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class WebSocketLine:
    """See ``Line``."""

    plays = False
    passage = None

    def __init__(
        self,
        target: Target,
        model: str,
        *,
        timeout_s: float,
        is_transcription: bool = False,
        context: CallContext | None = None,
    ) -> None:
        """``context`` is of the call that it is for; without it the service learns of no trace."""
        self._headers = {**target.headers, **({} if context is None else context.trace_headers)}
        if target.profile.dialect == "beta":
            self._headers["OpenAI-Beta"] = "realtime=v1"
        self._target = target
        self._address = target.address(model, is_transcription=is_transcription)
        self._tongue = Tongue(target.profile)
        self._timeout_s = timeout_s
        self._socket: SlicedConnection | None = None
        self._fault: UpstreamError | None = None
        self._samples = WholeSamples()
        self._config: SessionConfig | None = None
        """The configuration for which the formats were settled."""
        self._input_format = self._output_format = PCM16

    async def open(self, owner: LineOwner, state: SessionState) -> None:
        """Connects; raises ``UpstreamError``."""
        self._owner = owner
        self._state = state
        try:
            await self._until_named()
            connection = await _Connect(
                self._address,
                create_connection=SlicedConnection,
                additional_headers=self._headers,
                ssl=TLS if self._target.url.startswith("wss:") else None,
                compression=None,
                max_size=_MAX_MESSAGE_BYTES,
                open_timeout=self._timeout_s,
                ping_interval=_PING_S,
                ping_timeout=_PING_S,
                close_timeout=_CLOSE_TIMEOUT_S,
                max_queue=64,
                write_limit=2 * _MAX_BUFFERED_BYTES,  # nothing ever waits for room, closing least of all
            )
            self._socket = cast(SlicedConnection, connection)
        except InvalidStatus as error:
            response = error.response
            raise refusal(
                response.status_code, bytes(response.body or b""), response.headers.get("Retry-After")
            ) from error
        except (OSError, TimeoutError, InvalidHandshake, EOFError) as error:
            raise UpstreamError(f"The upstream cannot be reached: {_reason(error)}", code="upstream_lost") from error

    async def _until_named(self) -> None:
        """Raises ``TimeoutError`` if no name server answers; a proxy looks names up itself."""
        uri = parse_uri(self._address)
        if get_proxy(uri) is None:
            await until_answered(uri.host, uri.port, self._timeout_s)

    async def run(self) -> UpstreamError | None:
        """Hands over what comes, until the end; returns why it ended."""
        socket = self._socket
        assert socket is not None
        try:
            while True:
                message = await socket.recv(decode=False)
                socket.work.begin()
                self._receive(message)
                await socket.work.rest()  # a service that says very much waits for its turn
                socket.work.end()
        except ConnectionClosed as error:
            return self._fault or _ending(error)
        except BadEvent as error:
            return UpstreamError(error.message, code=error.code)

    @property
    def input_format(self) -> AudioFormat:
        """The format in which it takes the caller's sound."""
        if self._state.config is not self._config:
            self._settle_formats()
        return self._input_format

    @property
    def output_format(self) -> AudioFormat:
        """The format in which it gives the answer."""
        if self._state.config is not self._config:
            self._settle_formats()
        return self._output_format

    def _settle_formats(self) -> None:
        """Settles the formats once for each configuration, and not for each piece of sound."""
        state, profile = self._state, self._target.profile
        self._config = state.config
        self._input_format = profile.input_format(state.input.format)
        self._output_format = profile.output_format(state.output.format)

    def send(self, body: Body) -> None:
        """Sends a GA client event."""
        self._write(encode(self._tongue.encode(body)))

    def send_audio(self, sound: bytes) -> None:
        """Sends a piece of the caller's sound; this is the hot path."""
        self._write(_APPEND % b2a_base64(sound, newline=False))

    async def aclose(self) -> None:
        """Says goodbye, and cuts where that takes too long; may be called twice."""
        if self._socket is not None:
            await self._socket.close()

    def _write(self, message: bytes) -> None:
        """Writes without waiting. A service that does not take what it is sent is cut off, and counts as lost."""
        socket = self._socket
        if socket is None or self._fault is not None:
            return
        if socket.transport.get_write_buffer_size() + len(message) > _MAX_BUFFERED_BYTES:
            self._fault = UpstreamError("The upstream does not read what it is sent.", code="upstream_stalled")
            socket.transport.abort()
            return
        broadcast((socket,), message.decode())

    def _receive(self, text: bytes | str) -> None:
        message = decode_relayed(text)
        if not isinstance(message, AudioDelta):
            for body in self._tongue.decode(message):
                self._owner.received(self, body)
            return
        try:
            sound = binascii.a2b_base64(str(message.delta), strict_mode=True)
        except (binascii.Error, ValueError):
            raise BadEvent("The upstream sent sound that is not base64.", code="upstream_protocol") from None
        part = Part(message.response_id, message.item_id, message.output_index, message.content_index)
        sound = self._samples.join(part, sound, self.output_format)
        if sound:
            self._owner.received_audio(self, part, sound)


def _ending(error: ConnectionClosed) -> UpstreamError | None:
    """The error that a closed socket stands for."""
    close = error.rcvd
    if close is None or not error.rcvd_then_sent:  # cut, or closed by us for what it sent
        return UpstreamError("The connection to the upstream was lost.", code="upstream_lost")
    if close.code == _NORMAL:
        return None
    said = f": {close.reason}" if close.reason else ""
    return UpstreamError(
        f"The upstream closed the connection with {close.code}{said}",
        code="upstream_lost",
        is_transient=close.code not in _FINAL_CODES,
    )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
