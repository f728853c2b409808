"""Telephone calls that wait until the application says what is to become of them.

    waiting ──accept──▶ a call like any
       ├────reject, hangup, refer──▶ settled
       └────the caller hangs up, or nobody decides in time──▶ settled

A call that waits has its place already, and no session: nobody is dialled for it, and nobody hears it.
"""

from collections.abc import Sequence
from typing import Protocol

from bridge.calls.handles import CarrierCall
from bridge.calls.quotas import Reservation
from bridge.calls.registry import Registry
from bridge.calls.terms import Terms
from bridge.context import CallContext
from bridge.wire.own_events import CallIncoming, CallSettled
from bridge.wire.stats import IncomingOutcome, SipHeader, Transport

__all__ = ["IncomingPhone", "WaitingCall", "WaitingCalls"]


class IncomingPhone(Protocol):
    """The caller's side of a call that waits."""

    @property
    def comes_back(self) -> bool:
        """Whether the carrier connects the call again if the bridge closes the connection."""
        ...

    def answer(self, call: CarrierCall) -> None:
        """Takes the call that it has become, because it was accepted."""
        ...

    def dismiss(self, outcome: IncomingOutcome) -> None:
        """Ends the caller's leg, because the call waits no more and was not accepted.

        A leg that has gone elsewhere already is left alone.
        """
        ...

    async def refer(self, target_uri: str) -> None:
        """Has the carrier transfer the call; if it raises ``BadRequest`` or ``UpstreamError``, the call waits on."""
        ...


class WaitingCall:
    """One call that waits."""

    def __init__(
        self,
        context: CallContext,
        terms: Terms,
        transport: Transport,
        phone: IncomingPhone,
        reservation: Reservation,
    ) -> None:
        self.context = context
        self.terms = terms
        self.transport = transport
        self.phone = phone
        self.reservation = reservation
        self.is_referred = False
        """Whether it is just being transferred; then nothing else can be decided about it."""


class WaitingCalls:
    """The waiting calls of one process, by their id."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._calls: dict[str, WaitingCall] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def add_waiting_call(
        self,
        terms: Terms,
        transport: Transport,
        phone: IncomingPhone,
        reservation: Reservation,
        *,
        sip_headers: Sequence[SipHeader],
        wait_s: float,
    ) -> WaitingCall:
        """Adds a call that begins to wait, and tells all who follow calls.

        Whoever adds it settles it after ``wait_s``.
        """
        context = self._registry.new_context(terms, transport)
        waiting = self._calls[context.call_id] = WaitingCall(context, terms, transport, phone, reservation)
        context.logger("calls").info("call.incoming", transport=transport, wait_s=wait_s, **context.origin)
        self._registry.events.publish(
            CallIncoming(
                call_id=context.call_id,
                transport=transport,
                sip_headers=list(sip_headers),
                seconds=wait_s,
                traceparent=context.trace_headers.get("traceparent"),
            )
        )
        return waiting

    def find(self, call_id: str) -> WaitingCall | None:
        """Returns the call, if it waits and can be decided about."""
        waiting = self._calls.get(call_id)
        return None if waiting is None or waiting.is_referred else waiting

    def settle(self, waiting: WaitingCall, outcome: IncomingOutcome, *, status_code: int | None = None) -> None:
        """Ends the wait of a call; may be called twice."""
        if self._calls.pop(waiting.context.call_id, None) is None:
            return
        if outcome is not IncomingOutcome.ACCEPTED:
            waiting.reservation.release()
            waiting.phone.dismiss(outcome)
        said = {} if status_code is None else {"status_code": status_code}
        waiting.context.logger("calls").info("call.settled", outcome=outcome, transport=waiting.transport, **said)
        self._registry.events.publish(
            CallSettled(
                call_id=waiting.context.call_id,
                transport=waiting.transport,
                outcome=outcome,
                status_code=status_code,
            )
        )
