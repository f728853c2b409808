"""How sound comes to a Live call: its primary WebSocket is a leg of the session, and every leg's port is watched.

A WebRTC peer or a telephone is the leg of a Live call as of any other. ``LivePort`` stands between it and the session:
it sees the caller's sound before it is muted, and takes the data channel, on which Live is spoken.
"""

from collections.abc import Callable
from typing import Protocol

from bridge.errors import BridgeError
from bridge.live.playout import LivePlayout
from bridge.media.contracts import LegOwner, PhoneOwner, Sink
from bridge.media.playback import Heard, Part, Played
from bridge.wire.audio import G711_ALAW, G711_ULAW, PCM16, AudioFormat
from bridge.wire.stats import LegStats

__all__ = ["LiveLeg", "LivePort", "PortOwner", "PortWatch"]

_SILENT_BYTE = {G711_ULAW: b"\xff", G711_ALAW: b"\xd5"}


class PortOwner(Protocol):
    """A Live call, as its port sees it."""

    @property
    def is_muted(self) -> bool:
        """Whether the model is to hear silence."""
        ...

    def heard(self, sound: bytes, audio_format: AudioFormat) -> None:
        """Notes what the caller says, before it is muted."""
        ...

    def take_channel(self, sink: Sink) -> None:
        """Takes the leg's data channel."""
        ...

    def receive_channel_text(self, text: str) -> None:
        """Takes a message that came over that channel."""
        ...


class LivePort:
    """The port of a Live call's leg, a ``PhoneOwner``; ``port`` is the session's own."""

    def __init__(self, owner: PortOwner, port: PhoneOwner) -> None:
        self.input_format: AudioFormat = PCM16
        """The format of the leg's sound; whoever makes the leg sets it."""
        self._owner = owner
        self._port = port

    def leg_connected(self) -> None:
        """Sound can flow."""
        self._port.leg_connected()

    def receive_leg_audio(self, sound: bytes) -> None:
        """Takes the caller's sound; silence of the same length goes on if the caller is muted."""
        self._owner.heard(sound, self.input_format)
        if self._owner.is_muted:
            sound = _SILENT_BYTE.get(self.input_format, b"\0") * len(sound)
        self._port.receive_leg_audio(sound)

    def channel_opened(self, sink: Sink) -> None:
        """The channel is the Live call's, and no listener of the session."""
        self._owner.take_channel(sink)

    def receive_leg_text(self, text: str) -> None:
        """A Live client event came over that channel."""
        self._owner.receive_channel_text(text)

    def receive_dtmf(self, key: str) -> None:
        """The caller pressed a key."""
        self._port.receive_dtmf(key)

    def played(self, event: Played) -> None:
        """Takes an event of the leg's ledger."""
        self._port.played(event)

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """The leg is gone."""
        self._port.leg_closed(reason, error)


PortWatch = Callable[[PhoneOwner], LivePort]
"""Puts the port of a Live call in front of the session's own."""


class LiveLeg:
    """The primary WebSocket of a Live call as a leg. What it is to play goes out in real time, at the call's ticks.

    If ``play_now`` is given, the sound is in real time already, and goes out as it comes.
    """

    passage = None
    output_format = PCM16
    failure = None

    def __init__(
        self,
        owner: LegOwner,
        playout: LivePlayout,
        audio_format: AudioFormat,
        *,
        on_hang_up: Callable[[], None],
        play_now: Callable[[bytes], None] | None = None,
    ) -> None:
        self.input_format = audio_format
        self._owner = owner
        self._playout = playout
        self._on_hang_up = on_hang_up
        self._play_now = play_now
        self._is_closed = False

    def play(self, part: Part, sound: bytes) -> bool:
        """Queues sound; False if that was too much."""
        if self._play_now is not None:
            self._play_now(sound)
            return True
        return self._playout.push(part, sound)

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes of memory the sound takes that is still to be heard."""
        return self._playout.waiting_bytes

    def end(self, response_id: str) -> None:
        """Notes that this response is complete."""
        self.report(self._playout.end(response_id))

    def clear(self) -> tuple[str, list[Heard]] | None:
        """Stops at once; returns the response that was cut, and how much was heard of each of its parts."""
        return self._playout.clear()

    def mark(self, mark_id: str) -> bool:
        """Sets a mark behind all that is queued."""
        return self._playout.playback.mark(mark_id)

    def report(self, events: list[Played]) -> None:
        """Tells the session what was played."""
        for event in events:
            self._owner.played(event)

    def lost(self, reason: str, error: BridgeError | None) -> None:
        """Notes that the socket is gone; may be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self._owner.leg_closed(reason, error)

    def hang_up(self, reason: str) -> None:
        """Ends the connection."""
        self._on_hang_up()
        self.lost(reason, None)

    def stats(self) -> LegStats:
        """Returns the counts of what was sent, and of what waits."""
        playout = self._playout
        return LegStats(
            sent=playout.frames, queued_ms=playout.playback.queued_ms, overflow_ms=playout.overflow_ms, faults=0
        )
