"""A Realtime service over WebSocket."""

from bridge.context import CallContext
from bridge.errors import BadEvent, UpstreamError
from bridge.media.playback import Part
from bridge.session.state import SessionState
from bridge.upstream.line import LineOwner, WholeSamples
from bridge.upstream.service_socket import ServiceSocket
from bridge.upstream.target import ProfileTranslator, Target
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.base64_json import quoted_base64, read_base64
from bridge.wire.relayed import AudioDelta, decode_relayed
from bridge.wire.server_events import Body, encode
from bridge.wire.sessions import SessionConfig

__all__ = ["WebSocketLine"]

_APPEND = b'{"type":"input_audio_buffer.append","audio":%b}'


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
        headers = {**target.headers, **({} if context is None else context.trace_headers)}
        if target.profile.dialect == "beta":
            headers["OpenAI-Beta"] = "realtime=v1"
        self._target = target
        self._address = target.address(model, is_transcription=is_transcription)
        self._translator = ProfileTranslator(target.profile)
        self._socket = ServiceSocket(self._address, headers, timeout_s=timeout_s)
        self._samples = WholeSamples()
        self._config: SessionConfig | None = None
        """The configuration for which the formats were settled."""
        self._input_format = self._output_format = PCM16

    async def open(self, owner: LineOwner, state: SessionState) -> None:
        """Connects; raises ``UpstreamError``."""
        self._owner = owner
        self._state = state
        await self._socket.open()

    async def run(self) -> UpstreamError | None:
        """Hands over what comes, until the end; returns why it ended."""
        return await self._socket.run(self._receive)

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

    def send_client_event(self, body: Body) -> None:
        """Sends a GA client event."""
        self._socket.write_message(encode(self._translator.encode(body)))

    def send_audio(self, sound: bytes) -> None:
        """Sends a piece of the caller's sound; this is the hot path."""
        self._socket.write_message(_APPEND % quoted_base64(sound))

    async def aclose(self) -> None:
        """Says goodbye, and cuts where that takes too long; may be called twice."""
        await self._socket.aclose()

    def _receive(self, text: bytes) -> None:
        message = decode_relayed(text)
        if not isinstance(message, AudioDelta):
            for body in self._translator.decode(message):
                self._owner.received(self, body)
            return
        try:
            sound = read_base64(str(message.delta))
        except ValueError:
            raise BadEvent("The upstream sent sound that is not base64.", code="upstream_protocol") from None
        part = Part(message.response_id, message.item_id, message.output_index, message.content_index)
        sound = self._samples.join(part, sound, self.output_format)
        if sound:
            self._owner.received_audio(self, part, sound)
