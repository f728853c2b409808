"""Follows one call for the metrics: how long answers take, when the connection is lost, and what grew in its stats."""

from collections.abc import Callable

from bridge.session.fanout.subscription import TrackName
from bridge.wire import server_events as server
from bridge.wire.audio import AudioFormat
from bridge.wire.own_events import CallLost, CallResumed
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import CallStats, ListenerStats

__all__ = ["CallMeter"]


class CallMeter:
    """A ``Consumer`` of one call's events, without its sound.

    An answer is heard when its first sound is played. A client that plays for itself (``is_played_here`` is False) does
    not say when that is. Then the answer counts as heard when its first word was sent, or, if it has none, when all of
    its sound was sent.
    """

    def __init__(
        self,
        read: Callable[[], CallStats],
        *,
        clock: Callable[[], float],
        is_played_here: bool,
        on_first_sound: Callable[[float], object],
        on_answered: Callable[[str, float], object],
        on_lost: Callable[[], object],
        on_resumed: Callable[[], object],
    ) -> None:
        """Follows the call that ``read`` reads.

        ``on_first_sound`` gets the age of the call in seconds, and ``on_answered`` the name of the upstream that
        answered, and after how many seconds.
        """
        self.read = read
        """Returns the call's figures as they are now."""
        self._clock = clock
        self._began = clock()
        self._is_played_here = is_played_here
        self._on_first_sound: Callable[[float], object] | None = on_first_sound
        self._on_answered = on_answered
        self._on_lost = on_lost
        self._on_resumed = on_resumed
        self._spoke_until: float | None = None
        self._seen: dict[str, int] = {}

    def grown(self, name: str, value: int) -> int:
        """Returns how much the figure ``name`` has grown since the last call of this method.

        A figure that shrank has begun at zero again.
        """
        before = self._seen.get(name, 0)
        self._seen[name] = value
        return value - before if value >= before else value

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Looks at the few events that matter to the metrics."""
        match event:
            case server.InputAudioBufferSpeechStopped():
                self._spoke_until = self._clock()
            case server.InputAudioBufferSpeechStarted():
                self._spoke_until = None
            case server.OutputAudioBufferStarted() if self._is_played_here:
                self._hear()
            case server.OutputAudioTranscriptDelta() | server.OutputAudioDone() if not self._is_played_here:
                self._hear()
            case CallLost():
                self._on_lost()
            case CallResumed():
                self._on_resumed()

    def sound(self, track: TrackName, audio_format: AudioFormat, pcm: bytes, timestamp: int) -> None:
        """Does nothing, because this consumer asks for no sound."""

    def ended(self, error: Exception | None) -> None:
        """Does nothing, because followers of all calls are told when a call closes."""

    def listed(self) -> ListenerStats | None:
        """Returns None, because this is no listener."""
        return None

    def _hear(self) -> None:
        now = self._clock()
        if self._on_first_sound is not None:
            self._on_first_sound(now - self._began)
            self._on_first_sound = None
        if self._spoke_until is not None:
            self._on_answered(self.read().upstream.name, now - self._spoke_until)
            self._spoke_until = None
