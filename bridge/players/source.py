"""What the players of one call and one choice of tracks hear: made once, and given to each of them."""

import secrets
from collections.abc import Callable

from bridge.media.broadcast import AnswerGate, LiveTrack, MixedTrack, PacedTrack
from bridge.media.opus import new_encoder
from bridge.media.passing import PassedPacket
from bridge.players.player import CallPlayer
from bridge.session.fanout.subscription import Subscription, TrackName
from bridge.session.session import Session
from bridge.wire.audio import OPUS, PCM16, SESSION_HZ, AudioFormat
from bridge.wire.server_events import (
    ConversationItemTruncated,
    OutputAudioBufferCleared,
    OutputAudioBufferStarted,
    OutputAudioBufferStopped,
    ServerEvent,
)
from bridge.wire.stats import WEBSOCKET

__all__ = ["INPUT", "OUTPUT", "Source"]

INPUT: tuple[TrackName, ...] = ("input",)
OUTPUT: tuple[TrackName, ...] = ("output",)


class Source:
    """What the players of one call and one choice of tracks hear; a ``Consumer`` of the call while anybody plays it.

    One track is passed on as the Opus that the session makes, or gets, anyway; both tracks are mixed and encoded here.
    ``tick`` is to be called every 20 ms.
    """

    def __init__(self, session: Session, tracks: tuple[TrackName, ...], now: Callable[[], float]) -> None:
        self.players: list[CallPlayer] = []
        self.session = session
        self.tracks = tracks
        self._now = now
        self._plays_itself = session.info.transport == WEBSOCKET
        """Whether the owner's client plays the answers; then nobody here knows when."""
        ssrc = secrets.randbits(32)
        self._gate = AnswerGate()
        self._live: LiveTrack | None = None
        if tracks == INPUT and not self._plays_itself:
            leg = session.legs.current
            self._live = LiveTrack(ssrc, tells_pauses=leg is not None and leg.passage is not None)
        self._paced = PacedTrack(ssrc) if self._live is None and len(tracks) == 1 else None
        self._mixed: MixedTrack | None = None
        if len(tracks) > 1:
            encoder = new_encoder(SESSION_HZ)
            self._mixed = MixedTrack(encoder, ssrc, rate_hz=SESSION_HZ, is_live=not self._plays_itself)
        audio_format = OPUS if self._mixed is None else PCM16
        self.subscription: Subscription = session.audience.subscribe(self, audio_format, tracks=tracks)

    def tick(self) -> None:
        """Gives the players what is due after another 20 ms."""
        line = self._mixed or self._paced
        if line is None:
            return
        may_play = self.tracks == INPUT or self._lets_through(line)
        for packet in line.tick(may_play=may_play):
            self._give(packet)

    def skip(self, ticks: int) -> None:
        """Leaves out so many times 20 ms, because the clock was late."""
        line = self._mixed or self._paced
        if line is not None:
            line.skip(ticks)

    def _lets_through(self, line: MixedTrack | PacedTrack) -> bool:
        return self._plays_itself or self._gate.lets_through(is_waiting=line.is_waiting)

    def _give(self, packet: PassedPacket) -> None:
        for player in self.players:  # no player leaves before this returns
            player.send_packet(packet)

    # Consumer

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Begins and cuts answers as the caller hears them."""
        if isinstance(event, OutputAudioBufferStarted):
            self._gate.begin()
        elif isinstance(event, OutputAudioBufferStopped):
            self._gate.end()
        elif isinstance(event, OutputAudioBufferCleared) or (
            self._plays_itself and isinstance(event, ConversationItemTruncated)
        ):
            self._cut()

    def sound(self, track: TrackName, audio_format: AudioFormat, pcm: bytes, timestamp: int) -> None:
        """Takes more sound: Opus of one track, or samples of both."""
        if self._mixed is not None:
            take = self._mixed.add_caller_sound if track == "input" else self._mixed.add_answer_sound
            take(pcm)
        elif self._paced is not None:
            self._paced.push(pcm)
        elif self._live is not None:
            if not pcm:
                self._live.lose()
            for packet in self._live.push(pcm, timestamp, self._now()):
                self._give(packet)

    def ended(self, error: Exception | None) -> None:
        """Ends the players, because the call is over or, with an ``error``, nothing more can be made of it."""
        for player in tuple(self.players):
            player.hang_up("call_ended" if error is None else "internal_error")

    def listed(self) -> None:
        """Returns None: the players are listed among the listeners, but what is made for them is not."""

    def _cut(self) -> None:
        self._gate.close()
        for line in (self._mixed, self._paced):
            if line is not None and self.tracks != INPUT:
                line.cut()
