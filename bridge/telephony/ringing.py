"""A telephone call that waits to be accepted, on its carrier's connection. A leg follows it once it is accepted.

Until then the caller's sound is thrown away. A carrier that wants a frame every 20 ms gets silence.
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
_BRIDGES_OWN = frozenset({said.TOKEN_PARAMETER, said.RETURN_PARAMETER})
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
    """A call that waits to be accepted: the ``IncomingPhone`` of the ``WaitingCall`` that ``begin_wait`` is given."""

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
        """Prepares a call that ``begin_wait`` lets wait. ``on_answered`` makes its leg, on the same line."""
        self._line = line
        self._started = started
        self._clock = clock
        self._calls = calls
        self._transfer = transfer
        self._on_answered = on_answered
        self._on_dismissed = on_dismissed
        self._leg: CarrierLeg | None = None
        self._silence = silent_frame(started.output_format)

    def begin_wait(self, waiting: WaitingCall, wait_s: float) -> None:
        """Lets the call wait from now on, for at most ``wait_s``."""
        self._waiting = waiting
        self._wait_s = wait_s
        self._timer = self._clock.call_later(wait_s, self._expire)
        if self._line.dialect.traits.wants_silence or self._line.dialect.traits.heartbeat:
            self._clock.add(self)

    @property
    def started(self) -> said.CallStarted:
        """The event with which the carrier opened the call."""
        return self._started

    @property
    def context(self) -> CallContext:
        """The context of the call, which stays the same when it is accepted."""
        return self._waiting.context

    def _expire(self) -> None:
        self.settle(IncomingOutcome.EXPIRED)

    def settle(self, outcome: IncomingOutcome) -> None:
        """Ends the waiting for a reason that is not the application's. Nothing happens if the call does not wait."""
        self._calls.settle(self._waiting, outcome)

    def _rest(self) -> None:
        self._timer.cancel()
        self._clock.remove(self)

    # The clock's side

    def tick(self, now: float) -> None:
        """Sends a frame of silence, or a heartbeat. The clock calls this every 20 ms, if the carrier wants that."""
        self._line.beat(now)
        if self._line.takes_sound and self._line.dialect.traits.wants_silence:
            self._line.write_messages([self._line.dialect.encode_sound(self._silence)])

    # The connection's side

    def handle_event(self, line: CarrierLine, event: said.CarrierEvent) -> None:
        """Handles what the carrier says: for the leg, if there is one. Otherwise only a hang-up counts."""
        if self._leg is not None:
            self._leg.handle_event(line, event)
        elif isinstance(event, said.Ended):
            self.settle(IncomingOutcome.CALLER_HUNG_UP)

    def lost(self, line: CarrierLine, *, is_hang_up: bool) -> None:
        """Notes that the connection is gone. A call that still waits is over then."""
        if self._leg is not None:
            self._leg.lost(line, is_hang_up=is_hang_up)
        else:
            self.settle(IncomingOutcome.CALLER_HUNG_UP)

    # IncomingPhone

    @property
    def comes_back(self) -> bool:
        """Whether the carrier connects the call again; see ``IncomingPhone``."""
        return self._line.comes_back(self._started)

    def answer(self, call: CarrierCall) -> None:
        """Makes the leg of the accepted call; see ``IncomingPhone``."""
        self._rest()
        self._leg = self._on_answered(call)

    def dismiss(self, outcome: IncomingOutcome) -> None:
        """Ends the call without a leg, for the reason ``outcome``; see ``IncomingPhone``."""
        self._rest()
        if outcome is not IncomingOutcome.REFERRED:
            self._line.leave(self._clock, _FAREWELLS[outcome])
        self._on_dismissed(self, outcome)

    async def refer(self, target_uri: str) -> None:
        """Has the carrier transfer the call before it is accepted; see ``IncomingPhone``."""
        self._timer.cancel()  # the end of the wait must not hang up a transferred call
        try:
            words = await self._transfer(self._line, self._started, target_uri)
        except BaseException:
            self._timer = self._clock.call_later(self._wait_s, self._expire)
            raise
        self._line.leave(self._clock, "referred", words)


def sip_headers_of(started: said.CallStarted) -> list[SipHeader]:
    """Returns what the carrier and the application say of the call, as headers of SIP's INVITE.

    No secret is among them.
    """
    return list(_headers_of(started))[:_MAX_HEADERS]


def _headers_of(started: said.CallStarted) -> Iterator[SipHeader]:
    given = {
        name: value
        for name, value in started.parameters.items()
        if name not in _BRIDGES_OWN and value and value != started.token
    }
    for header, names in (("From", _FROM), ("To", _TO)):
        value = next((value for name, value in given.items() if name.lower() in names), None)
        if value is not None:
            yield SipHeader(header, value[:_MAX_VALUE_CHARS])
    yield SipHeader("Call-ID", started.call[:_MAX_VALUE_CHARS])
    for name, value in given.items():
        if name.lower() not in _FROM | _TO:
            yield SipHeader(f"X-{name[:_MAX_NAME_CHARS]}", value[:_MAX_VALUE_CHARS])
