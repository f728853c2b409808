"""A Realtime service over WebRTC: we are its caller, with a microphone that the session speaks into."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack

import httpx

from bridge.errors import BadEvent, BadOffer, BridgeError, PeerError, UpstreamError
from bridge.media.passing import PassedPacket
from bridge.media.playback import Marked, Part, Started, Stopped
from bridge.peer.dial import dial
from bridge.peer.ice_full import IceServers
from bridge.peer.peer import Peer
from bridge.peer.runner import PeerRunner
from bridge.session.roles import Sink
from bridge.session.state import SessionState
from bridge.upstream.heard_answer import HeardAnswer
from bridge.upstream.line import LineOwner
from bridge.upstream.target import TLS, Target
from bridge.upstream.websocket import refusal
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.message import Message
from bridge.wire.relayed import AudioDelta, decode_relayed
from bridge.wire.server_events import Body, ErrorDetail, encode

__all__ = ["WebRtcLine"]

_QUEUE_S = 60  # of a client's sound that comes faster than it can be spoken
_MAX_ANSWER_BYTES = 64 * 1024
_SETTLE_S = 0.1  # between the last packet of a turn and the word that it is one
_POLL_S = 0.05
_COMMIT, _CLEAR, _CANCEL = "input_audio_buffer.commit", "input_audio_buffer.clear", "response.cancel"
_SILENT_CLEAR = {"type": "output_audio_buffer.clear"}


class WebRtcLine:
    """See ``Line``; the ``LegOwner`` of the peer that calls."""

    plays = True

    def __init__(
        self, target: Target, model: str, *, runner: PeerRunner, ice_servers: IceServers, timeout_s: float
    ) -> None:
        self._target = target
        self._model = model
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
        self._turn = 0
        self._waiting: deque[Body] = deque()  # behind a commit whose sound is still being spoken
        self._is_committing = False
        self._overflow_ms = 0
        self._answer_taker: Callable[[Part, PassedPacket], bool] | None = None
        self._decodes = True
        self._is_passing = False

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
        peer = self._peer
        if peer is None:
            return
        if body["type"] == _CLEAR:
            self._waiting.clear()
            self._is_committing = False
            peer.clear()
        if self._is_committing:
            self._waiting.append(body)
        elif body["type"] == _COMMIT and peer.outbound.playback.queued_ms:
            self._is_committing = True
            self._waiting.append(body)
            peer.end(self._part.response_id)
            self._turn += 1
        else:
            self._write(body)

    def send_audio(self, sound: bytes) -> None:
        """Spoken in real time; what is too far ahead of it is refused, by an ``error`` event."""
        peer = self._peer
        if peer is None:
            return
        peer.play(self._part, sound)
        overflow_ms = peer.outbound.overflow_ms
        if overflow_ms != self._overflow_ms:
            if not self._overflow_ms or overflow_ms - self._overflow_ms >= 1000:
                self._overflow_ms = overflow_ms
                self._refuse_sound()

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
        if peer.outbound.playback.queued_ms:
            peer.clear()
        return peer.forward(None, passed)

    def pass_answers_to(self, taker: Callable[[Part, PassedPacket], bool] | None, *, decodes: bool) -> None:
        """From the next answer on, if the service says when it begins to play; else somebody has to listen for it."""
        self._answer_taker, self._decodes = taker, decodes
        if self._is_passing:
            self._listen(is_passing=taker is not None)

    def _listen(self, *, is_passing: bool) -> None:
        self._is_passing = is_passing
        if self._peer is not None:
            self._peer.pass_to(self._take_packet if is_passing else None, decodes=self._decodes or not is_passing)

    def _take_packet(self, passed: PassedPacket) -> bool:
        part = self._answer.playing_part
        if part is None or self._answer_taker is None or self._answer_taker(part, passed):
            return True
        self._is_passing = False
        return False  # the peer decodes again

    @property
    def _part(self) -> Part:
        return Part(f"turn_{self._turn}", "", 0, 0)

    def _write(self, body: Body) -> None:
        if self._sink is None:
            return
        if body["type"] == _CANCEL:  # what it has said already is not to be heard either
            self._sink.send(Message(encode(_SILENT_CLEAR)))
        self._sink.send(Message(encode(self._target.profile.encode(body))))

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
        headers = {**self._target.headers, "Content-Type": "application/sdp", "Accept": "application/sdp"}
        address = self._target.address(self._model)
        try:
            async with (
                httpx.AsyncClient(verify=TLS, timeout=self._timeout_s, follow_redirects=False) as http,
                http.stream("POST", address, content=sdp.encode(), headers=headers) as response,
            ):
                answer = b""
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > _MAX_ANSWER_BYTES:
                        raise UpstreamError("The upstream's answer is too long.", is_transient=False)
        except httpx.HTTPError as error:
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

    def receive_audio(self, pcm: bytes) -> None:
        """The service's track: of interest while it answers."""
        heard = self._answer.receive_audio(pcm, self._clock())
        if heard is not None:
            self._owner.received_audio(self, *heard)

    def receive_text(self, text: str) -> None:
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
        if isinstance(event, Stopped) and self._is_committing:
            asyncio.get_running_loop().call_later(_SETTLE_S, self._commit)

    def _commit(self) -> None:
        self._is_committing = False
        waiting, self._waiting = self._waiting, deque()
        if waiting:
            self._write(waiting.popleft())
        for body in waiting:
            self.send(body)

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """The peer is gone: hung up by the service, or lost."""
        if error is None:
            self._end(None)
        else:
            self._end(UpstreamError(error.message, code="upstream_lost"))


def _fields(detail: ErrorDetail) -> Body:
    return {name: getattr(detail, name) for name in detail.__struct_fields__}
