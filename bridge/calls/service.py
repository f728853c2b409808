"""The one way to a call: to open it, attach to it, resume it, hang it up, list it and watch it, by a key for it.

Every endpoint comes here and nowhere else. A key, a quota or a call may be in another process, so looking for one is
awaited. What happens in a call is not awaited once a socket or a leg has its place.
"""

from dataclasses import replace

from msgspec import UNSET
from msgspec.structs import replace as with_fields

from bridge.calls.decisions import IncomingCalls, carrier_call
from bridge.calls.directory import CallRecord, unknown_call
from bridge.calls.handles import Agents, CallAnswer, CarrierCall, RemoteCalls, SocketPlace
from bridge.calls.keys import API_KEY_ID, Grant, KeyStore
from bridge.calls.live import LiveAccess, LiveServices
from bridge.calls.moving import CarrierCallFinder
from bridge.calls.peers import CallPeers
from bridge.calls.places import AgentPlace, SessionPlace, WatcherPlace
from bridge.calls.playing import PlayerAccess
from bridge.calls.quotas import Quotas, Reservation
from bridge.calls.registry import Registry
from bridge.calls.terms import Terms
from bridge.errors import BadRequest, NotImplementedHere
from bridge.players.players import Players
from bridge.recording.recorder import Recorder
from bridge.session.session import Session
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.fragment import MAX_FRAGMENT_BYTES
from bridge.webrtc.one_way import as_published
from bridge.webrtc.sdp import MAX_SDP_BYTES, parse_offer
from bridge.wire.choices import STOCK, Choices
from bridge.wire.ids import new_id
from bridge.wire.sessions import SessionRequest
from bridge.wire.stats import (
    WEBRTC,
    WEBSOCKET,
    CallStats,
    Dialect,
    IncomingOutcome,
    ListenerRole,
    RecordingStats,
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
        agents: Agents | None = None,
        recorder: Recorder | None = None,
        players: Players | None = None,
        remote_calls: RemoteCalls | None = None,
        live_services: LiveServices | None = None,
        carrier_calls: CarrierCallFinder | None = None,
    ) -> None:
        """``webrtc`` and ``players`` take offers, ``agents`` those who answer; without ``recorder`` none is recorded.

        ``remote_calls`` are those of other processes, ``live_services`` are services that speak Live. ``carrier_calls``
        finds telephone calls of all processes.
        """
        self.incoming = IncomingCalls(registry, reserve=self._reserve, find=self._find)
        """Telephone calls that wait, or are to be transferred."""
        self.peers = CallPeers(webrtc, find=self._find)
        """What peers say by SDP after their offer."""
        self.players = PlayerAccess(players, self.peers, keys, quotas, find=self._find)
        """Those who play calls over WebRTC."""
        self.live = LiveAccess(
            registry,
            self.peers,
            self.incoming,
            quotas,
            reserve=self._reserve_place,
            open_call=lambda terms, transport, place: self._open(terms, transport=transport, place=place),
            find=self._find,
            services=live_services,
        )
        """Calls whose client speaks Live."""
        self.carrier_calls = carrier_calls
        """Finds telephone calls that another process has or had; None if this process is by itself."""
        self._registry = registry
        self._keys = keys
        self._quotas = quotas
        self._agents = agents
        self._recorder = recorder
        self._remote_calls = remote_calls

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
            return self.peers.answer(session, offer)
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
            return self.peers.publish(session, offer)
        except BaseException:
            session.close("internal_error")
            raise

    async def open_with_socket(self, terms: Terms, choices: Choices = STOCK) -> SocketPlace:
        """Opens a call over a WebSocket; returns its owner's place. Raises as ``open_with_offer`` does."""
        session = await self._open(terms, transport=WEBSOCKET)
        return SessionPlace(session, ListenerRole.OWNER, choices, terms.dialect, Reservation())

    async def open_with_carrier(self, terms: Terms, carrier: Transport, *, comes_back: bool = False) -> CarrierCall:
        """Opens a call that ``carrier`` brings; raises as ``open_with_offer`` does.

        If the carrier ``comes_back``, it connects the call again if the bridge closes the connection.
        """
        return carrier_call(await self._open(terms, transport=carrier), comes_back=comes_back)

    async def _open(self, terms: Terms, *, transport: Transport, place: Reservation | None = None) -> Session:
        """Opens a call; ``place`` was reserved for it before, and stays reserved if the terms are refused."""
        if place is None:
            reservation = await self._reserve(terms)
        else:
            await self._require_and_spend(terms)
            reservation = place.moved()
        return self._registry.open(terms, transport=transport, reservation=reservation)

    async def _reserve(self, terms: Terms) -> Reservation:
        """Reserves a place for the call.

        Its key is spent last, so a request that is refused costs a single-use key nothing.
        """
        reservation = await self._reserve_place(terms.key_id)
        try:
            await self._require_and_spend(terms)
        except BaseException:
            reservation.release()
            raise
        return reservation

    async def _reserve_place(self, key_id: str) -> Reservation:
        """Reserves a place for a call of the key, whose terms follow; raises what ``require_room`` does."""
        reservation = self._registry.admission.reserve(key_id)
        try:
            await self._quotas.calls.reserve_place(key_id, reservation)
        except BaseException:
            reservation.release()
            raise
        return reservation

    async def _require_and_spend(self, terms: Terms) -> None:
        self._registry.require_known(terms)
        await self._keys.spend(terms.token)

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
        return self.peers.answer_again(session, offer) or self.peers.answer(
            session, offer, after=after, watch=self.live.watch(session)
        )

    async def resume_with_socket(
        self, grant: Grant, session_id: str, *, after: str | None, dialect: Dialect
    ) -> SocketPlace:
        """Returns the place of an owner who comes back to its session, and goes on after the event ``after``."""
        grant.require_owner()
        session = await self._find_for(grant.key_id, session_id, param="session_id")
        if session.info.transport != WEBSOCKET or not session.lifetime.window.is_possible:
            raise BadRequest("This session has no owner that could come back over a WebSocket.", param="session_id")
        session.audience.require_event(after)
        return SessionPlace(session, ListenerRole.OWNER, Choices(after=after), dialect, Reservation())

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
        await self._quotas.listeners.reserve_place(grant.key_id, reservation)
        return SessionPlace(session, role, choices, dialect, reservation)

    async def place_for_watcher(self, grant: Grant, choices: Choices) -> SocketPlace:
        """Returns a place beside all calls; raises ``ResumeGap`` if ``choices.after`` is too old."""
        grant.require_admin()
        self._registry.events.require_known(choices)
        reservation = Reservation()
        await self._quotas.listeners.reserve_place(grant.key_id, reservation)
        return WatcherPlace(lambda: self.list_calls(grant), self._registry.events, choices, reservation)

    async def place_for_agent(self, grant: Grant, call_id: str | None) -> SocketPlace:
        """Returns an agent's place, for a call or for any; raises ``OverLimit`` if too many wait already.

        Its key is spent last, so a request that is refused costs a single-use key nothing.
        """
        grant.require_agent()
        if self._agents is None:
            raise NotImplementedHere("This server accepts no agents.")
        self._agents.require_room()
        if grant.call_id is not None and call_id != grant.call_id:
            raise unknown_call(str(call_id))
        if call_id is not None:
            await self._find_for(API_KEY_ID, call_id)
        reservation = Reservation()
        try:
            await self._quotas.agents.reserve_place(grant.key_id, reservation)
            await self._keys.spend(grant.token)
        except BaseException:
            reservation.release()
            raise
        return AgentPlace(self._agents, self._registry.directory, call_id, reservation)

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
        if self._remote_calls is None or is_here:
            return own
        others = await self._remote_calls.list_calls(grant.key_id, query)
        return sorted((*own, *others), key=lambda call: call.started_at)

    async def show_call(self, grant: Grant, call_id: str) -> CallStats:
        """Returns one of the calls that the key may see, with its configuration."""
        grant.require_listener()
        session = await self._find(grant, call_id)
        return session.stats(in_full=True)

    async def hang_up(self, grant: Grant, call_id: str) -> None:
        """Ends the call, also one that waits to be accepted."""
        grant.require_opener()
        waiting = self.incoming.waiting.find(call_id)
        if waiting is not None and not grant.is_minted:
            self.incoming.waiting.settle(waiting, IncomingOutcome.HUNG_UP)
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
