"""All players of this process, and the clock of what they hear."""

import asyncio
from collections.abc import Callable

from bridge.errors import BadRequest
from bridge.media.pacer import Pacer
from bridge.players.player import CallPlayer
from bridge.players.source import INPUT, OUTPUT, Source
from bridge.session.fanout.subscription import TrackName
from bridge.session.session import Session
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.one_way import as_played
from bridge.webrtc.sdp import Offer

__all__ = ["Players", "tracks_of"]

_BOTH: tuple[TrackName, ...] = INPUT + OUTPUT
_CHOICES = {"input": INPUT, "output": OUTPUT, "input,output": _BOTH, "output,input": _BOTH}


class Players:
    """Makes players and finds them. ``async with`` runs the clock; the peers themselves belong to the endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._players: dict[str, CallPlayer] = {}
        self._sources: dict[tuple[str, tuple[TrackName, ...]], Source] = {}
        self._pacer = Pacer()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "Players":
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for player in tuple(self._players.values()):
            player.hang_up("server_stopped")
        self._stop()

    def accept(
        self,
        session: Session,
        offer: Offer,
        tracks: tuple[TrackName, ...],
        *,
        key_id: str,
        on_gone: Callable[[], None],
    ) -> tuple[CallPlayer, str]:
        """Makes a player of ``session`` for ``offer``; returns it, and the SDP answer.

        ``on_gone`` is called when the player is no more. Raises ``BadOffer`` if the offer does not hear.
        """
        heard = as_played(offer)

        def gone(player: CallPlayer) -> None:
            self._forget(player)
            on_gone()

        player = CallPlayer(
            session.info.id, key_id, tracks, on_connected=lambda player: self._begin(session, player), on_gone=gone
        )
        player.peer, answer = self._endpoint.accept(heard, player, session.context)
        self._players[player.id] = player
        player.subscription = session.audience.subscribe(player)
        return player, answer

    @property
    def ids(self) -> list[tuple[str, str]]:
        """The ids of each player: its call's, and its own."""
        return [(player.call_id, player.id) for player in self._players.values()]

    def find(self, call_id: str, player_id: str) -> CallPlayer | None:
        """Returns the call's player with this id."""
        player = self._players.get(player_id)
        return player if player is not None and player.call_id == call_id else None

    # What players tell

    def _begin(self, session: Session, player: CallPlayer) -> None:
        """Gives a connected player what is made already, or has it made."""
        kind = (player.call_id, player.tracks)
        source = self._sources.get(kind)
        if source is None:
            source = self._sources[kind] = Source(session, player.tracks, self._loop.time)
        source.players.append(player)
        if self._timer is None:
            self._timer = self._loop.call_at(self._pacer.start(self._loop.time()), self._turn)

    def _forget(self, player: CallPlayer) -> None:
        self._players.pop(player.id, None)
        source = self._sources.get((player.call_id, player.tracks))
        if source is not None and player in source.players:
            source.players.remove(player)
            if not source.players:
                del self._sources[player.call_id, player.tracks]
                source.subscription.cancel()
        if not self._sources:
            self._stop()

    # The clock

    def _turn(self) -> None:
        """Gives the players what is due, every 20 ms; after a long delay it leaves a gap."""
        behind = self._pacer.begin(self._loop.time())
        try:
            self._tick(behind)
        finally:  # whatever happened, the other calls' sound goes on
            due = self._pacer.end()
            self._timer = self._loop.call_at(due, self._turn) if self._sources else None

    def _tick(self, behind: int) -> None:
        for source in tuple(self._sources.values()):
            try:
                if behind:
                    source.skip(behind)
                source.tick()
            except Exception as error:
                source.session.context.logger("players").error("players.failed", exc_info=error)
                source.subscription.end(error)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def tracks_of(text: str | None) -> tuple[TrackName, ...]:
    """Returns the tracks that a player asks for, in the words that listeners have; both if it does not say."""
    if text is None:
        return _BOTH
    chosen = _CHOICES.get("".join(text.split()))
    if chosen is None:
        raise BadRequest("'tracks' must be input, output, or both separated by a comma.", param="tracks")
    return chosen
