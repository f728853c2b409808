"""A Realtime service over WebRTC: we are its caller, with a microphone that the session speaks into."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from bridge.context import CallContext
from bridge.errors import BadEvent, BadOffer, BridgeError, PeerError, UpstreamError
from bridge.media.contracts import Sink
from bridge.media.passing import PassedPacket
from bridge.media.playback import Marked, Part, Started, Stopped
from bridge.outgoing import HTTPError, new_client
from bridge.session.state import SessionState
from bridge.upstream.heard_answer import HeardAnswer
from bridge.upstream.line import LineOwner
from bridge.upstream.target import Target, Tongue
from bridge.upstream.websocket import refusal
from bridge.webrtc.dial import dial
from bridge.webrtc.ice_full import IceServers
from bridge.webrtc.peer import Peer
from bridge.webrtc.runner import PeerRunner
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.message import EncodedMessage
from bridge.wire.relayed import AudioDelta, decode_relayed
from bridge.wire.server_events import Body, ErrorDetail, encode

__all__ = ["WebRtcLine"]

_QUEUE_S = 60  # of a client's sound that comes faster than it can be spoken
_MAX_ANSWER_BYTES = 64 * 1024
_SDP = "application/sdp"
_SETTLE_S = 0.1  # between the last packet of a turn and the word that it is one
_POLL_S = 0.05
_COMMIT, _CLEAR, _CANCEL = "input_audio_buffer.commit", "input_audio_buffer.clear", "response.cancel"
_SILENT_CLEAR = {"type": "output_audio_buffer.clear"}
_MAX_WAITING = 1024  # of events; what is more goes out at once
_SPOKEN = Part("", "", 0, 0)


@dataclass(slots=True, eq=False)
class _Waiting:
    """What has its turn when all before it has: an event, or sound."""

    what: Body | bytearray
    mark_id: str | None = None
    """Of a commit: when it is reached, all that is committed has been spoken."""


class WebRtcLine:
    """See ``Line``; the ``LegOwner`` of the peer that calls."""

    plays = True

    def __init__(
        self,
        target: Target,
        model: str,
        *,
        runner: PeerRunner,
        ice_servers: IceServers,
        timeout_s: float,
        context: CallContext,
        is_transcription: bool = False,
    ) -> None:
        self._target = target
        self._address = target.address(model, is_transcription=is_transcription)
        self._is_transcription = is_transcription
        self._context = context
        self._tongue = Tongue(target.profile)
        self._runner = runner
        self._ice_servers = ice_servers
        self._timeout_s = timeout_s
        self._stack = AsyncExitStack()
        self._peer: Peer | None = None
        self._sink: Sink | None = None
        self._answer = HeardAnswer()
        self._ended: asyncio.Future[UpstreamError | None] = asyncio.get_running_loop().create_future()
        self._is_open = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._answer_taker: Callable[[Part, PassedPacket], bool] | None = None
        self._answer_reader: Callable[[Part, PassedPacket], None] | None = None
        self._decodes = True
        self._is_passing = False
        self._waiting: deque[_Waiting] = deque()
        """Behind a commit whose sound is still being spoken."""
        self._holds_sound = False
        """A clear waits: what comes behind it is not to be cleared."""
        self._held_bytes = 0
        self._reached: set[str] = set()
        self._is_refusing = False

    async def open(self, owner: LineOwner, state: SessionState) -> None:
        """Offers, connects and opens the data channel; raises ``UpstreamError``."""
        self._owner = owner
        try:
            async with asyncio.timeout(self._timeout_s):
                self._peer = await self._stack.enter_async_context(
                    dial(
                        self._runner,
                        self,
                        self._post_offer,
                        queue_limit_s=_QUEUE_S,
                        is_microphone=True,
                        ice_servers=self._ice_servers,
                        context=self._context,
                    )
                )
                await self._is_open.wait()
        except TimeoutError:
            message = f"The upstream's peer did not connect within {self._timeout_s:g} s."
            raise UpstreamError(message, code="upstream_timeout") from None
        except (BadOffer, PeerError) as error:
            raise UpstreamError(f"The upstream's answer is of no use: {error.message}", is_transient=False) from error
        if self._ended.done():
            raise self._ended.result() or UpstreamError("The upstream's peer left at once.", code="upstream_lost")

    async def run(self) -> UpstreamError | None:
        """Until the peer is gone; what time alone makes due is handed over meanwhile."""
        while not self._ended.done():
            await asyncio.wait((self._ended,), timeout=_POLL_S)
            self._hand_over(self._answer.poll(self._clock()))
        self._hand_over(self._answer.end())
        return self._ended.result()

    @property
    def input_format(self) -> AudioFormat:
        """What the peer encodes."""
        return PCM16

    @property
    def output_format(self) -> AudioFormat:
        """What it decodes."""
        return PCM16

    def send(self, body: Body) -> None:
        """A GA client event; a commit waits until what was said before it has been spoken, and all else behind it."""
        if self._peer is None:
            return
        if len(self._waiting) >= _MAX_WAITING:
            self._write(body)
            return
        waiting = _Waiting(body)
        self._holds_sound |= bool(self._waiting) and body["type"] == _CLEAR
        if not self._holds_sound:
            self._mark(waiting)
        if self._waiting or not self._is_due(waiting):
            self._waiting.append(waiting)
        else:
            self._write(body)

    def send_audio(self, sound: bytes) -> None:
        """Spoken in real time; what is too far ahead of it is refused, by an ``error`` event."""
        if self._peer is None:
            return
        is_taken = self._hold(sound) if self._holds_sound else self._speak(sound)
        if not is_taken and not self._is_refusing:
            self._refuse_sound()
        self._is_refusing = not is_taken

    def _speak(self, sound: bytes) -> bool:
        """False where too much waits to be spoken."""
        peer = self._peer
        assert peer is not None
        before = peer.rtp.outbound.overflow_ms
        peer.play(_SPOKEN, sound)
        return peer.rtp.outbound.overflow_ms == before

    def _hold(self, sound: bytes) -> bool:
        if self._held_bytes + len(sound) > _QUEUE_S * 1000 * PCM16.bytes_per_ms:
            return False
        self._held_bytes += len(sound)
        last = self._waiting[-1].what
        if isinstance(last, bytearray):
            last += sound
        else:
            self._waiting.append(_Waiting(bytearray(sound)))
        return True

    def _mark(self, waiting: _Waiting) -> None:
        """Sets a commit's mark behind all that it commits."""
        if self._peer is None or isinstance(waiting.what, bytearray) or waiting.what["type"] != _COMMIT:
            return
        if waiting.mark_id is None:
            waiting.mark_id = new_id("mark")
            if self._peer.mark(waiting.mark_id):
                self._reached.add(waiting.mark_id)

    def _is_due(self, waiting: _Waiting) -> bool:
        """Everything is, but a commit of what has not been spoken yet."""
        self._mark(waiting)
        if waiting.mark_id is None:
            return True
        if waiting.mark_id not in self._reached:
            return False
        self._reached.discard(waiting.mark_id)
        return True

    def _go_on(self, mark_id: str) -> None:
        """A commit is due, and with it what waits behind it, up to the next one."""
        self._reached.add(mark_id)
        while self._waiting and self._is_due(self._waiting[0]):
            what = self._waiting.popleft().what
            if isinstance(what, bytearray):
                self._held_bytes -= len(what)
                self._speak(bytes(what))
            else:
                self._write(what)
        if not self._waiting:
            self._holds_sound = False

    async def aclose(self) -> None:
        """Hangs up; may be called twice."""
        self._peer = None
        await self._stack.aclose()

    # Opus that is passed on

    @property
    def passage(self) -> "WebRtcLine | None":
        """Once the peer is there."""
        return self if self._sink is not None and self._peer is not None else None

    def forward(self, passed: PassedPacket) -> bool:
        """The caller's packet, as it came; what waited to be spoken before gives way to it."""
        peer = self._peer
        if peer is None:
            return False
        if peer.rtp.outbound.playback.queued_ms:
            peer.clear()
            for mark_id in [waiting.mark_id for waiting in self._waiting if waiting.mark_id is not None]:
                self._go_on(mark_id)
        return peer.rtp.forward(None, passed)

    def pass_answers_to(
        self,
        taker: Callable[[Part, PassedPacket], bool] | None,
        *,
        decodes: bool,
        reader: Callable[[Part, PassedPacket], None] | None = None,
    ) -> None:
        """From the next answer on, if the service says when it begins to play; else somebody has to listen for it."""
        self._answer_taker, self._answer_reader, self._decodes = taker, reader, decodes
        if self._is_passing:
            self._listen(is_passing=taker is not None)

    def _listen(self, *, is_passing: bool) -> None:
        self._is_passing = is_passing
        if self._peer is not None:
            self._peer.rtp.pass_to(self._take_packet if is_passing else None, decodes=self._decodes or not is_passing)
            self._peer.rtp.read_packets(self._read_packet if is_passing and self._answer_reader is not None else None)

    def _take_packet(self, passed: PassedPacket) -> bool:
        part = self._answer.playing_part
        if part is None or self._answer_taker is None:
            return True
        if self._answer_taker(part, passed):
            self._owner.passed_audio(self)
            return True
        self._is_passing = False
        if self._peer is not None:
            self._peer.rtp.read_packets(None)
        return False  # the peer decodes again

    def _read_packet(self, packet: PassedPacket) -> None:
        part = self._answer.playing_part
        if part is not None and self._answer_reader is not None:
            self._answer_reader(part, packet)

    def _write(self, body: Body) -> None:
        if self._sink is None or self._peer is None:
            return
        if body["type"] == _CLEAR:
            self._peer.clear()
        if body["type"] == _CANCEL:  # what it has said already is not to be heard either
            self._sink.send(EncodedMessage(encode(_SILENT_CLEAR)))
        self._sink.send(EncodedMessage(encode(self._tongue.encode(body))))

    def _refuse_sound(self) -> None:
        detail = ErrorDetail(
            type="invalid_request_error",
            code="input_audio_too_fast",
            message=f"Sound came more than {_QUEUE_S} s ahead of real time; what was too much is lost.",
            param="audio",
        )
        body = {"type": "error", "event_id": "", "error": {**_fields(detail)}}
        self._owner.received(self, body)

    async def _post_offer(self, sdp: str) -> bytes:
        """The answer to our offer; raises ``UpstreamError``."""
        headers = {**self._target.headers, "Accept": "application/sdp"}
        request: dict[str, Any] = {"content": sdp.encode()}
        if self._is_transcription and self._target.profile.dialect == "ga":  # where beta has the URL's intent alone
            session = encode({"type": "transcription"})
            request = {"files": {"sdp": (None, sdp.encode(), _SDP), "session": (None, session, "application/json")}}
        else:
            headers["Content-Type"] = _SDP
        try:
            async with (
                new_client(self._timeout_s) as http,
                http.stream("POST", self._address, headers=headers, **request) as response,
            ):
                answer = b""
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > _MAX_ANSWER_BYTES:
                        raise UpstreamError("The upstream's answer is too long.", is_transient=False)
        except HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UpstreamError(f"The upstream cannot be reached: {reason}", code="upstream_lost") from error
        if response.status_code not in (200, 201):
            raise refusal(response.status_code, answer, response.headers.get("Retry-After"))
        return answer

    def _hand_over(self, bodies: list[Body]) -> None:
        for body in bodies:
            self._owner.received(self, body)

    def _end(self, error: UpstreamError | None) -> None:
        if not self._ended.done():
            self._ended.set_result(error)
        self._is_open.set()

    # LegOwner

    def leg_connected(self) -> None:
        """Sound can flow."""

    def channel_opened(self, sink: Sink) -> None:
        """Events can flow."""
        self._sink = sink
        self._is_open.set()

    def receive_leg_audio(self, pcm: bytes) -> None:
        """The service's track: of interest while it answers."""
        heard = self._answer.receive_audio(pcm, self._clock())
        if heard is not None:
            self._owner.received_audio(self, *heard)

    def receive_leg_text(self, text: str) -> None:
        """An event of the service's."""
        try:
            message = decode_relayed(text)
        except BadEvent as error:
            self._end(UpstreamError(error.message, code=error.code))
            return
        if isinstance(message, AudioDelta):
            return  # the track has it
        for body in self._target.profile.decode(message):
            if body["type"] == "response.created":
                can_pass = self._answer_taker is not None and self._answer.has_buffer_events
                self._listen(is_passing=can_pass)
            self._hand_over(self._answer.receive_event(body, self._clock()))

    def played(self, event: Started | Stopped | Marked) -> None:
        """All that was said before a commit has been spoken."""
        if isinstance(event, Marked):
            asyncio.get_running_loop().call_later(_SETTLE_S, self._go_on, event.mark_id)

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """The peer is gone: hung up by the service, or lost."""
        if error is None:
            self._end(None)
        else:
            self._end(UpstreamError(error.message, code="upstream_lost"))


def _fields(detail: ErrorDetail) -> Body:
    return {name: getattr(detail, name) for name in detail.__struct_fields__}
