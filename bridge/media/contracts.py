"""What a bearer of sound is, and whom it reports to: the contracts between a call and its legs, sinks and passages."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from bridge.errors import BridgeError
from bridge.media.passing import PacketReader, PassedPacket, PassedPacketTaker
from bridge.media.playback import Heard, Part, Played
from bridge.wire.audio import AudioFormat
from bridge.wire.message import EncodedMessage
from bridge.wire.stats import LegStats

__all__ = [
    "Leg",
    "LegOwner",
    "PassingLeg",
    "PassingUpstream",
    "PhoneOwner",
    "ReferringLeg",
    "Sink",
    "SinkOwner",
]


class SinkOwner(Protocol):
    """Who writes into a sink: told when to wait and when to go on."""

    def pause(self) -> None:
        """The sink holds as much as it should."""
        ...

    def resume(self) -> None:
        """The sink has room again."""
        ...


class Sink(Protocol):
    """Where one listener's messages go: a WebSocket, a data channel. Never waits, never raises."""

    def attach(self, owner: SinkOwner) -> None:
        """From now on ``owner`` is told of the sink's state."""
        ...

    def send(self, message: EncodedMessage) -> None:
        """Takes a message."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Closes with a WebSocket close code, within a bounded time; may be called twice."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """How much has been taken and not yet left the process."""
        ...


class Leg(Protocol):
    """One bearer of sound, with the bridge doing the playing."""

    @property
    def passage(self) -> "PassingLeg | None":
        """What passes Opus on as it is; None if the leg's sound is not Opus. It does not change."""
        ...

    @property
    def input_format(self) -> AudioFormat:
        """In which the caller's sound comes from it; it does not change."""
        ...

    @property
    def output_format(self) -> AudioFormat:
        """In which the answer's sound goes to it; it does not change."""
        ...

    def play(self, part: Part, sound: bytes) -> bool:
        """Queues sound, at any speed; False if that was too much, and none of it is heard."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """About how much memory that takes which is still to be heard."""
        ...

    def end(self, response_id: str) -> None:
        """No more sound of this response will come."""
        ...

    def clear(self) -> tuple[str, list[Heard]] | None:
        """Stops at once; the response that was cut and what had been heard of its parts."""
        ...

    def mark(self, mark_id: str) -> bool:
        """Sets a mark behind all that is queued: ``LegOwner.played`` says when it is reached; ``clear`` takes it away.

        True if nothing is left to play.
        """
        ...

    def hang_up(self, reason: str) -> None:
        """Begins to close the leg; ``LegOwner.leg_closed`` follows."""
        ...

    @property
    def failure(self) -> BridgeError | None:
        """What makes the call a failure even if it ends as somebody wished; None if all is well."""
        ...

    def stats(self) -> LegStats:
        """Its figures, in the form of its kind of leg."""
        ...


@runtime_checkable
class ReferringLeg(Protocol):
    """A leg whose carrier may be able to transfer its call."""

    async def refer(self, target_uri: str) -> None:
        """Has the carrier transfer the call, and ends the leg; raises ``BridgeError`` if it is not transferred."""
        ...


class PassingLeg(Protocol):
    """A leg between whose packets and an upstream's Opus passes as it is."""

    def pass_to(self, taker: PassedPacketTaker | None, *, decodes: bool) -> None:
        """The caller's packets go to ``taker``; its sound is reported only with ``decodes``."""
        ...

    def read_packets(self, reader: PacketReader | None) -> None:
        """The caller's packets go to ``reader`` as well, in order, and before they are decoded."""
        ...

    def forward(self, part: Part | None, passed: PassedPacket) -> bool:
        """An answer's packet, to be heard at once; False if it cannot be."""
        ...


class PassingUpstream(Protocol):
    """An upstream between whose packets and a leg's Opus passes as it is."""

    def forward(self, passed: PassedPacket) -> bool:
        """The caller's packet; False if it cannot be sent."""
        ...

    def pass_answers_to(
        self,
        taker: Callable[[Part, PassedPacket], bool] | None,
        *,
        decodes: bool,
        reader: Callable[[Part, PassedPacket], None] | None = None,
    ) -> None:
        """Answers' packets go to ``taker``; their sound is delivered only with ``decodes``, or if it says False.

        Those that are passed go to ``reader`` as well, in order, and before they are decoded.
        """
        ...


class LegOwner(Protocol):
    """What a leg reports to."""

    def leg_connected(self) -> None:
        """Sound can flow."""
        ...

    def receive_leg_audio(self, sound: bytes) -> None:
        """The caller's sound as it becomes due, in the leg's format."""
        ...

    def channel_opened(self, sink: Sink) -> None:
        """The leg has a channel for events."""
        ...

    def receive_leg_text(self, text: str) -> None:
        """A client event came over that channel."""
        ...

    def played(self, event: Played) -> None:
        """A response begins or ceases to be heard, or a mark is reached."""
        ...

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """The leg is gone; ``reason`` is a slug, ``error`` is set if that was nobody's wish."""
        ...


class PhoneOwner(LegOwner, Protocol):
    """What a telephone's leg reports to."""

    def receive_dtmf(self, key: str) -> None:
        """The caller pressed a key."""
        ...
