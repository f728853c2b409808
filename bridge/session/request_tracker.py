"""Whose question an answer is for: an error, or an item that was asked for, concerns the sender of that event alone."""

from collections import deque
from dataclasses import dataclass

from bridge.session.fanout.listener import Listener
from bridge.wire import client_events as client
from bridge.wire import server_events as server
from bridge.wire.ids import new_id

__all__ = ["RequestTracker"]

_MAX_ASKED = 256  # the answer to an older event goes to everyone


@dataclass(frozen=True, slots=True)
class _Asked:
    listener: Listener
    event_id: str
    has_own_id: bool
    """True if the client gave the id. Else it is ours, and no answer shows it."""
    item_id: str | None


class RequestTracker:
    """Remembers who sent each of the last client events, until the upstream answers."""

    def __init__(self) -> None:
        self._asked: deque[_Asked] = deque(maxlen=_MAX_ASKED)

    def remember(self, listener: Listener, event: client.ClientEvent | client.OtherEvent) -> None:
        """Remembers an event that goes to the upstream. If it has no id it gets one, so that an error names it."""
        has_own_id = event.event_id is not None
        event.event_id = event.event_id or new_id("event")
        item_id = event.item_id if isinstance(event, client.ConversationItemRetrieve) else None
        self._asked.append(_Asked(listener, event.event_id, has_own_id, item_id))

    def forget_last(self) -> None:
        """Forgets the last event, because it was answered already."""
        self._asked.pop()

    def find(self, event: server.ServerEvent) -> Listener | None:
        """The only listener that ``event`` is for; None if it is for everyone."""
        for asked in self._asked:
            if isinstance(event, server.Error):
                if asked.event_id != event.error.event_id:
                    continue
                if not asked.has_own_id:
                    event.error.event_id = None
            elif not isinstance(event, server.ConversationItemRetrieved) or asked.item_id != event.item.id:
                continue
            self._asked.remove(asked)
            return asked.listener
        return None
