"""Those inside the process who follow a call: they get events and sound as what they are, and encode what they need.

A socket is no consumer: it is a ``Listener``, for which texts and frames are made once and shared.
"""

from collections.abc import Callable, Collection
from typing import Literal, Protocol, get_args

from structlog.typing import FilteringBoundLogger

from bridge.wire.audio import AudioFormat
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import ListenerStats

__all__ = ["Consumer", "EventConsumer", "EventSubscription", "Subscription", "TRACK_NAMES", "TrackName"]

TrackName = Literal["input", "output"]
TRACK_NAMES: tuple[TrackName, ...] = get_args(TrackName)


class Consumer(Protocol):
    """Whoever subscribes to a call.

    Every method returns at once; what it cannot do yet, it keeps within its own bounds.
    """

    def event(self, event: ServerEvent, text: bytes) -> None:
        """What every listener is told, the bridge's own events included.

        ``text`` is the event as GA's JSON with all that the upstream said in it, made once for whoever wants it.
        """
        ...

    def sound(self, track: TrackName, audio_format: AudioFormat, pcm: bytes, timestamp: int) -> None:
        """A piece of a track: ``timestamp`` samples of it came before. The caller's comes live, an answer's faster."""
        ...

    def ended(self, error: Exception | None) -> None:
        """Nothing follows: the call is over, or ``error`` is what the consumer itself has raised."""
        ...

    def listed(self) -> ListenerStats | None:
        """Its entry among the call's listeners; None if it is not listed."""
        ...


class EventConsumer(Protocol):
    """Whoever follows all calls: which begin and end, and what is recorded of them. It returns at once."""

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Takes an event of ``WS /v1/calls/events``. If this raises, the consumer loses this event and no other."""
        ...


class Subscription:
    """A consumer's place in one call. ``audio_format`` of None wants no sound."""

    def __init__(
        self,
        consumer: Consumer,
        audio_format: AudioFormat | None = None,
        *,
        tracks: Collection[TrackName] = TRACK_NAMES,
        on_cancel: Callable[["Subscription"], None],
        log: FilteringBoundLogger,
    ) -> None:
        """``tracks`` are those that it wants the sound of."""
        self.audio_format = audio_format
        self.tracks = tracks
        self._consumer = consumer
        self._on_cancel = on_cancel
        self._log = log
        self._is_over = False

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Hands an event on; a consumer that fails costs nobody but itself."""
        if not self._is_over:
            try:
                self._consumer.event(event, text)
            except Exception as error:
                self._fail(error)

    def sound(self, track: TrackName, pcm: bytes, timestamp: int) -> None:
        """Hands sound on, in ``audio_format``."""
        if not self._is_over and self.audio_format is not None:
            try:
                self._consumer.sound(track, self.audio_format, pcm, timestamp)
            except Exception as error:
                self._fail(error)

    def listed(self) -> ListenerStats | None:
        """The consumer's entry among the listeners; None if it has none."""
        return self._consumer.listed()

    def cancel(self) -> None:
        """Ends the subscription for the consumer; may be called twice."""
        if not self._is_over:
            self._is_over = True
            self._on_cancel(self)

    def end(self, error: Exception | None = None) -> None:
        """Ends the subscription, and tells the consumer so; may be called twice."""
        if self._is_over:
            return
        self.cancel()
        try:
            self._consumer.ended(error)
        except Exception as failure:
            self._log.error("session.consumer_failed", exc_info=failure)

    def _fail(self, error: Exception) -> None:
        self._log.error("session.consumer_failed", exc_info=error)
        self.end(error)


class EventSubscription:
    """The subscription of a consumer that follows all calls."""

    def __init__(self, consumer: EventConsumer, *, log: FilteringBoundLogger) -> None:
        self._consumer = consumer
        self._log = log

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Hands an event on. If the consumer fails, nobody else notices."""
        try:
            self._consumer.event(event, text)
        except Exception as error:
            self._log.error("registry.consumer_failed", exc_info=error)
