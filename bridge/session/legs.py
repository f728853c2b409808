"""What brings a call's sound and plays its answers: its leg, and the one that is about to take that one's place.

Each leg reports to a port. ``TRANSITIONS`` is the table of its states; docs/internals/call-states.md has the picture.
"""

from enum import StrEnum
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, PeerLost
from bridge.media.contracts import Leg, Sink
from bridge.media.playback import Played
from bridge.session.audience import Audience
from bridge.session.audio_router import AudioRouter
from bridge.session.fanout.listener import Listener
from bridge.session.info import CallInfo
from bridge.session.lifetime import CallLifetime
from bridge.session.playback_controller import PlaybackController
from bridge.state_machine import StateMachine

__all__ = ["TRANSITIONS", "LegPort", "LegPortState", "Legs", "LegsOwner"]


class LegsOwner(Protocol):
    """The session, as the legs of a call see it."""

    def receive_client_text(self, listener: Listener, text: str) -> None:
        """A client event came over the leg's data channel."""
        ...

    def receive_dtmf(self, key: str) -> None:
        """The caller pressed a key."""
        ...

    def give_up(self) -> None:
        """Ends the call, because nobody has come back and nobody will."""
        ...

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """Ends the call, because its leg is gone."""
        ...


class LegPortState(StrEnum):
    """How much of a leg reaches its call."""

    CONNECTING = "connecting"
    """Only that it is connected or gone. Another leg may be the call's."""
    CURRENT = "current"
    """Everything reaches the call."""
    HANGING_UP = "hanging_up"
    """Only that it is gone reaches the call."""
    GONE = "gone"


_CONNECTING, _CURRENT, _HANGING_UP, _GONE = LegPortState
TRANSITIONS = {
    _CONNECTING: {_CURRENT, _GONE},
    _CURRENT: {_HANGING_UP, _GONE},
    _HANGING_UP: {_GONE},
    _GONE: set[LegPortState](),
}


class LegPort:
    """Between one leg and its call: of two legs only one is the call's, and nothing of the other passes.

    A port is a ``LegOwner`` and a ``PhoneOwner``. The call waits for a lost leg only if it ``may_come_back``. If it
    ``may_move``, whoever is at its other end connects again, to this process or to another one, if it is closed.
    """

    def __init__(
        self, legs: "Legs", router: AudioRouter, *, may_come_back: bool, may_move: bool, log: FilteringBoundLogger
    ) -> None:
        self.leg: Leg | None = None
        self.after: str | None = None
        """The id of the event behind which its data channel goes on."""
        self.may_come_back = may_come_back
        self.may_move = may_move
        self._legs = legs
        self._router = router
        self._machine = StateMachine("leg", _CONNECTING, TRANSITIONS, log=log)

    @property
    def state(self) -> LegPortState:
        """How much of the leg reaches the call."""
        return self._machine.state

    def enter(self, state: LegPortState) -> None:
        """Enters a state; ``Legs`` calls this."""
        self._machine.enter(state)

    def leg_connected(self) -> None:
        """Sound can flow."""
        self._legs.connected(self)

    def receive_leg_audio(self, sound: bytes) -> None:
        """The caller's sound."""
        if self._machine.state is _CURRENT:
            self._router.receive_caller_audio(sound)

    def channel_opened(self, sink: Sink) -> None:
        """The leg has opened its data channel for events."""
        if self._machine.state in (_CURRENT, _HANGING_UP):
            self._legs.channel_opened(self, sink)

    def receive_leg_text(self, text: str) -> None:
        """A client event came over that channel."""
        if self._machine.state is _CURRENT:
            self._legs.receive_text(text)

    def receive_dtmf(self, key: str) -> None:
        """The caller pressed a key."""
        if self._machine.state is _CURRENT:
            self._legs.receive_dtmf(key)

    def played(self, event: Played) -> None:
        """Takes an event of the leg's ledger: a response starts or stops being heard, or a mark is reached."""
        if self._machine.state is _CURRENT:
            self._legs.played(event)

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """The leg is gone. ``Legs`` decides whether the call ends."""
        self._legs.closed(self, reason, error)


class Legs:
    """See the module. A call may have no leg: its owner's socket is the call then."""

    def __init__(
        self,
        call: LegsOwner,
        info: CallInfo,
        *,
        lifetime: CallLifetime,
        audience: Audience,
        router: AudioRouter,
        playback: PlaybackController,
        log: FilteringBoundLogger,
    ) -> None:
        self._call = call
        self._info = info
        self._lifetime = lifetime
        self._audience = audience
        self._router = router
        self._playback = playback
        self._log = log
        self._current: LegPort | None = None
        self._next: LegPort | None = None
        """The port of a leg that has not connected yet, and is to take the place of the present one."""

    @property
    def current(self) -> Leg | None:
        """The call's leg; if it has none now, the last one that it had."""
        return None if self._current is None else self._current.leg

    @property
    def all(self) -> list[Leg]:
        """The call's leg, and the leg that is about to take its place."""
        return [port.leg for port in (self._current, self._next) if port is not None and port.leg is not None]

    @property
    def is_connecting(self) -> bool:
        """Whether a leg is about to take the place of the present one."""
        return self._next is not None

    @property
    def may_move(self) -> bool:
        """Whether whoever is at the other end of the leg would connect again elsewhere; so would an owner's socket."""
        return self._current is None or self._current.may_move

    def new_port(self, *, may_come_back: bool = True, may_move: bool = True) -> LegPort:
        """Makes the port that a new leg reports to."""
        return LegPort(self, self._router, may_come_back=may_come_back, may_move=may_move, log=self._log)

    def connect_leg(self, leg: Leg, port: LegPort, *, after: str | None = None) -> None:
        """The leg for ``port``: the call's first one, or one that takes the place of the present one if it connects.

        Its data channel goes on behind the event ``after``. If it never connects, nothing has changed.
        """
        port.leg, port.after = leg, after
        if self._current is None:
            self._make_current(port, leg)
            return
        before, self._next = self._next, port
        if before is not None and before.leg is not None:
            before.leg.hang_up("resumed")

    def decode_always(self, does: bool) -> None:
        """Whether the legs' sound is decoded although it could be passed on, so that whoever watches may change it."""
        self._router.decode_always(does)

    def hang_up(self, reason: str) -> bool:
        """The call ends; True if ``LegsOwner.leg_closed`` follows, or has been called already."""
        if self._next is not None and self._next.leg is not None:
            self._next.leg.hang_up(reason)
        port = self._current
        if port is None or port.leg is None or port.state is not _CURRENT:
            return False
        port.enter(_HANGING_UP)
        port.leg.hang_up(reason)
        return True

    # From the ports

    def connected(self, port: LegPort) -> None:
        """Makes this leg the call's. What the last leg had not played is cut off, and the upstream is told where."""
        if port is self._next and port.leg is not None:
            before, self._next = self._current, None
            self._lifetime.come_back()
            self._playback.clear()
            if before is not None:
                self._drop(before)
                if before.leg is not None:
                    before.leg.hang_up("resumed")
            self._make_current(port, port.leg)
        if port.state is _CURRENT:
            self._lifetime.come_back()  # to another process than the one that lost it
            self._lifetime.connect(self._info.transport)

    def channel_opened(self, port: LegPort, sink: Sink) -> None:
        """Makes the leg's data channel a listener without sound; a later channel takes the place of the first."""
        after, port.after = port.after, None
        self._audience.attach_channel(sink, self._info.dialect, after)

    def receive_text(self, text: str) -> None:
        """Takes a client event that came over the data channel."""
        if self._audience.channel is not None:
            self._call.receive_client_text(self._audience.channel, text)

    def receive_dtmf(self, key: str) -> None:
        """The caller pressed a key."""
        self._call.receive_dtmf(key)

    def played(self, event: Played) -> None:
        """Takes what the ledger says of what the caller has heard."""
        self._lifetime.touch()
        self._playback.played(event)

    def closed(self, port: LegPort, reason: str, error: BridgeError | None) -> None:
        """Waits for the caller if the leg was lost. If it hung up, the call ends, unless another leg is connecting."""
        if port is self._next:
            self._next = None
            port.enter(_GONE)
            self._log.info("call.resume_failed", reason=reason)
            if self._lifetime.is_last_chance:
                self._call.give_up()
        elif port is not self._current or port.state is _GONE:
            return
        elif self._lifetime.window.is_awaited:  # it was the first one here of a call that another process had
            self._current = None
            port.enter(_GONE)
            self._log.info("call.resume_failed", reason=reason)
        elif self._next is not None and self._lifetime.is_open:
            self._lifetime.replace(reason, error)
            self._lose(port)
        elif self._is_waited_for(port, error) and self._lifetime.lose(reason, error):
            self._lose(port)
        else:
            port.enter(_GONE)
            self._call.leg_closed(reason, error)

    def _is_waited_for(self, port: LegPort, error: BridgeError | None) -> bool:
        return port.may_come_back and isinstance(error, PeerLost) and self._audience.is_live

    def _lose(self, port: LegPort) -> None:
        self._playback.clear()
        self._drop(port)

    def _drop(self, port: LegPort) -> None:
        """Lets nothing of this leg through any more."""
        if port.state is not _GONE:
            port.enter(_GONE)
        self._audience.leave_channel()

    def _make_current(self, port: LegPort, leg: Leg) -> None:
        self._current = port
        port.enter(_CURRENT)
        self._playback.leg = leg
        self._router.attach_leg(leg)
