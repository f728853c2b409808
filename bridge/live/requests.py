"""Events of GA that a Live call sends for its clients, and whose they are when the session answers."""

from collections import deque
from typing import TypeVar

import msgspec

from bridge.errors import BadEvent
from bridge.session.session import Session
from bridge.wire import client_events as client
from bridge.wire.ids import new_id
from bridge.wire.live.client_events import LiveAppend
from bridge.wire.server_events import Body

__all__ = ["LiveRequests"]

_MAX_KEPT = 256
_T = TypeVar("_T")


class LiveRequests:
    """See the module. What a session never answers is forgotten when it is the oldest of many."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._askers: dict[str, str | None] = {}
        """The client's own id of each event that was sent, by the id that it has in GA."""
        self._messages: dict[str, client.ClientMessage] = {}
        self._appends: dict[str, LiveAppend] = {}
        self._updates: deque[str | None] = deque(maxlen=_MAX_KEPT)

    def message(self, body: Body, client_event_id: str | None) -> client.ClientMessage:
        """Returns a message with an id of ours; raises ``BadEvent``, without GA's names of fields, if it is none."""
        event_id = new_id("event")
        _keep(self._askers, event_id, client_event_id)
        try:
            message = client.message_of({"event_id": event_id, **body})
        except BadEvent as error:
            raise error.anew() from None
        if body["type"] == "response.create":
            _keep(self._messages, event_id, message)
        return message

    def send_live_event(self, body: Body, client_event_id: str | None, *, on_done: LiveAppend | None = None) -> None:
        """Sends an event. If it is an item for ``on_done``, ``done`` returns that as soon as the item is there."""
        message = self.message(body, client_event_id)
        item_id = body["item"].get("id") if on_done is not None else None
        if item_id is not None and on_done is not None:
            _keep(self._appends, item_id, on_done)
        if body["type"] == "session.update":
            self._updates.append(client_event_id)
        try:
            self.carry_out(message)
        except BadEvent:
            if body["type"] == "session.update":
                self._updates.pop()
            self._appends.pop(item_id or "", None)
            raise

    def carry_out(self, message: client.ClientMessage) -> None:
        """Hands a message to whoever answers; raises ``BadEvent``."""
        self._session.lifetime.touch()
        self._session.state.require_bytes(message)
        self._session.upstream.receive_client_event(message)

    def done(self, item_id: object) -> LiveAppend | None:
        """Returns the append that this item was made for, once."""
        return self._appends.pop(item_id, None) if isinstance(item_id, str) else None

    def next_update(self) -> str | None | msgspec.UnsetType:
        """Returns the client's id of the update that is answered; unset if no client has asked for one."""
        return self._updates.popleft() if self._updates else msgspec.UNSET

    def message_of(self, event_id: str | None) -> client.ClientMessage | None:
        """Returns the request for an answer that has this id in GA, once."""
        return self._messages.pop(event_id or "", None)

    def client_event_id(self, event_id: str | None) -> str | None:
        """Returns the client's own id of the event that has this id in GA."""
        return self._askers.get(event_id or "")

    def asker(self, message: client.ClientMessage) -> str | None:
        """Returns the client's own id of what this message was sent for."""
        return self.client_event_id(message.event.event_id)


def _keep(kept: dict[str, _T], key: str, value: _T) -> None:
    kept[key] = value
    if len(kept) > _MAX_KEPT:
        del kept[next(iter(kept))]
