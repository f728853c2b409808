"""One player: a WebRTC peer that hears a call, and counts as one of its listeners."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.errors import BridgeError, PeerError
from bridge.media.contracts import Sink
from bridge.media.passing import PassedPacket
from bridge.media.playback import Played
from bridge.session.fanout.subscription import Subscription, TrackName
from bridge.wire.audio import OPUS, AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import Dialect, Framing, ListenerRole, ListenerStats

if TYPE_CHECKING:
    from bridge.webrtc.peer import Peer

__all__ = ["CallPlayer"]


class CallPlayer:
    """A WebRTC peer that hears a call; a ``LegOwner`` of its peer, and a ``Consumer`` of the call's end.

    ``on_connected`` is called when sound may be sent, ``on_gone`` when the player is no more.
    """

    def __init__(
        self,
        call_id: str,
        key_id: str,
        tracks: tuple[TrackName, ...],
        *,
        on_connected: Callable[["CallPlayer"], None],
        on_gone: Callable[["CallPlayer"], None],
    ) -> None:
        self.id = new_id("ply")
        self.call_id = call_id
        self.key_id = key_id
        """The id of the key that opened it."""
        self.tracks = tracks
        self.peer: Peer | None = None
        self.subscription: Subscription | None = None
        self._on_connected = on_connected
        self._on_gone = on_gone
        self._last_event_id = ""
        self._is_gone = False

    @property
    def legs(self) -> tuple["Peer", ...]:
        """Its peer, while there is one."""
        return () if self.peer is None or self._is_gone else (self.peer,)

    def send_packet(self, packet: PassedPacket) -> None:
        """Sends the next packet; whatever fails with it costs this player alone."""
        peer = self.peer
        if peer is not None:
            try:
                peer.rtp.forward(None, packet)
            except Exception as error:
                peer.fail(PeerError(f"{type(error).__name__}: {error}", code="internal_error"))

    def hang_up(self, reason: str) -> None:
        """Begins to close the connection; may be called twice."""
        if self.peer is not None:
            self.peer.hang_up(reason)

    # LegOwner

    def leg_connected(self) -> None:
        """Lets sound flow: packets of other streams, and nothing that is encoded for this player."""
        if self.peer is not None:
            self.peer.rtp.outbound.only_pass_on()
        self._on_connected(self)

    def receive_leg_audio(self, sound: bytes) -> None:
        """Ignores sound, because a player says nothing."""

    def channel_opened(self, sink: Sink) -> None:
        """Does nothing, because a player has no channel."""

    def receive_leg_text(self, text: str) -> None:
        """Does nothing, because a player has no channel."""

    def played(self, event: Played) -> None:
        """Does nothing, because nobody needs to know what a player has heard."""

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """Notes that the peer is gone."""
        if not self._is_gone:
            self._is_gone = True
            if self.subscription is not None:
                self.subscription.cancel()
            self._on_gone(self)

    # Consumer

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Notes the event's id alone, because no event is sent to a player."""
        self._last_event_id = str(event.event_id)

    def sound(self, track: TrackName, audio_format: AudioFormat, pcm: bytes, timestamp: int) -> None:
        """Does nothing, because sound comes by ``send_packet``."""

    def ended(self, error: Exception | None) -> None:
        """Hangs up, because the call is over."""
        self.hang_up("call_ended")

    def listed(self) -> ListenerStats:
        """Returns how it is listed among the call's listeners."""
        return ListenerStats(
            id=self.id,
            role=ListenerRole.PLAYER,
            dialect=Dialect.GA,
            audio=OPUS.name,
            chunk_ms=None,
            chunk_size=None,
            tracks=list(self.tracks),
            events=[],
            framing=Framing.BINARY,
            is_held=False,
            last_event_id=self._last_event_id,
            backlog_bytes=0,
            dropped_events=0,
            dropped_ms=0,
        )
