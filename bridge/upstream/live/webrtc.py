"""A Live service over WebRTC: the offer brings the session, sound has tracks, and events have a data channel."""

import asyncio
from collections.abc import Callable

import msgspec

from bridge.context import CallContext
from bridge.errors import BadEvent, BridgeError, UpstreamError
from bridge.media.contracts import Sink
from bridge.media.passing import PassedPacket
from bridge.media.playback import Part, Played
from bridge.upstream.live.line import LiveLineOwner
from bridge.upstream.live.start import LiveStart
from bridge.upstream.service_peer import ServicePeer, post_offer
from bridge.upstream.target import Target
from bridge.webrtc.ice_full import IceServers
from bridge.webrtc.peer import Peer
from bridge.webrtc.runner import PeerRunner
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.message import EncodedMessage
from bridge.wire.relayed import AudioDelta, decode_relayed
from bridge.wire.server_events import Body, encode

__all__ = ["LiveWebRtcLine"]

_MAX_ANSWER_BYTES = 256 * 1024
_QUEUE_S = 10  # of a client's sound may wait to be spoken: it comes in real time, as long as all is well
_SPOKEN = Part("", "", 0, 0)
_TICK_S = 0.1
_MISSING_AFTER_S = 0.3  # without a packet: it is not late, it does not come
_SILENCE = bytes(PCM16.size_of(20))


class LiveWebRtcLine:
    """See ``LiveLine``; the ``LegOwner`` of the peer that calls."""

    def __init__(
        self, target: Target, *, runner: PeerRunner, ice_servers: IceServers, timeout_s: float, context: CallContext
    ) -> None:
        self._target = target
        self._service = ServicePeer(runner=runner, ice_servers=ice_servers, timeout_s=timeout_s, context=context)
        self._timeout_s = timeout_s
        self._trace_headers = context.trace_headers
        self._peer: Peer | None = None
        self._passage: _TrackPassage | None = None
        self._sink: Sink | None = None

    async def open(self, owner: LiveLineOwner, start: LiveStart) -> None:
        """Offers with the session, connects and opens the data channel; raises ``UpstreamError``.

        An offer starts a session and costs money, so that a failure behind it is no reason to try again.
        """
        self._owner = owner
        await self._service.open(
            self,
            lambda sdp: self._post(sdp, start),
            queue_limit_s=_QUEUE_S,
            on_peer=self._take_peer,
            may_try_again=False,
        )

    def _take_peer(self, peer: Peer) -> None:
        self._peer = peer
        self._passage = _TrackPassage(peer, lambda: self._owner.part)

    async def run(self) -> UpstreamError | None:
        """Runs until the peer is gone; returns why. Meanwhile it says silence where no packets of the caller pass."""
        while not self._service.has_ended:
            await self._service.wait_ended(_TICK_S)
            if self._passage is not None:
                self._passage.fill(_now())
        return self._service.ending

    @property
    def passage(self) -> "_TrackPassage | None":
        """The passage, as soon as the peer is there."""
        return self._passage if self._sink is not None else None

    @property
    def input_format(self) -> AudioFormat:
        """The format that the peer encodes."""
        return PCM16

    @property
    def output_format(self) -> AudioFormat:
        """The format that the peer decodes."""
        return PCM16

    def send_live_event(self, body: Body) -> None:
        """Sends a Live client event."""
        if self._sink is not None:
            self._sink.send_message(EncodedMessage(encode(body)))

    def send_audio(self, sound: bytes) -> None:
        """Speaks a piece of the caller's sound in real time; what is too far ahead is lost."""
        if self._peer is not None:
            self._peer.play(_SPOKEN, sound)

    async def aclose(self) -> None:
        """Hangs up; may be called twice."""
        self._peer = self._passage = None
        await self._service.aclose()

    async def _post(self, sdp: str, start: LiveStart) -> bytes:
        """Posts the offer; returns the answer. Raises ``UpstreamError``."""
        path = () if start.fork_of is None else (start.fork_of, "fork")
        session = start.for_post(self._target.model)
        body = {"session": session, "transport": {"type": "webrtc", "sdp": sdp}}
        headers = {**self._target.headers, **self._trace_headers, "Content-Type": "application/json"}
        answer = await post_offer(
            self._target.live_address(*path),
            headers=headers,
            timeout_s=self._timeout_s,
            max_answer_bytes=_MAX_ANSWER_BYTES,
            may_try_again=False,
            content=encode(body),
        )
        try:
            return msgspec.json.decode(answer, type=_Created).transport.sdp.encode()
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise UpstreamError("The upstream's answer has no transport.sdp.", is_transient=False) from None

    # LegOwner

    def leg_connected(self) -> None:
        """Notes that sound can flow."""

    def channel_opened(self, sink: Sink) -> None:
        """Notes that the data channel is open."""
        self._sink = sink
        self._service.channel_opened()

    def receive_leg_audio(self, pcm: bytes) -> None:
        """Takes sound of the service's track."""
        self._owner.received_audio(self, pcm)

    def receive_leg_text(self, text: str) -> None:
        """Takes an event of the service."""
        try:
            body = decode_relayed(text)
        except BadEvent as error:
            self._service.fail(UpstreamError(error.message, code=error.code))
            return
        if not isinstance(body, AudioDelta):
            self._owner.received(self, body)

    def played(self, event: Played) -> None:
        """Does nothing, because nobody waits for what was spoken."""

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """Notes that the peer is gone: the service hung up, or it was lost."""
        self._service.closed(error)


class _Transport(msgspec.Struct):
    sdp: str


class _Created(msgspec.Struct):
    """The answer to an offer."""

    transport: _Transport


class _TrackPassage:
    """A ``PassingUpstream``: Opus passes between a caller's peer and the service as it came."""

    def __init__(self, peer: Peer, part: Callable[[], Part]) -> None:
        self._peer = peer
        self._part = part
        self._passed_at: float | None = None
        """When the last packet was passed on; None while the peer speaks by itself."""
        self._taker: Callable[[Part, PassedPacket], bool] | None = None

    def forward(self, passed: PassedPacket) -> bool:
        """Passes a packet of the caller on; sound that waited to be spoken is dropped for it."""
        self._passed_at = _now()
        if self._peer.rtp.outbound.playback.queued_ms:
            self._peer.clear()
        return self._peer.rtp.forward(None, passed)

    def fill(self, now: float) -> None:
        """Has the peer say silence, and go on with it, if nothing has passed for a while: the model's time goes on."""
        if self._passed_at is not None and now - self._passed_at > _MISSING_AFTER_S:
            self._passed_at = None
            self._peer.play(_SPOKEN, _SILENCE)

    def pass_answers_to(
        self,
        taker: Callable[[Part, PassedPacket], bool] | None,
        *,
        decodes: bool,
        reader: Callable[[Part, PassedPacket], None] | None = None,
    ) -> None:
        """Passes the model's packets on from the next one."""
        self._taker = taker
        is_passing = taker is not None
        self._peer.rtp.pass_to(self._take if is_passing else None, decodes=decodes or not is_passing)
        read = None if reader is None or not is_passing else lambda packet: reader(self._part(), packet)
        self._peer.rtp.read_packets(read)

    def _take(self, passed: PassedPacket) -> bool:
        if self._taker is None:
            return True
        return self._taker(self._part(), passed)


def _now() -> float:
    return asyncio.get_running_loop().time()
