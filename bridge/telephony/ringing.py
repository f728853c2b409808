"""A call that waits to be accepted, as its carrier's connection sees it: what a leg is afterwards.

The caller's sound is thrown away until then. A carrier that wants a frame every 20 ms gets silence.
"""

from collections.abc import Callable, Iterator

from bridge.calls.handles import CarrierCall
from bridge.calls.incoming import WaitingCall, WaitingCalls
from bridge.context import CallContext
from bridge.telephony import dialect as said
from bridge.telephony.clock import Clock
from bridge.telephony.leg import CarrierLeg, CarrierLine, Transfer
from bridge.telephony.playout import silent_frame
from bridge.wire.stats import IncomingOutcome, SipHeader

__all__ = ["RingingCall", "sip_headers_of"]

_MAX_HEADERS = 50
_MAX_NAME_CHARS, _MAX_VALUE_CHARS = 64, 256
_FROM = frozenset({"ani", "caller", "callerid", "caller_id", "from"})
_TO = frozenset({"called", "dnis", "to"})
_FAREWELLS = {
    IncomingOutcome.REJECTED: "rejected",
    IncomingOutcome.HUNG_UP: "hangup",
    IncomingOutcome.CALLER_HUNG_UP: "caller_hung_up",
    IncomingOutcome.EXPIRED: "not_accepted",
    IncomingOutcome.STOPPED: "server_stopped",
}


class RingingCall:
    """See the module; the ``IncomingPhone`` of a ``WaitingCall``. ``begin`` tells it which one."""

    def __init__(
        self,
        line: CarrierLine,
        started: said.CallStarted,
        clock: Clock,
        *,
        calls: WaitingCalls,
        transfer: Transfer,
        on_answered: Callable[[CarrierCall], CarrierLeg],
        on_dismissed: Callable[["RingingCall", IncomingOutcome], None],
    ) -> None:
        """``on_answered`` makes the leg, on the same line."""
        self._line = line
        self._started = started
        self._clock = clock
        self._calls = calls
        self._transfer = transfer
        self._on_answered = on_answered
        self._on_dismissed = on_dismissed
        self._leg: CarrierLeg | None = None
        self._silence = silent_frame(started.output_format)

    def begin(self, waiting: WaitingCall, wait_s: float) -> None:
        """It waits from now on, for so long."""
        self._waiting = waiting
        self._wait_s = wait_s
        self._timer = self._clock.call_later(wait_s, self._expire)
        if self._line.dialect.traits.wants_silence:
            self._clock.members.add(self)

    @property
    def context(self) -> CallContext:
        """Who the call is, now and when it is accepted."""
        return self._waiting.context

    def _expire(self) -> None:
        self.settle(IncomingOutcome.EXPIRED)

    def settle(self, outcome: IncomingOutcome) -> None:
        """It waits no more, for a reason that is not the application's; nothing happens if it does not wait."""
        self._calls.settle(self._waiting, outcome)

    def _rest(self) -> None:
        self._timer.cancel()
        self._clock.members.discard(self)

    # The clock's side

    def tick(self, now: float) -> None:
        """Every 20 ms, if the carrier wants something then."""
        if self._line.takes_sound:
            self._line.write([self._line.dialect.encode_sound(self._silence)])

    # The connection's side

    def handle_event(self, line: CarrierLine, event: said.CarrierEvent) -> None:
        """What the carrier says: of interest to the leg, or that the caller has hung up."""
        if self._leg is not None:
            self._leg.handle_event(line, event)
        elif isinstance(event, said.Ended):
            self.settle(IncomingOutcome.CALLER_HUNG_UP)

    def lost(self, line: CarrierLine, *, is_hang_up: bool) -> None:
        """The connection is gone. A call that waits is not waited for."""
        if self._leg is not None:
            self._leg.lost(line, is_hang_up=is_hang_up)
        else:
            self.settle(IncomingOutcome.CALLER_HUNG_UP)

    # IncomingPhone

    def answer(self, call: CarrierCall) -> None:
        """See ``IncomingPhone``."""
        self._rest()
        self._leg = self._on_answered(call)

    def dismiss(self, outcome: IncomingOutcome) -> None:
        """See ``IncomingPhone``."""
        self._rest()
        if outcome is not IncomingOutcome.REFERRED:
            self._line.leave(self._clock, _FAREWELLS[outcome])
        self._on_dismissed(self, outcome)

    async def refer(self, target_uri: str) -> None:
        """See ``IncomingPhone``."""
        self._timer.cancel()  # a call that has been transferred is not to be hung up
        try:
            words = await self._transfer(self._line, self._started, target_uri)
        except BaseException:
            self._timer = self._clock.call_later(self._wait_s, self._expire)
            raise
        self._line.leave(self._clock, "referred", words)


def sip_headers_of(started: said.CallStarted) -> list[SipHeader]:
    """What the carrier and the application say of the call, as headers of SIP's INVITE; no secret is among them."""
    return list(_headers_of(started))[:_MAX_HEADERS]


def _headers_of(started: said.CallStarted) -> Iterator[SipHeader]:
    given = {
        name: value
        for name, value in started.parameters.items()
        if name != said.TOKEN_PARAMETER and value and value != started.token
    }
    for header, names in (("From", _FROM), ("To", _TO)):
        value = next((value for name, value in given.items() if name.lower() in names), None)
        if value is not None:
            yield SipHeader(header, value[:_MAX_VALUE_CHARS])
    yield SipHeader("Call-ID", started.call[:_MAX_VALUE_CHARS])
    for name, value in given.items():
        if name.lower() not in _FROM | _TO:
            yield SipHeader(f"X-{name[:_MAX_NAME_CHARS]}", value[:_MAX_VALUE_CHARS])
