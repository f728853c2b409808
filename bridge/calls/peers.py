"""What peers of calls say by SDP: offers, further offers of the same peer, and fragments; and how they are answered."""

from collections.abc import Awaitable, Callable

from bridge.calls.conditions import IfMatch, newest_tag, patch_peer
from bridge.calls.handles import CallAnswer, IceAnswer
from bridge.calls.keys import Grant
from bridge.errors import BadOffer, BadRequest, NotImplementedHere
from bridge.live.leg import PortWatch
from bridge.session.session import Session
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.fragment import parse_fragment
from bridge.webrtc.sdp import Offer, parse_offer
from bridge.wire.stats import WEBRTC

__all__ = ["CallPeers"]


class CallPeers:
    """The WebRTC peers that are the callers of calls. ``find`` finds a call; it raises as ``CallService`` says."""

    def __init__(self, webrtc: Endpoint | None, *, find: Callable[[Grant, str], Awaitable[Session]]) -> None:
        """``webrtc`` takes offers; without it none is taken here."""
        self._webrtc = webrtc
        self._find = find

    @property
    def endpoint(self) -> Endpoint:
        """The end of all peer connections; raises ``NotImplementedHere`` if no offers are taken."""
        if self._webrtc is None:
            raise NotImplementedHere("This server accepts no offers.")
        return self._webrtc

    def answer(
        self, session: Session, offer: Offer, *, after: str | None = None, watch: PortWatch | None = None
    ) -> CallAnswer:
        """Makes a peer for an offer the caller of the call; its data channel goes on behind the event ``after``.

        ``watch`` puts the port of a Live call in front of the session's own.
        """
        port = session.legs.new_port()
        watched = None if watch is None else watch(port)
        peer, answer = self.endpoint.accept(offer, watched or port, session.context)
        if watched is not None:
            watched.input_format = peer.input_format
        session.legs.connect_leg(peer, port, after=after)
        return self._answered(session, offer, answer)

    def publish(self, session: Session, offer: Offer) -> CallAnswer:
        """Makes a peer that speaks by WHIP the caller of the call."""
        port = session.legs.new_port(may_come_back=False)
        peer, answer = self.endpoint.accept(offer, port, session.context, is_publisher=True)
        session.legs.connect_leg(peer, port)
        return self._answered(session, offer, answer)

    async def require_patchable(self, grant: Grant, call_id: str) -> None:
        """Raises unless the key has opened the call, and may still change something about its peer."""
        await self._find_own(grant, call_id)

    async def patch_ice(self, grant: Grant, call_id: str, body: bytes, condition: IfMatch) -> IceAnswer | None:
        """Takes a peer's SDP fragment: more candidates, for which there is no answer, or an ICE restart.

        Raises ``BadRequest``, and ``NotTheState`` or ``NoCondition`` as ``condition`` says.
        """
        fragment = parse_fragment(body)
        session = await self._find_own(grant, call_id)
        return patch_peer(self.endpoint, session.legs.all, fragment, condition)

    async def renegotiate(self, grant: Grant, call_id: str, sdp: bytes, condition: IfMatch | None) -> CallAnswer:
        """Takes another offer of the call's own peer: sound added, removed or held, or an ICE restart.

        Raises ``BadOffer`` if it is another peer's; that one comes back with the call's resume key.
        """
        offer = parse_offer(sdp)
        session = await self._find_own(grant, call_id)
        if condition is not None:
            condition.require(newest_tag(self.endpoint, session.legs.all))
        answer = self.answer_again(session, offer)
        if answer is None:
            raise BadOffer(
                "The offer is not from this call's peer connection. To replace the peer, use "
                f"POST /v1/realtime/calls/{call_id} with the call's Bridge-Resume-Key.",
                param="sdp",
            )
        return answer

    async def _find_own(self, grant: Grant, call_id: str) -> Session:
        grant.require_opener()
        session = await self._find(grant, call_id)
        grant.require_owner_of(call_id)
        if session.info.transport != WEBRTC:
            raise BadRequest("This call is not over WebRTC, so there is no ICE session to change.", param="call_id")
        return session

    def answer_again(self, session: Session, offer: Offer) -> CallAnswer | None:
        """Answers another offer of a peer that the call has; None if the offer is of none of them."""
        for leg in session.legs.all:
            answer = self.endpoint.answer_again(leg, offer)
            if answer is not None:
                return self._answered(session, offer, answer)
        return None

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
            tag=newest_tag(self.endpoint, session.legs.all) or "",
        )
