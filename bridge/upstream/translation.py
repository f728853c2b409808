"""Translations of a service over WebSocket: the line in their own words, and what stands between it and the session.

Nothing is answered in turns, so a line that is lost is replaced by one with the same configuration, and the translation
goes on with what is said next. How much was translated is counted here, because no service reports it.
"""

import asyncio
from binascii import a2b_base64, b2a_base64

from structlog.typing import FilteringBoundLogger

from bridge.context import CallContext
from bridge.errors import BadEvent, UpstreamError
from bridge.media.playback import Part
from bridge.media.silence_filler import SilenceFiller
from bridge.session.contracts import Downstream
from bridge.session.state import SessionState
from bridge.upstream.line import Line, LineOwner, WholeSamples
from bridge.upstream.line_relay import Seconds
from bridge.upstream.line_session import BridgeEvents, LineSession
from bridge.upstream.managed_line import SESSION_EXPIRED
from bridge.upstream.service_socket import ServiceSocket
from bridge.upstream.target import Target
from bridge.wire import server_events as server
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.relayed import UPSTREAM_PROTOCOL, decode_relayed, understood
from bridge.wire.server_events import Body, encode
from bridge.wire.translations import APPEND, CLOSE, CLOSED, OUTPUT_AUDIO_DELTA

__all__ = ["TranslationLine", "TranslationRelay"]

_APPEND = b'{"type":"%b","audio":"%%b"}' % APPEND.encode()
_AUDIO_DELTAS = frozenset({OUTPUT_AUDIO_DELTA})
_BYTES_PER_S = PCM16.bytes_per_ms * 1000
_STREAM = Part("translation", "translation", 0, 0)
_DRAIN_S = 5.0  # what is left of a translation comes within so much after it was closed
_POLL_S = 0.1
_QUIET_S = 2.0  # no word for so long: a line may be replaced


class TranslationLine:
    """See ``Line``; it is told to close before it is closed, and what is left of the translation still comes."""

    plays = False
    passage = None
    input_format = output_format = PCM16

    def __init__(self, target: Target, model: str, *, timeout_s: float, context: CallContext) -> None:
        headers = {**target.headers, **context.trace_headers}
        self._socket = ServiceSocket(target.translation_address(model), headers, timeout_s=timeout_s)
        self._log = context.logger("upstream", upstream=target.name)
        self._samples = WholeSamples()
        self._is_greeted = self._is_closing = False
        self._over = asyncio.Event()
        """Set when the service has said that the translation is closed, or is gone."""
        self._output_bytes = 0

    async def open(self, owner: LineOwner, state: SessionState) -> None:
        """Connects; raises ``UpstreamError``."""
        self._owner = owner
        await self._socket.open()

    async def run(self) -> UpstreamError | None:
        """Hands over what comes, until the service has closed the translation; returns why it ended."""
        try:
            async with asyncio.TaskGroup() as group:
                hearing = group.create_task(self._socket.run(self._receive))
                closing = group.create_task(self._over.wait())
                await asyncio.wait((hearing, closing), return_when=asyncio.FIRST_COMPLETED)
                has_ended = hearing.done()
                hearing.cancel()
                closing.cancel()
            return hearing.result() if has_ended and not self._is_closing else None
        finally:
            self._over.set()

    def send_client_event(self, body: Body) -> None:
        """Sends an event. After a ``session.close`` the service has a few seconds to finish."""
        self._socket.write_message(encode(body))
        if body["type"] == CLOSE and not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_later(_DRAIN_S, self._over.set)

    def send_audio(self, sound: bytes) -> None:
        """Sends a piece of the caller's sound, unless the translation is being closed."""
        if not self._is_closing:
            self._socket.write_message(_APPEND % b2a_base64(sound, newline=False))

    async def aclose(self) -> None:
        """Closes the translation, reads what is left of it within a few seconds, and says goodbye; may be called twice.

        Otherwise the service would go on for a while, and what it translates costs money.
        """
        if self._is_greeted and not self._over.is_set():
            if not self._is_closing:
                self.send_client_event({"type": CLOSE})
            before = self._output_bytes
            await self._over.wait()
            self._log.info("upstream.drained", output_seconds=round((self._output_bytes - before) / _BYTES_PER_S, 1))
        await self._socket.aclose()

    def _receive(self, text: bytes) -> None:
        message = decode_relayed(text, _AUDIO_DELTAS)
        if isinstance(message, dict):
            self._is_greeted = True
            self._owner.received(self, message)
            if message["type"] == CLOSED:
                self._over.set()
            return
        if message.sample_rate not in (None, PCM16.rate_hz) or message.channels not in (None, 1):
            raise BadEvent("The upstream's sound is not mono at 24 kHz.", code=UPSTREAM_PROTOCOL)
        try:
            sound = a2b_base64(str(message.delta), strict_mode=True)
        except ValueError:
            raise BadEvent("The upstream sent sound that is not base64.", code=UPSTREAM_PROTOCOL) from None
        self._output_bytes += len(sound)
        sound = self._samples.join(_STREAM, sound, PCM16)
        if sound:
            self._owner.received_audio(self, _STREAM, sound)


class TranslationRelay:
    """See ``LineRelay``."""

    answers = 0
    offset_ms = 0

    def __init__(
        self, downstream: Downstream, state: SessionState, log: FilteringBoundLogger, *, fills_silence: bool
    ) -> None:
        """With ``fills_silence``, the service gets silence for as long as no sound comes."""
        self.seconds = Seconds()
        self._downstream = downstream
        self._own = BridgeEvents()
        self._session = LineSession(downstream, state, self._own, log=log, is_translation=True)
        self._fills_silence = fills_silence
        self._filler: SilenceFiller | None = None
        self._line: Line | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._said_at = 0.0
        self._is_closing = self._is_expired = False

    def close(self) -> None:
        """Ends the silence."""
        self._line = None
        if self._timer is not None:
            self._timer.cancel()

    @property
    def is_live(self) -> bool:
        """Whether clients have heard ``session.created``."""
        return self._session.is_live

    @property
    def is_idle(self) -> bool:
        """Whether no word has come for a while."""
        return not self._is_closing and _now() - self._said_at > _QUIET_S

    @property
    def owes_answer(self) -> bool:
        """Whether the service has yet to say how the session is."""
        return not self.is_live

    def new_id(self) -> str:
        """Makes an id for an event that no client sent."""
        return self._own.new_id()

    def is_own(self, event_id: str | None) -> bool:
        """Whether the bridge sent the event, and no client."""
        return event_id in self._own

    def ask(self, line: Line, body: Body, now: float) -> None:
        """Sends a client event."""
        self._is_closing = self._is_closing or body["type"] == CLOSE
        line.send_client_event(body)

    def push(self, line: Line, sound: bytes) -> None:
        """Sends a piece of the caller's sound, behind the silence that is missing before it."""
        if self._is_closing:
            return
        if self._filler is not None:
            sound = self._filler.push(len(sound), _now()) + sound
        self._send(line, sound)

    def greet(self, line: Line, created: Body, now: float) -> None:
        """Sets the first line to what the session was opened with."""
        self._take(line, now)
        update = self._session.greet(created)
        if update is not None:
            line.send_client_event(update)

    def brief(self, line: Line, created: Body, now: float, *, is_renewal: bool) -> None:
        """Sets a further line as the last one was."""
        self._take(line, now)
        line.send_client_event(self._session.brief(created, is_renewal=is_renewal))

    def hand_over(self, audio_format: AudioFormat) -> tuple[list[Body], bytes, list[Body]]:
        """Nothing: the embedded engine does not translate, and never goes on with a translation."""
        return [], b"", []

    def forget_unanswered(self, before: float) -> None:
        """Does nothing, because nothing is remembered."""

    def lose(self, error: UpstreamError) -> None:
        """Tells clients that the line was lost."""
        self._line = None
        if self.is_live:
            notice = UpstreamError(f"{error.message} Reconnecting.", code="upstream_reconnecting")
            self._downstream.deliver_event(server.error_event(notice))

    def hear(self, body: Body) -> None:
        """Hands an event of the service on as it is; a session that has expired goes on elsewhere."""
        event = understood(body)
        if isinstance(event, server.Error):
            self._is_expired = self._is_expired or event.error.code == SESSION_EXPIRED
            self._session.hear_error(event, body)
        elif body["type"] == "session.updated" and isinstance(body.get("session"), dict):
            self._session.hear_update(body)
        elif body["type"] == CLOSED:
            if self._is_closing or not self._is_expired:
                self._downstream.deliver_event(event, body)
        elif body["type"] != "session.created":
            self._said_at = _now()
            self._downstream.deliver_event(event, body)

    def hear_audio(self, part: Part, sound: bytes) -> None:
        """Counts a piece of the translation, and hands it on."""
        self.seconds.output += len(sound) / _BYTES_PER_S
        self._downstream.deliver_audio(part, sound)

    def _take(self, line: Line, now: float) -> None:
        self._line, self._is_expired = line, False
        if self._fills_silence and self._filler is None:
            self._filler = SilenceFiller(now, bytes_per_s=_BYTES_PER_S)
            self._poll()

    def _poll(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_POLL_S, self._poll)
        silence = b"" if self._filler is None else self._filler.poll(_now())
        if silence and self._line is not None and not self._is_closing:
            self._send(self._line, silence)

    def _send(self, line: Line, sound: bytes) -> None:
        self.seconds.input += len(sound) / _BYTES_PER_S
        line.send_audio(sound)


def _now() -> float:
    return asyncio.get_running_loop().time()
