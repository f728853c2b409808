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
    """Whoever writes into a sink; it is told when to wait and when to go on."""

    def pause(self) -> None:
        """The sink holds as much as it should."""
        ...

    def resume(self) -> None:
        """The sink has room again."""
        ...


class Sink(Protocol):
    """Takes the messages for one listener: a WebSocket or a data channel. It never waits and never raises."""

    def attach(self, owner: SinkOwner) -> None:
        """From now on ``owner`` is told of the sink's state."""
        ...

    def send_message(self, message: EncodedMessage) -> None:
        """Takes a message."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Closes with a WebSocket close code, within a bounded time; may be called twice."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """How many bytes were taken and have not left the process."""
        ...


class Leg(Protocol):
    """A connection that brings the caller's sound, and on which the bridge plays the answer."""

    @property
    def passage(self) -> "PassingLeg | None":
        """The passage that passes Opus on as it is; None if the leg's sound is not Opus. It does not change."""
        ...

    @property
    def input_format(self) -> AudioFormat:
        """The format of the caller's sound; it does not change."""
        ...

    @property
    def output_format(self) -> AudioFormat:
        """The format in which it takes the answer; it does not change."""
        ...

    def play(self, part: Part, sound: bytes) -> bool:
        """Queues sound, at any speed; False if that was too much, and none of it is heard."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes of memory the sound takes that is still to be heard."""
        ...

    def end(self, response_id: str) -> None:
        """Notes that this response is complete."""
        ...

    def clear(self) -> tuple[str, list[Heard]] | None:
        """Stops at once. Returns the response that was cut, and how much was heard of each of its parts."""
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
        """Why the call counts as failed even if it ends normally; None if all is well."""
        ...

    def stats(self) -> LegStats:
        """The stats of the leg, in the form of its kind."""
        ...


@runtime_checkable
class ReferringLeg(Protocol):
    """A leg whose carrier may be able to transfer its call."""

    async def refer(self, target_uri: str) -> None:
        """Has the carrier transfer the call, and ends the leg; raises ``BridgeError`` if it is not transferred."""
        ...


class PassingLeg(Protocol):
    """A leg that can pass Opus packets to and from an upstream without decoding them."""

    def pass_to(self, taker: PassedPacketTaker | None, *, decodes: bool) -> None:
        """Passes the caller's packets to ``taker``; with ``decodes`` their sound is reported as well."""
        ...

    def read_packets(self, reader: PacketReader | None) -> None:
        """Gives the caller's packets to ``reader`` as well, in order, before they are decoded."""
        ...

    def forward(self, part: Part | None, passed: PassedPacket) -> bool:
        """Takes a packet of an answer, to be heard at once; False if that cannot be."""
        ...


class PassingUpstream(Protocol):
    """An upstream that can pass Opus packets to and from a leg without decoding them."""

    def forward(self, passed: PassedPacket) -> bool:
        """Takes a packet of the caller; False if it cannot be sent."""
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
    """The call, as a leg reports to it."""

    def leg_connected(self) -> None:
        """Sound can flow."""
        ...

    def receive_leg_audio(self, sound: bytes) -> None:
        """Takes the caller's sound as it becomes due, in the leg's format."""
        ...

    def channel_opened(self, sink: Sink) -> None:
        """Notes that the leg has a channel for events."""
        ...

    def receive_leg_text(self, text: str) -> None:
        """Takes a client event that came over that channel."""
        ...

    def played(self, event: Played) -> None:
        """Notes that a response starts or stops being heard, or that a mark is reached."""
        ...

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """Notes that the leg is gone. ``reason`` is a slug; ``error`` is set if it failed."""
        ...


class PhoneOwner(LegOwner, Protocol):
    """The call, as the leg of a telephone reports to it."""

    def receive_dtmf(self, key: str) -> None:
        """Notes that the caller pressed a key."""
        ...
