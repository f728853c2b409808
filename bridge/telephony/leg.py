"""A telephone call as a leg: it turns what the session wants into the carrier's messages, and the other way round.

    connecting ──▶ connected ──socket lost──▶ waiting ──grace time over──▶ closed
                       ▲ │ └──────────the bridge hangs up─────────────────────▶ ▲
                       │ └──────────the carrier hangs up──▶ ended               │
                       └──the same call comes back── waiting ──bridge hangs up──┘

A leg whose call another process goes on with is moved: its connection is closed, and the call is not hung up.

The leg outlives its connection: a carrier whose socket drops has the grace time to come back with the same call. The
sound that it had not confirmed as played is sent again then. One clock of 20 ms paces all legs; a leg runs no task.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from functools import partial

from bridge.calls.moving import CarrierConnection
from bridge.context import CallContext, TraceContext
from bridge.errors import BadRequest, BridgeError, PeerError, PeerLost
from bridge.media.contracts import PhoneOwner
from bridge.media.playback import Heard, Part, Played
from bridge.resume_window import ResumeWindow
from bridge.state_machine import StateMachine
from bridge.telephony import dialect as said
from bridge.telephony.clock import Clock
from bridge.telephony.lateness import InputLateness
from bridge.telephony.playout import CarrierPlayout
from bridge.wire.audio import AudioFormat
from bridge.wire.stats import CarrierLegStats

__all__ = ["HANG_UP_CODES", "CarrierLeg", "CarrierLine", "LegState", "Transfer"]

HANG_UP_CODES = (1000, 1005)
"""The codes of a hang-up: the carrier closes its WebSocket with one of them (RFC 6455 section 7.4.1).

A WebSocket that is closed without a code has code 1005.
"""

_MAX_BUFFERED_BYTES = 256 * 1024
_NORMAL, _SERVICE_RESTART = 1000, 1012
_HEARTBEAT_S = 20.0
_GOODBYE_S = 10.0  # the time in which a carrier that has the last word closes


Transfer = Callable[["CarrierLine", said.CallStarted, str], Awaitable[Sequence[str | bytes]]]
"""Has a line's carrier transfer the call to a URI, and returns the messages to send before the line is closed.

It raises ``BadRequest`` if the carrier cannot, and ``UpstreamError`` if it fails.
"""


class LegState(StrEnum):
    """The state of a telephone call's leg."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    """Its connection broke, and may come back."""
    ENDED = "ended"
    """The carrier has ended the call."""
    CLOSED = "closed"
    """The bridge has ended the call, or its connection did not come back."""
    MOVED = "moved"
    """Another process goes on with the call."""


_OVER = (LegState.ENDED, LegState.CLOSED, LegState.MOVED)


_NEXT: dict[LegState, frozenset[LegState]] = {
    LegState.CONNECTING: frozenset({LegState.CONNECTED, LegState.CLOSED, LegState.MOVED}),
    LegState.CONNECTED: frozenset(
        {LegState.CONNECTED, LegState.WAITING, LegState.ENDED, LegState.CLOSED, LegState.MOVED}
    ),
    LegState.WAITING: frozenset({LegState.CONNECTED, LegState.CLOSED, LegState.MOVED}),
    LegState.ENDED: frozenset(),
    LegState.CLOSED: frozenset(),
    LegState.MOVED: frozenset(),
}
"""The states that a leg may enter from each state."""


class CarrierLine:
    """A connection and the dialect that is spoken on it."""

    def __init__(
        self,
        dialect: said.CarrierDialect,
        connection: CarrierConnection,
        *,
        sender: str = "",
        trace: TraceContext | None = None,
    ) -> None:
        self.dialect = dialect
        self.has_flow = True
        """Whether the carrier takes sound for now."""
        self.sender = sender
        """The address at the other end, for the log."""
        self.trace = trace
        """The trace of the request that opened the line, if any."""
        self.connection = connection
        """What carries the dialect's messages."""
        self._beat_at = 0.0

    def beat(self, now: float) -> None:
        """Sends the carrier's heartbeat if it is due; see ``Traits.heartbeat``."""
        if self.dialect.traits.heartbeat and now >= self._beat_at:
            self._beat_at = now + _HEARTBEAT_S
            self.connection.write_messages([self.dialect.traits.heartbeat])

    def comes_back(self, started: said.CallStarted) -> bool:
        """Whether the carrier connects the call again if the bridge closes the line without a word."""
        return self.dialect.traits.redials or said.RETURN_PARAMETER in started.parameters

    def write_messages(self, messages: list[str | bytes]) -> None:
        """Sends messages of the dialect."""
        if messages:
            self.connection.write_messages(messages)

    def hang_up(self, reason: str) -> None:
        """Tells the carrier that the call is over, if the dialect has a word for it, and closes the connection."""
        self.write_messages(self.dialect.encode_hang_up())
        self.connection.close(_NORMAL, reason)

    def leave(self, clock: Clock, reason: str, words: Sequence[str | bytes] | None = None) -> None:
        """Hangs up, or sends ``words`` instead. A carrier that has the last word closes the connection itself."""
        self.write_messages(self.dialect.encode_hang_up() if words is None else list(words))
        if self.dialect.traits.says_goodbye:
            clock.call_later(_GOODBYE_S, partial(self.connection.close, _NORMAL, reason))
        else:
            self.connection.close(_NORMAL, reason)

    def close(self, code: int, reason: str) -> None:
        """Closes the connection without a word."""
        self.connection.close(code, reason)

    @property
    def takes_sound(self) -> bool:
        """Whether the carrier has not asked for a pause, and reads what it gets."""
        return self.has_flow and self.connection.buffered_bytes <= _MAX_BUFFERED_BYTES


class CarrierLeg:
    """A telephone call, as a leg of its session. ``connect`` gives it its first connection and each later one."""

    def __init__(
        self,
        started: said.CallStarted,
        owner: PhoneOwner,
        clock: Clock,
        *,
        context: CallContext,
        traits: said.Traits,
        grace_s: float,
        limit_s: int,
        on_closed: Callable[["CarrierLeg"], None],
        transfer: Transfer,
        moves: Callable[[str], bool] = lambda reason: False,
    ) -> None:
        """If the call ends for a reason that ``moves`` it, it goes on in another process: it is not hung up then."""
        self.context = context
        self.audio = CarrierPlayout(started.output_format, traits, limit_s=limit_s)
        self.input_lateness = InputLateness(started.audio_format)
        self.faults: Counter[str] = Counter()
        self._log = context.logger("telephony", carrier_ids=dict(context.carrier_ids))
        self._state = StateMachine("telephone leg", LegState.CONNECTING, _NEXT, log=self._log)
        self._started = started
        self._owner = owner
        self._clock = clock
        self._resume_window = ResumeWindow(grace_s, self._give_up)
        self._on_closed = on_closed
        self._transfer = transfer
        self._moves = moves
        self._line: CarrierLine | None = None
        self._returns = 0
        clock.add(self)

    @property
    def state(self) -> LegState:
        """The state of the leg."""
        return self._state.state

    @property
    def started(self) -> said.CallStarted:
        """The event with which the carrier opened the call."""
        return self._started

    # The connection's side

    def connect(self, line: CarrierLine) -> None:
        """Takes ``line`` as the carrier's connection from now on, in place of an earlier one."""
        if self.state in _OVER:  # its session ended it before it had a connection
            line.hang_up("call_ended")
            return
        if self.state is LegState.CONNECTING:
            self._owner.leg_connected()
        else:
            self._returns += 1
            if self._line is not None:
                self._line.close(_NORMAL, "replaced")
                self.audio.take_back()
        self._resume_window.close_window()
        self._state.enter(LegState.CONNECTED)
        self._line = line

    def handle_event(self, line: CarrierLine, event: said.CarrierEvent) -> None:
        """Handles what the carrier says. Events of a line that was replaced do not count."""
        if line is not self._line:
            return
        try:
            self._handle(event)
        except Exception as error:
            self._handler_failed(error)

    def _handle(self, event: said.CarrierEvent) -> None:
        match event:
            case bytes():
                self.input_lateness.add(len(event), self._clock.now)
                self._owner.receive_leg_audio(event)
            case said.MarkPlayed(mark):
                self._report(self.audio.played(mark, self._clock.now))
            case said.Dtmf(key):
                self._owner.receive_dtmf(key)
            case said.Flow(is_open):
                if self._line is not None:
                    self._line.has_flow = is_open
            case said.Ended(reason):
                self._close(LegState.ENDED, reason, None)
            case said.CarrierFault(what, detail):
                self.faults[what] += 1
                if detail:
                    self._log.debug("telephony.carrier_complains", what=what, detail=detail)
            case said.CallStarted() | said.CarrierReply():  # the latter is written before it gets here
                self.faults["second_start"] += 1

    def lost(self, line: CarrierLine, *, is_hang_up: bool) -> None:
        """Notes that the connection is gone. The call ends if the carrier hung up, else it waits for the grace time."""
        if line is not self._line or self.state is not LegState.CONNECTED:
            return
        if is_hang_up:
            self._close(LegState.ENDED, "caller_hung_up", None)
            return
        self._line = None
        self.audio.take_back()
        self._state.enter(LegState.WAITING)
        self._resume_window.open_window()

    def _give_up(self) -> None:
        message = f"The carrier's connection was lost and did not come back within {self._resume_window.grace_s:g} s."
        self._close(LegState.CLOSED, "carrier_lost", PeerLost(message, code="peer_lost"))

    # Leg

    @property
    def passage(self) -> None:
        """None: no carrier speaks Opus."""
        return None

    @property
    def input_format(self) -> AudioFormat:
        """The format in which the carrier sends the caller's sound."""
        return self._started.audio_format

    @property
    def output_format(self) -> AudioFormat:
        """The format in which the carrier takes the answer's sound."""
        return self._started.output_format

    def play(self, part: Part, sound: bytes) -> bool:
        """Queues sound, at any speed. Returns False if that was too much, and none of it will be heard."""
        return self.audio.push(part, sound)

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes of memory the sound takes that is still to be heard."""
        return self.audio.waiting_bytes

    def end(self, response_id: str) -> None:
        """Notes that no more sound of this response will come."""
        self._report(self.audio.end(response_id))

    def clear(self) -> tuple[str, list[Heard]] | None:
        """Silences the carrier. Returns what was cut and how much of it was heard; None if nothing was left.

        The caller hears silence as soon as the carrier has got the message.
        """
        cut = self.audio.clear(self._clock.now)
        if cut is not None and self._line is not None:
            self._line.write_messages(self._line.dialect.encode_clear())
            self._line.has_flow = True  # its buffer is empty now, and it may not say so
        return cut

    def mark(self, mark_id: str) -> bool:
        """Sets a mark after all that is queued."""
        return self.audio.playback.mark(mark_id)

    def hang_up(self, reason: str) -> None:
        """Ends the call, or leaves it to another process."""
        self._close(LegState.MOVED if self._moves(reason) else LegState.CLOSED, reason, None)

    async def refer(self, target_uri: str) -> None:
        """Has the carrier transfer the call, which is over here then.

        Raises ``BridgeError`` if it is not transferred.
        """
        if self._line is None:
            raise BadRequest("The carrier's connection is lost; it may come back.", code="call_lost", param="call_id")
        words = await self._transfer(self._line, self._started, target_uri)
        self._close(LegState.ENDED, "referred", None, words)

    def press_keys(self, keys: str) -> None:
        """Sends keys (DTMF) to the caller's side; raises ``BadRequest`` if the carrier has no word for it."""
        messages = [] if self._line is None else [m for key in keys for m in self._line.dialect.encode_key(key)]
        if self._line is None or len(messages) < len(keys):
            raise BadRequest("This call's carrier does not support DTMF.", code="no_dtmf", param="keys")
        self._line.write_messages(messages)

    @property
    def failure(self) -> BridgeError | None:
        """What was wrong with the call although it has ended properly; None if nothing was.

        A stream that brought no sound at all was set up in a wrong way.
        """
        if self.input_lateness.messages:
            return None
        return PeerError("The carrier's stream contains no sound from the caller: is its track right?", code="no_media")

    def stats(self) -> CarrierLegStats:
        """Returns the state of its connection, and counts of the sound both ways."""
        return CarrierLegStats(
            is_connected=self._line is not None,
            messages=self.input_lateness.messages,
            sent=self.audio.frames,
            queued_ms=self.audio.queued_ms,
            input_late_ms=self.input_lateness.late_ms,
            late_ms=self.audio.late_ms,
            overflow_ms=self.audio.overflow_ms,
            returns=self._returns,
            faults=self.faults.total(),
        )

    # The clock's side

    def tick(self, now: float) -> None:
        """Sends what is due. The clock calls this every 20 ms."""
        line = self._line
        if line is None or not line.takes_sound:
            return
        line.beat(now)
        try:
            pieces, events = self.audio.tick(now)
            messages: list[str | bytes] = []
            for piece in () if self.audio.traits.is_listening_only else pieces:
                messages.append(line.dialect.encode_sound(piece.sound))
                if piece.mark is not None:
                    messages += line.dialect.encode_mark(piece.mark)
            line.write_messages(messages)
            self._report(events)
        except Exception as error:
            self._handler_failed(error)

    def _report(self, events: list[Played]) -> None:
        for event in events:
            self._owner.played(event)

    def _handler_failed(self, error: Exception) -> None:
        self.faults["handler_error"] += 1
        self._log.error("telephony.handler_failed", exc_info=error)
        fault = PeerError(f"{type(error).__name__}: {error}", code="internal_error")
        self._close(LegState.CLOSED, "internal_error", fault)

    def _close(
        self, state: LegState, reason: str, error: BridgeError | None, words: Sequence[str | bytes] | None = None
    ) -> None:
        if self.state in _OVER:
            return
        self._state.enter(state)
        self._clock.remove(self)
        self._resume_window.close_window()
        if self._line is not None and state is LegState.MOVED:
            self._line.close(_SERVICE_RESTART, reason)
        elif self._line is not None and (state is LegState.CLOSED or words is not None):
            self._line.leave(self._clock, reason, words)
        elif self._line is not None:
            self._line.hang_up(reason)
        self._on_closed(self)
        self._owner.leg_closed(reason, error)
        self.audio.clear(0.0)  # it may hold minutes of an answer that nobody will hear
