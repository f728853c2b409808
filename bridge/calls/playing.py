"""The one way to a player of a call, by a key for it: to start it, to change its ICE session, and to end it."""

from collections.abc import Awaitable, Callable

from bridge.calls.conditions import IfMatch, newest_tag, patch_peer
from bridge.calls.directory import unknown_call
from bridge.calls.handles import CallAnswer, IceAnswer
from bridge.calls.keys import API_KEY_ID, Grant, KeyStore
from bridge.calls.peers import CallPeers
from bridge.calls.quotas import Quotas, Reservation
from bridge.errors import NotImplementedHere
from bridge.players.player import CallPlayer
from bridge.players.players import Players, tracks_of
from bridge.session.session import Session
from bridge.webrtc.fragment import parse_fragment
from bridge.webrtc.one_way import as_played
from bridge.webrtc.sdp import parse_offer

__all__ = ["PlayerAccess"]


class PlayerAccess:
    """Players of running calls, as endpoints reach them. It raises as ``CallService`` does."""

    def __init__(
        self,
        players: Players | None,
        peers: CallPeers,
        keys: KeyStore,
        quotas: Quotas,
        *,
        find: Callable[[Grant, str], Awaitable[Session]],
    ) -> None:
        """Without ``players`` none is started here; ``find`` finds a call."""
        self._players = players
        self._peers = peers
        self._keys = keys
        self._quotas = quotas
        self._find = find

    async def start(self, grant: Grant, call_id: str, sdp: bytes, tracks: str | None) -> CallAnswer:
        """Starts a player of ``tracks`` of a running call; returns the answer that brings its peer here.

        Raises ``BadRequest``, ``BadOffer``, ``OverLimit`` if the call, or the key, has no room for one more listener,
        and ``Unauthorized`` if the key is spent.
        """
        grant.require_player()
        offer = parse_offer(sdp)
        as_played(offer)
        chosen = tracks_of(tracks)
        session = await self._find(grant, call_id)
        reservation = Reservation()
        try:
            session.audience.require_room()
            await self._quotas.listeners.reserve_place(grant.key_id, reservation)
            await self._keys.spend(grant.token)
            player, answer = self._all_players.accept(
                session, offer, chosen, key_id=grant.key_id, on_gone=reservation.release
            )
        except BaseException:
            reservation.release()
            raise
        return CallAnswer(
            call_id=call_id,
            sdp=answer,
            resume_key="",
            warnings=offer.warnings,
            tag=newest_tag(self._peers.endpoint, player.legs) or "",
            player_id=player.id,
        )

    async def require_playable(self, grant: Grant, call_id: str) -> None:
        """Raises unless the key may play the call."""
        grant.require_player()
        await self._find(grant, call_id)

    async def require_running(self, grant: Grant, call_id: str, player_id: str) -> None:
        """Raises unless the player runs, and the key has opened it."""
        self._find_player(grant, call_id, player_id)

    async def patch_ice(
        self, grant: Grant, call_id: str, player_id: str, body: bytes, condition: IfMatch
    ) -> IceAnswer | None:
        """Takes a player's SDP fragment; see ``CallPeers.patch_ice``."""
        fragment = parse_fragment(body)
        player = self._find_player(grant, call_id, player_id)
        return patch_peer(self._peers.endpoint, player.legs, fragment, condition)

    async def stop(self, grant: Grant, call_id: str, player_id: str) -> None:
        """Ends the player."""
        self._find_player(grant, call_id, player_id).hang_up("hangup")

    @property
    def _all_players(self) -> Players:
        if self._players is None:
            raise NotImplementedHere("This server has no players.")
        return self._players

    def _find_player(self, grant: Grant, call_id: str, player_id: str) -> CallPlayer:
        grant.require_player()
        player = self._all_players.find(call_id, player_id)
        if player is None or grant.key_id not in (API_KEY_ID, player.key_id):
            raise unknown_call(call_id)
        return player
