"""What happens to calls (which begin and end, and what is recorded of them), for those who follow all calls."""

from typing import Protocol

from bridge.log import get_logger
from bridge.media.contracts import Sink
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.hub import Hub
from bridge.session.fanout.listener import Listener
from bridge.session.fanout.subscription import EventConsumer, EventSubscription
from bridge.wire.choices import Choices
from bridge.wire.ids import new_id
from bridge.wire.own_events import CallsRunning
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import CallStats, ListenerRole

__all__ = ["EventBus", "LocalEventBus"]

_log = get_logger("registry")


class EventBus(Protocol):
    """Carries events of calls, perhaps between processes; nothing here waits."""

    def publish(self, event: ServerEvent) -> None:
        """Tells an event to everybody."""
        ...

    def subscribe(self, consumer: EventConsumer) -> None:
        """Tells the consumer of calls from now on, for as long as the bus lives."""
        ...

    def require_known(self, choices: Choices) -> None:
        """Raises ``ResumeGap`` or ``BadRequest`` if a watcher cannot go on after ``choices.after``."""
        ...

    def watch(self, sink: Sink, choices: Choices, running: list[CallStats]) -> Listener:
        """Adds a socket that hears of calls: first of those that are ``running``, or what came after ``choices.after``.

        Raises what ``require_known`` does.
        """
        ...

    def answer(self, watcher: Listener, event: ServerEvent) -> None:
        """Tells an event to one watcher alone."""
        ...

    def leave(self, watcher: Listener) -> None:
        """Notes that the watcher's socket is gone; may be called twice."""
        ...

    def apply(self, limits: Limits) -> None:
        """Sets the limits of new watchers; what is kept of calls for those that come back stays as it is."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Says goodbye to all watchers."""
        ...


class LocalEventBus:
    """The ``EventBus`` of one process."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        """How far a new watcher may be behind."""
        self._hub = Hub(new_id("calls"), replay_bytes=limits.replay_bytes)

    def apply(self, limits: Limits) -> None:
        """See ``EventBus``."""
        self.limits = limits

    def publish(self, event: ServerEvent) -> None:
        """See ``EventBus``."""
        self._hub.publish(event)

    def subscribe(self, consumer: EventConsumer) -> None:
        """See ``EventBus``."""
        self._hub.subscriptions.append(EventSubscription(consumer, log=_log))

    def require_known(self, choices: Choices) -> None:
        """See ``EventBus``."""
        self._hub.require(choices)

    def watch(self, sink: Sink, choices: Choices, running: list[CallStats]) -> Listener:
        """See ``EventBus``."""
        watcher = Listener(sink, role=ListenerRole.OBSERVER, limits=self.limits, choices=choices)
        if choices.after is None:
            self._hub.tell(watcher, CallsRunning(calls=running))
        else:
            self._hub.resume(watcher, choices.after)
        self._hub.add_listener(watcher)
        return watcher

    def answer(self, watcher: Listener, event: ServerEvent) -> None:
        """See ``EventBus``."""
        self._hub.tell(watcher, event)

    def leave(self, watcher: Listener) -> None:
        """See ``EventBus``."""
        watcher.close(1000, "")
        self._hub.remove(watcher)

    def close(self, code: int, reason: str) -> None:
        """See ``EventBus``."""
        for watcher in tuple(self._hub.listeners):
            watcher.close(code, reason)
