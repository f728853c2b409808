"""The one way to a call: to open it, attach to it, resume it, hang it up, list it and watch it, by a key for it.

Every endpoint comes here and nowhere else. A key, a quota or a call may be in another process, so looking for one is
awaited. What happens in a call is not awaited once a socket or a leg has its place.
"""

from collections.abc import Sequence
from dataclasses import replace

from msgspec import UNSET
from msgspec.structs import replace as with_fields

from bridge.calls.conditions import IfMatch, newest_tag, patch_peer
from bridge.calls.directory import CallRecord, unknown_call
from bridge.calls.handles import AgentLobby, CallAnswer, CarrierCall, IceAnswer, Neighbours, SocketPlace
from bridge.calls.incoming import IncomingPhone, WaitingCall, WaitingCalls
from bridge.calls.keys import API_KEY_ID, Grant, KeyStore
from bridge.calls.places import AgentPlace, SessionPlace, WatcherPlace
from bridge.calls.quotas import Quotas, Reservation
from bridge.calls.registry import Registry
from bridge.calls.terms import Terms
from bridge.errors import BadOffer, BadRequest, NotImplementedHere
from bridge.media.contracts import ReferringLeg
from bridge.players.player import CallPlayer
from bridge.players.players import Players, tracks_of
from bridge.recording.recorder import Recorder
from bridge.session.session import Session
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.fragment import MAX_FRAGMENT_BYTES, parse_fragment
from bridge.webrtc.one_way import as_played, as_published
from bridge.webrtc.sdp import MAX_SDP_BYTES, Offer, parse_offer
from bridge.wire.choices import STOCK, Choices
from bridge.wire.ids import new_id
from bridge.wire.sessions import SessionConfig, SessionRequest
from bridge.wire.stats import (
    WEBRTC,
    WEBSOCKET,
    CallStats,
    Dialect,
    IncomingOutcome,
    ListenerRole,
    RecordingStats,
    SipHeader,
    Transport,
)

__all__ = ["MAX_FRAGMENT_BYTES", "MAX_OFFER_BYTES", "CallService"]

MAX_OFFER_BYTES = MAX_SDP_BYTES
"""The longest SDP of an offer; a longer one is refused."""


class CallService:
    """The one way to a call, for every endpoint.

    It raises ``Forbidden`` for what a key may not do, and ``UnknownCall`` for a call that the key may not see.
    """

    def __init__(
        self,
        registry: Registry,
        keys: KeyStore,
        quotas: Quotas,
        *,
        webrtc: Endpoint | None = None,
        lobby: AgentLobby | None = None,
        recorder: Recorder | None = None,
        players: Players | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        """``webrtc`` and ``players`` take offers, ``lobby`` agents; without ``recorder`` no calls are recorded here.

        ``neighbours`` are other processes that have calls of their own.
        """
        self.waiting = WaitingCalls(registry)
        """The telephone calls about which the application has not decided yet."""
        self._registry = registry
        self._keys = keys
        self._quotas = quotas
        self._webrtc = webrtc
        self._lobby = lobby
        self._recorder = recorder
        self._neighbours = neighbours
        self._players = players

    # What is known without looking for a call

    @property
    def default_model(self) -> str:
        """The model of a call that names none."""
        return self._registry.default_model

    def require_accepting(self) -> None:
        """Raises ``Draining`` if no new call is begun here."""
        self._registry.admission.require_accepting()

    def complete_session(self, wanted: SessionRequest) -> SessionRequest:
        """Returns the request with a complete session, for a key to stand for.

        What the server alone sets stays the server's. Raises ``BadEvent`` if whoever is going to answer would not
        understand all of the session.
        """
        fixed = {"id": UNSET, "object": UNSET, "expires_at": UNSET}
        wanted = replace(wanted, config=with_fields(wanted.config, **fixed))
        terms = Terms(config=wanted)
        self._registry.require_known(terms)
        return replace(wanted, config=terms.session(new_id("sess"), 0, self.default_model))

    # Opening

    async def require_room(self, key_id: str = API_KEY_ID) -> None:
        """Raises ``Draining``, ``Overloaded`` or ``OverLimit`` if a call of the key would be refused now."""
        self._registry.admission.require_room(key_id)
        await self._quotas.calls.require_room(key_id)

    async def open_with_offer(self, terms: Terms, sdp: bytes) -> CallAnswer:
        """Opens a call over WebRTC; returns the answer that brings its peer here.

        Raises ``BadOffer``, what ``require_room`` does, ``BadEvent``, and ``Unauthorized`` if the key is spent.
        """
        offer = parse_offer(sdp)
        session = await self._open(replace(terms, warnings=offer.warnings), transport=WEBRTC)
        try:
            return self._answer(session, offer)
        except BaseException:
            session.close("internal_error")
            raise

    async def open_to_publish(self, terms: Terms, sdp: bytes) -> CallAnswer:
        """Opens a call whose caller speaks by WHIP.

        The caller hears nothing, has no data channel, and comes back by no other way. Raises as ``open_with_offer``
        does.
        """
        offer = as_published(parse_offer(sdp))
        session = await self._open(replace(terms, warnings=offer.warnings), transport=WEBRTC)
        try:
            port = session.legs.new_port(may_come_back=False)
            peer, answer = self._offers.accept(offer, port, session.context, is_publisher=True)
            session.legs.take(peer, port)
            return self._answered(session, offer, answer)
        except BaseException:
            session.close("internal_error")
            raise

    async def open_with_socket(self, terms: Terms, choices: Choices = STOCK) -> SocketPlace:
        """Opens a call over a WebSocket; returns its owner's place. Raises as ``open_with_offer`` does."""
        session = await self._open(terms, transport=WEBSOCKET)
        return SessionPlace(session, ListenerRole.OWNER, choices, terms.dialect, Reservation())

    async def open_with_carrier(self, terms: Terms, carrier: Transport) -> CarrierCall:
        """Opens a call that ``carrier`` brings; raises as ``open_with_offer`` does."""
        return _carrier_call(await self._open(terms, transport=carrier))

    async def announce(
        self, terms: Terms, carrier: Transport, phone: IncomingPhone, *, sip_headers: Sequence[SipHeader], wait_s: float
    ) -> WaitingCall:
        """Takes a call that ``carrier`` brings and that waits to be accepted; raises as ``open_with_offer`` does."""
        reservation = await self._reserve(terms)
        return self.waiting.add(terms, carrier, phone, reservation, sip_headers=sip_headers, wait_s=wait_s)

    async def accept(self, grant: Grant, call_id: str, wanted: SessionRequest) -> None:
        """Answers a call that waits, with the session that is ``wanted``.

        Raises ``BadRequest`` if it does not wait, and ``BadEvent`` as ``open_with_offer`` does: then it waits on.
        """
        waiting = await self._waiting_call(grant, call_id)
        asked = (waiting.terms.update or SessionRequest(SessionConfig(), {})).with_update(wanted)
        terms = replace(waiting.terms, update=asked)
        self._registry.admission.require_accepting()
        self._registry.require_known(terms)
        try:
            session = self._registry.open(
                terms, transport=waiting.transport, reservation=waiting.reservation, context=waiting.context
            )
        except BaseException:  # its place is lost
            self.waiting.settle(waiting, IncomingOutcome.STOPPED)
            raise
        self.waiting.settle(waiting, IncomingOutcome.ACCEPTED)
        waiting.phone.answer(_carrier_call(session))

    async def reject(self, grant: Grant, call_id: str, status_code: int) -> None:
        """Turns away a call that waits, without an answer; raises ``BadRequest`` if it does not wait."""
        waiting = await self._waiting_call(grant, call_id)
        self.waiting.settle(waiting, IncomingOutcome.REJECTED, status_code=status_code)

    async def refer(self, grant: Grant, call_id: str, target_uri: str) -> None:
        """Has the carrier transfer the call, which waits or runs, to somebody else; then it is over here.

        Raises ``BadRequest`` if it is no telephone call, or its carrier cannot; ``UpstreamError`` if the carrier fails.
        """
        waiting = self.waiting.find(call_id)
        if waiting is None:
            session = await self._find(grant, call_id)
            grant.require_admin()
            leg = session.legs.current
            if not isinstance(leg, ReferringLeg):
                raise BadRequest("Only telephone calls can be transferred.", code="refer_unsupported", param="call_id")
            await leg.refer(target_uri)
            return
        grant.require_admin()
        waiting.is_referred = True
        try:
            await waiting.phone.refer(target_uri)
        finally:
            waiting.is_referred = False
        self.waiting.settle(waiting, IncomingOutcome.REFERRED)

    async def _waiting_call(self, grant: Grant, call_id: str) -> WaitingCall:
        grant.require_admin()
        waiting = self.waiting.find(call_id)
        if waiting is None:
            await self._find(grant, call_id)
            raise BadRequest(
                "The call does not wait to be accepted: it is running.", code="call_not_waiting", param="call_id"
            )
        return waiting

    async def _open(self, terms: Terms, *, transport: Transport) -> Session:
        return self._registry.open(terms, transport=transport, reservation=await self._reserve(terms))

    async def _reserve(self, terms: Terms) -> Reservation:
        """Reserves a place for the call.

        Its key is spent last, so a request that is refused costs a single-use key nothing.
        """
        reservation = self._registry.admission.reserve(terms.key_id)
        try:
            await self._quotas.calls.take(terms.key_id, reservation)
            self._registry.require_known(terms)
            await self._keys.spend(terms.token)
        except BaseException:
            reservation.release()
            raise
        return reservation

    # Coming back

    async def require_resumable(self, grant: Grant, call_id: str, resume_key: str) -> None:
        """Raises unless the key may see the call, and this is the call's resume key."""
        grant.require_owner()
        session = await self._find(grant, call_id)
        session.lifetime.window.require_key(resume_key)

    async def resume_with_offer(
        self, grant: Grant, call_id: str, resume_key: str, sdp: bytes, *, after: str | None = None
    ) -> CallAnswer:
        """Continues the same call by another way.

        That is its peer's ICE restart, or another peer, as of a page that was loaded again. Its data channel goes on
        after the event ``after``. Raises what ``require_resumable`` does, ``BadOffer``, and ``ResumeGap`` if what was
        missed is no longer kept.
        """
        await self.require_resumable(grant, call_id, resume_key)
        session = await self._find(grant, call_id)
        if not session.lifetime.is_open:
            raise unknown_call(call_id)  # the call is just ending, and takes nobody any more
        offer = parse_offer(sdp)
        session.audience.require_event(after)
        return self._answer_again(session, offer) or self._answer(session, offer, after=after)

    # What the same peer says later

    async def require_patchable(self, grant: Grant, call_id: str) -> None:
        """Raises unless the key has opened the call, and may still change something about its peer."""
        await self._find_own(grant, call_id)

    async def patch_ice(self, grant: Grant, call_id: str, body: bytes, condition: IfMatch) -> IceAnswer | None:
        """Takes a peer's SDP fragment: more candidates, for which there is no answer, or an ICE restart.

        Raises ``BadRequest``, and ``NotTheState`` or ``NoCondition`` as ``condition`` says.
        """
        fragment = parse_fragment(body)
        session = await self._find_own(grant, call_id)
        return patch_peer(self._offers, session.legs.all, fragment, condition)

    async def renegotiate(self, grant: Grant, call_id: str, sdp: bytes, condition: IfMatch | None) -> CallAnswer:
        """Takes another offer of the call's own peer: sound added, removed or held, or an ICE restart.

        Raises ``BadOffer`` if it is another peer's; that one comes back with the call's resume key.
        """
        offer = parse_offer(sdp)
        session = await self._find_own(grant, call_id)
        if condition is not None:
            condition.require(newest_tag(self._offers, session.legs.all))
        answer = self._answer_again(session, offer)
        if answer is None:
            raise BadOffer(
                "The offer is not of the peer connection that this call has. Another one takes its place by "
                f"POST /v1/realtime/calls/{call_id} with the call's Bridge-Resume-Key.",
                param="sdp",
            )
        return answer

    async def _find_own(self, grant: Grant, call_id: str) -> Session:
        grant.require_opener()
        session = await self._find(grant, call_id)
        grant.require_owner_of(call_id)
        if session.info.transport != WEBRTC:
            raise BadRequest("This call is not over WebRTC: there is no ICE session to change.", param="call_id")
        return session

    def _answer_again(self, session: Session, offer: Offer) -> CallAnswer | None:
        for leg in session.legs.all:
            answer = self._offers.answer_again(leg, offer)
            if answer is not None:
                return self._answered(session, offer, answer)
        return None

    async def resume_with_socket(
        self, grant: Grant, session_id: str, *, after: str | None, dialect: Dialect
    ) -> SocketPlace:
        """Returns the place of an owner who comes back to its session, and goes on after the event ``after``."""
        grant.require_owner()
        session = await self._find_for(grant.key_id, session_id, param="session_id")
        if session.info.transport != WEBSOCKET or not session.lifetime.window.is_possible:
            raise BadRequest("This session has no owner who could come back over a WebSocket.", param="session_id")
        session.audience.require_event(after)
        return SessionPlace(session, ListenerRole.OWNER, Choices(after=after), dialect, Reservation())

    @property
    def _offers(self) -> Endpoint:
        if self._webrtc is None:
            raise NotImplementedHere("This server takes no offers.")
        return self._webrtc

    def _answer(self, session: Session, offer: Offer, *, after: str | None = None) -> CallAnswer:
        port = session.legs.new_port()
        peer, answer = self._offers.accept(offer, port, session.context)
        session.legs.take(peer, port, after=after)
        return self._answered(session, offer, answer)

    def _answered(self, session: Session, offer: Offer, answer: str) -> CallAnswer:
        log = session.context.logger("calls")
        for warning in offer.warnings:
            log.warning("call.warning", code=warning.code, message=warning.message)
        resume_key = session.lifetime.window.key if session.lifetime.window.is_possible else ""
        return CallAnswer(
            call_id=session.info.id,
            sdp=answer,
            resume_key=resume_key,
            warnings=offer.warnings,
            tag=newest_tag(self._offers, session.legs.all) or "",
        )

    # Attaching

    async def place_for_listener(
        self, grant: Grant, call_id: str, role: ListenerRole, choices: Choices, *, dialect: Dialect
    ) -> SocketPlace:
        """Returns a place in a running call.

        Raises ``OverLimit`` or, if ``choices.after`` is too old, ``ResumeGap``.
        """
        grant.require_listener()
        session = await self._find(grant, call_id)
        session.audience.require_room()
        session.audience.require_event(choices.after)
        reservation = Reservation()
        await self._quotas.listeners.take(grant.key_id, reservation)
        return SessionPlace(session, role, choices, dialect, reservation)

    async def play_with_offer(self, grant: Grant, call_id: str, sdp: bytes, tracks: str | None) -> CallAnswer:
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
            await self._quotas.listeners.take(grant.key_id, reservation)
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
            tag=newest_tag(self._offers, player.legs) or "",
            player_id=player.id,
        )

    async def require_playable(self, grant: Grant, call_id: str) -> None:
        """Raises unless the key may play the call."""
        grant.require_player()
        await self._find(grant, call_id)

    async def require_player(self, grant: Grant, call_id: str, player_id: str) -> None:
        """Raises unless the player runs, and the key has opened it."""
        self._find_player(grant, call_id, player_id)

    async def patch_player(
        self, grant: Grant, call_id: str, player_id: str, body: bytes, condition: IfMatch
    ) -> IceAnswer | None:
        """Takes a player's SDP fragment; see ``patch_ice``."""
        fragment = parse_fragment(body)
        player = self._find_player(grant, call_id, player_id)
        return patch_peer(self._offers, player.legs, fragment, condition)

    async def stop_player(self, grant: Grant, call_id: str, player_id: str) -> None:
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

    async def place_for_watcher(self, grant: Grant, choices: Choices) -> SocketPlace:
        """Returns a place beside all calls; raises ``ResumeGap`` if ``choices.after`` is too old."""
        grant.require_admin()
        self._registry.events.require_known(choices)
        reservation = Reservation()
        await self._quotas.listeners.take(grant.key_id, reservation)
        return WatcherPlace(lambda: self.list_calls(grant), self._registry.events, choices, reservation)

    async def place_for_agent(self, grant: Grant, call_id: str | None) -> SocketPlace:
        """Returns an agent's place, for a call or for any; raises ``OverLimit`` if too many wait already.

        Its key is spent last, so a request that is refused costs a single-use key nothing.
        """
        grant.require_agent()
        if self._lobby is None:
            raise NotImplementedHere("This server takes no agents.")
        self._lobby.require_room()
        if grant.call_id is not None and call_id != grant.call_id:
            raise unknown_call(str(call_id))
        if call_id is not None:
            await self._find_for(API_KEY_ID, call_id)
        reservation = Reservation()
        try:
            await self._quotas.agents.take(grant.key_id, reservation)
            await self._keys.spend(grant.token)
        except BaseException:
            reservation.release()
            raise
        return AgentPlace(self._lobby, self._registry.directory, call_id, reservation)

    # Running calls

    async def list_calls(
        self, grant: Grant, query: str = "", *, ended: bool = False, is_here: bool = False
    ) -> list[CallStats]:
        """Returns the calls that the key may see.

        They are those that run, oldest first, or those that have ``ended``, the last one first. With ``is_here`` only
        those that run in this process. With a ``query`` only those that ``search.matches`` finds by an id, an address,
        metadata or their key.
        """
        grant.require_listener()

        def is_wanted(record: CallRecord) -> bool:
            return record.is_visible_to(grant.key_id) and (not query or record.is_found_by(query))

        if ended:
            return [call.stats for call in await self._registry.ended.list() if is_wanted(call.record)]
        wanted = {record.call_id for record in filter(is_wanted, await self._registry.directory.list())}
        own = [session.stats() for session in self._registry.sessions if session.info.id in wanted]
        if self._neighbours is None or is_here:
            return own
        others = await self._neighbours.list_calls(grant.key_id, query)
        return sorted((*own, *others), key=lambda call: call.started_at)

    async def show_call(self, grant: Grant, call_id: str) -> CallStats:
        """Returns one of the calls that the key may see, with its configuration."""
        grant.require_listener()
        session = await self._find(grant, call_id)
        return session.stats(in_full=True)

    async def hang_up(self, grant: Grant, call_id: str) -> None:
        """Ends the call, also one that waits to be accepted."""
        grant.require_opener()
        waiting = self.waiting.find(call_id)
        if waiting is not None and not grant.is_minted:
            self.waiting.settle(waiting, IncomingOutcome.HUNG_UP)
            return
        session = await self._find(grant, call_id)
        grant.require_owner_of(call_id)
        session.close("hangup")

    async def start_recording(self, grant: Grant, call_id: str) -> RecordingStats:
        """Begins to record the call, or says that it is being recorded."""
        recorder, session = await self._recorded(grant, call_id)
        return recorder.start(session).stats()

    async def stop_recording(self, grant: Grant, call_id: str) -> RecordingStats:
        """Ends the call's recording; raises ``BadRequest`` if there is none."""
        recorder, session = await self._recorded(grant, call_id)
        return recorder.stop(session.info.id).stats()

    async def _recorded(self, grant: Grant, call_id: str) -> tuple[Recorder, Session]:
        grant.require_admin()
        if self._recorder is None:
            raise NotImplementedHere("Calls are not recorded here; see the setting record_dir.")
        return self._recorder, await self._find(grant, call_id)

    async def _find(self, grant: Grant, call_id: str) -> Session:
        """Returns a call that the key has opened, or that it was minted for."""
        return await self._find_for(grant.key_for(call_id), call_id)

    async def _find_for(self, key_id: str, call_id: str, *, param: str = "call_id") -> Session:
        record = await self._registry.directory.find(call_id)
        if record is None or not record.is_visible_to(key_id):
            raise unknown_call(call_id, param=param)
        return self._registry.find(call_id, param=param)


def _carrier_call(session: Session) -> CarrierCall:
    port = session.legs.new_port(may_come_back=False)  # the leg itself waits for its carrier
    return CarrierCall(session.context, port, lambda leg: session.legs.take(leg, port))
