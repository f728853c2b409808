"""What an application decides about telephone calls: whether they are accepted, and to whom they are transferred."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from bridge.calls.handles import CarrierCall
from bridge.calls.incoming import IncomingPhone, WaitingCall, WaitingCalls
from bridge.calls.keys import Grant
from bridge.calls.quotas import Reservation
from bridge.calls.registry import Registry
from bridge.calls.terms import Terms
from bridge.errors import BadRequest
from bridge.live.leg import PortWatch
from bridge.media.contracts import Leg, ReferringLeg
from bridge.session.session import Session
from bridge.wire.server_events import Body
from bridge.wire.sessions import SessionConfig, SessionRequest
from bridge.wire.stats import IncomingOutcome, SipHeader, Transport

__all__ = ["IncomingCalls", "carrier_call"]


class IncomingCalls:
    """The one way to decide about a telephone call, by an API key.

    ``reserve`` takes a place for a call, and ``find`` finds a call that runs. Both raise as ``CallService`` says.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        reserve: Callable[[Terms], Awaitable[Reservation]],
        find: Callable[[Grant, str], Awaitable[Session]],
    ) -> None:
        self.waiting = WaitingCalls(registry)
        """The calls about which the application has not decided yet."""
        self._registry = registry
        self._reserve = reserve
        self._find = find

    async def announce(
        self, terms: Terms, carrier: Transport, phone: IncomingPhone, *, sip_headers: Sequence[SipHeader], wait_s: float
    ) -> WaitingCall:
        """Takes a call that ``carrier`` brings and that waits to be accepted; raises as ``open_with_offer`` does."""
        reservation = await self._reserve(terms)
        return self.waiting.add_waiting_call(terms, carrier, phone, reservation, sip_headers=sip_headers, wait_s=wait_s)

    async def accept(
        self,
        grant: Grant,
        call_id: str,
        wanted: SessionRequest,
        *,
        live: Body | None = None,
        begin: Callable[[Session], PortWatch | None] = lambda session: None,
    ) -> None:
        """Answers a call that waits, with the session that is ``wanted``.

        ``live`` is the session as a Live client wrote it; ``begin`` makes the call a Live call before it is answered.
        Raises ``BadRequest`` if it does not wait, and ``BadEvent`` as ``open_with_offer`` does: then it waits on.
        """
        waiting = await self._waiting_call(grant, call_id)
        asked = (waiting.terms.update or SessionRequest(SessionConfig(), {})).with_update(wanted)
        terms = replace(waiting.terms, update=asked, live=live)
        self._registry.admission.require_accepting()
        self._registry.require_known(terms)
        try:
            session = self._registry.open(
                terms, transport=waiting.transport, reservation=waiting.reservation, context=waiting.context
            )
        except BaseException:  # its place is lost
            self.waiting.settle(waiting, IncomingOutcome.STOPPED)
            raise
        try:
            watch = begin(session)
        except BaseException:
            session.close("internal_error")
            raise
        self.waiting.settle(waiting, IncomingOutcome.ACCEPTED)
        waiting.phone.answer(carrier_call(session, watch, comes_back=waiting.phone.comes_back))

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
                "The call is not waiting to be accepted: it is already running.",
                code="call_not_waiting",
                param="call_id",
            )
        return waiting


def carrier_call(session: Session, watch: PortWatch | None = None, *, comes_back: bool) -> CarrierCall:
    """Returns the call as its carrier takes it. The leg itself waits if the connection to the carrier is lost.

    ``watch`` puts the port of a Live call in front of the session's own. A call whose carrier ``comes_back`` may be
    moved to another process.
    """
    port = session.legs.new_port(may_come_back=False, may_move=comes_back)
    watched = None if watch is None else watch(port)

    def take(leg: Leg) -> None:
        if watched is not None:
            watched.input_format = leg.input_format
        session.legs.connect_leg(leg, port)

    return CarrierCall(session.context, watched or port, take)
