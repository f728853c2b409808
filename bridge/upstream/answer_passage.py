"""Opus that passes between a caller's peer and a WebRTC service as it came; nobody decodes it on the way."""

from collections.abc import Callable

from bridge.media.passing import PassedPacket
from bridge.media.playback import Part
from bridge.upstream.heard_answer import HeardAnswer
from bridge.upstream.spoken_queue import SpokenQueue
from bridge.webrtc.peer import Peer

__all__ = ["AnswerPassage"]


class AnswerPassage:
    """A ``PassingUpstream``; ``on_passed`` is told of each of the answer's packets that went this way."""

    def __init__(self, peer: Peer, queue: SpokenQueue, answer: HeardAnswer, on_passed: Callable[[], None]) -> None:
        self._peer = peer
        self._queue = queue
        self._answer = answer
        self._on_passed = on_passed
        self._taker: Callable[[Part, PassedPacket], bool] | None = None
        self._reader: Callable[[Part, PassedPacket], None] | None = None
        self._decodes = True
        self._is_passing = False

    def forward(self, passed: PassedPacket) -> bool:
        """Passes a packet of the caller on; sound that waited to be spoken is dropped for it."""
        self._queue.skip()
        return self._peer.rtp.forward(None, passed)

    def pass_answers_to(
        self,
        taker: Callable[[Part, PassedPacket], bool] | None,
        *,
        decodes: bool,
        reader: Callable[[Part, PassedPacket], None] | None = None,
    ) -> None:
        """Passes answers on from the next one, if the service says when it begins to play.

        Else the bridge has to decode them.
        """
        self._taker, self._reader, self._decodes = taker, reader, decodes
        if self._is_passing:
            self._listen(is_passing=taker is not None)

    def begin_answer(self) -> None:
        """Decides for a response that was created whether it is passed on."""
        self._listen(is_passing=self._taker is not None and self._answer.has_buffer_events)

    def _listen(self, *, is_passing: bool) -> None:
        self._is_passing = is_passing
        self._peer.rtp.pass_to(self._take_packet if is_passing else None, decodes=self._decodes or not is_passing)
        self._peer.rtp.read_packets(self._read_packet if is_passing and self._reader is not None else None)

    def _take_packet(self, passed: PassedPacket) -> bool:
        part = self._answer.playing_part
        if part is None or self._taker is None:
            return True
        if self._taker(part, passed):
            self._on_passed()
            return True
        self._is_passing = False
        self._peer.rtp.read_packets(None)
        return False  # the peer decodes again

    def _read_packet(self, packet: PassedPacket) -> None:
        part = self._answer.playing_part
        if part is not None and self._reader is not None:
            self._reader(part, packet)
