"""A Realtime service over WebRTC: we are its caller, with a microphone that the session speaks into."""

import asyncio
from typing import Any

from bridge.context import CallContext
from bridge.errors import BadEvent, BridgeError, UpstreamError
from bridge.media.contracts import Sink
from bridge.media.playback import Marked, Started, Stopped
from bridge.session.state import SessionState
from bridge.upstream.answer_passage import AnswerPassage
from bridge.upstream.heard_answer import HeardAnswer
from bridge.upstream.line import LineOwner
from bridge.upstream.service_peer import ServicePeer, post_offer
from bridge.upstream.spoken_queue import QUEUE_S, SpokenQueue
from bridge.upstream.target import ProfileTranslator, Target
from bridge.webrtc.ice_full import IceServers
from bridge.webrtc.peer import Peer
from bridge.webrtc.runner import PeerRunner
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.message import EncodedMessage
from bridge.wire.relayed import AudioDelta, decode_relayed
from bridge.wire.server_events import Body, ErrorDetail, encode

__all__ = ["WebRtcLine"]

_MAX_ANSWER_BYTES = 64 * 1024
_SDP = "application/sdp"
_SETTLE_S = 0.1  # between the last packet of a turn and the word that it is one
_POLL_S = 0.05
_CLEAR, _CANCEL = "input_audio_buffer.clear", "response.cancel"
_SILENT_CLEAR = {"type": "output_audio_buffer.clear"}


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
        self._offers = _Offers(
            target, model, is_transcription=is_transcription, timeout_s=timeout_s, headers=context.trace_headers
        )
        self._translator = ProfileTranslator(target.profile)
        self._service = ServicePeer(runner=runner, ice_servers=ice_servers, timeout_s=timeout_s, context=context)
        self._queue: SpokenQueue | None = None
        """The queue of the peer, while there is one."""
        self._passage: AnswerPassage | None = None
        self._peer: Peer | None = None
        self._sink: Sink | None = None
        self._answer = HeardAnswer()
        self._polling: asyncio.TimerHandle | None = None

    async def open(self, owner: LineOwner, state: SessionState) -> None:
        """Offers, connects and opens the data channel; raises ``UpstreamError``."""
        self._owner = owner
        await self._service.open(self, self._offers.post, queue_limit_s=QUEUE_S, on_peer=self._take_peer)

    def _take_peer(self, peer: Peer) -> None:
        self._peer = peer
        self._queue = SpokenQueue(peer, self._write, on_overflow=self._refuse_sound)
        self._passage = AnswerPassage(peer, self._queue, self._answer, on_passed=lambda: self._owner.passed_audio(self))

    async def run(self) -> UpstreamError | None:
        """Runs until the peer is gone; then hands over the events that are still held."""
        try:
            await self._service.wait_ended(None)
        finally:
            if self._polling is not None:
                self._polling.cancel()
        self._hand_over(self._answer.end())
        return self._service.ending

    @property
    def input_format(self) -> AudioFormat:
        """The format that the peer encodes."""
        return PCM16

    @property
    def output_format(self) -> AudioFormat:
        """The format that the peer decodes."""
        return PCM16

    def send_client_event(self, body: Body) -> None:
        """Sends a GA client event.

        A commit waits until the sound before it was spoken; all that follows waits behind it.
        """
        if self._queue is not None:
            self._queue.send_client_event(body)

    def send_audio(self, sound: bytes) -> None:
        """Speaks a piece of the caller's sound in real time. Sound too far ahead is refused by an ``error`` event."""
        if self._queue is not None:
            self._queue.send_audio(sound)

    async def aclose(self) -> None:
        """Hangs up; may be called twice."""
        self._peer = self._queue = self._passage = None
        await self._service.aclose()

    @property
    def passage(self) -> AnswerPassage | None:
        """The passage, as soon as the peer is there."""
        return self._passage if self._sink is not None else None

    def _write(self, body: Body) -> None:
        if self._sink is None or self._peer is None:
            return
        if body["type"] == _CLEAR:
            self._peer.clear()
        if body["type"] == _CANCEL:  # what it has said already is not to be heard either
            self._sink.send_message(EncodedMessage(encode(_SILENT_CLEAR)))
        self._sink.send_message(EncodedMessage(encode(self._translator.encode(body))))

    def _refuse_sound(self) -> None:
        detail = ErrorDetail(
            type="invalid_request_error",
            code="input_audio_too_fast",
            message=f"Sound came more than {QUEUE_S} s ahead of real time; the excess was dropped.",
            param="audio",
        )
        body = {"type": "error", "event_id": "", "error": {**_fields(detail)}}
        self._owner.received(self, body)

    def _hand_over(self, bodies: list[Body]) -> None:
        for body in bodies:
            self._owner.received(self, body)

    # LegOwner

    def leg_connected(self) -> None:
        """Notes that sound can flow."""

    def channel_opened(self, sink: Sink) -> None:
        """Notes that the data channel is open."""
        self._sink = sink
        self._service.channel_opened()

    def receive_leg_audio(self, pcm: bytes) -> None:
        """Takes sound of the service's track."""
        heard = self._answer.receive_audio(pcm, _now())
        if heard is not None:
            self._owner.received_audio(self, *heard)

    def receive_leg_text(self, text: str) -> None:
        """Takes an event of the service."""
        try:
            message = decode_relayed(text)
        except BadEvent as error:
            self._service.fail(UpstreamError(error.message, code=error.code))
            return
        if isinstance(message, AudioDelta):
            return  # the track has it
        for body in self._translator.decode(message):
            if body["type"] == "response.created" and self._passage is not None:
                self._passage.begin_answer()
            self._hand_over(self._answer.receive_event(body, _now()))
        self._poll_later()

    def _poll_later(self) -> None:
        """Polls for as long as events are held."""
        if self._polling is None and self._answer.is_held and not self._service.has_ended:
            self._polling = asyncio.get_running_loop().call_later(_POLL_S, self._poll)

    def _poll(self) -> None:
        """Hands over what has become due by time alone."""
        self._polling = None
        self._hand_over(self._answer.poll(_now()))
        self._poll_later()

    def played(self, event: Started | Stopped | Marked) -> None:
        """Notes that all sound before a commit was spoken."""
        if isinstance(event, Marked) and self._queue is not None:
            asyncio.get_running_loop().call_later(_SETTLE_S, self._queue.mark_reached, event.mark_id)

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """Notes that the peer is gone: the service hung up, or it was lost."""
        self._service.closed(error)


class _Offers:
    """Posts an offer to the service, as its profile wants it."""

    def __init__(
        self, target: Target, model: str, *, is_transcription: bool, timeout_s: float, headers: dict[str, str]
    ) -> None:
        self._target = target
        self._headers = headers
        self._address = target.address(model, is_transcription=is_transcription)
        self._is_transcription = is_transcription
        self._timeout_s = timeout_s

    async def post(self, sdp: str) -> bytes:
        """Posts the offer; returns the answer. Raises ``UpstreamError``."""
        headers = {**self._target.headers, **self._headers, "Accept": "application/sdp"}
        request: dict[str, Any] = {"content": sdp.encode()}
        if self._is_transcription and self._target.profile.dialect == "ga":  # where beta has the URL's intent alone
            session = encode({"type": "transcription"})
            request = {"files": {"sdp": (None, sdp.encode(), _SDP), "session": (None, session, "application/json")}}
        else:
            headers["Content-Type"] = _SDP
        return await post_offer(
            self._address,
            headers=headers,
            timeout_s=self._timeout_s,
            max_answer_bytes=_MAX_ANSWER_BYTES,
            **request,
        )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _fields(detail: ErrorDetail) -> Body:
    return {name: getattr(detail, name) for name in detail.__struct_fields__}
