"""The session's configuration on the lines of one call: how a line is set, and what clients hear of it.

    greeting ──session.updated, refused, or nothing to ask──▶ live

Clients hear ``session.created`` once, when the first line is set as the call was opened. Each further line is set as
the last one was; what it answers is passed on, unless clients are not to notice that the line was replaced.
"""

from collections import deque
from enum import StrEnum

import msgspec
from structlog.typing import FilteringBoundLogger

from bridge.session.contracts import Downstream
from bridge.session.state import SessionState
from bridge.state_machine import StateMachine
from bridge.upstream.managed_line import SESSION_EXPIRED
from bridge.wire import server_events as server
from bridge.wire.ids import new_id
from bridge.wire.relayed import understood
from bridge.wire.server_events import Body

__all__ = ["BridgeEvents", "GreetingState", "LineSession"]

_MAX_OWN_IDS = 4096  # events of the bridge that a line may still complain of; all items of a conversation and more
_READ_ONLY = ("id", "object", "expires_at", "model", "client_secret")


class BridgeEvents:
    """Remembers the client events that the bridge sent itself: no client hears of an error in one of them."""

    def __init__(self) -> None:
        self._ids: deque[str] = deque(maxlen=_MAX_OWN_IDS)

    def new_id(self) -> str:
        """Makes an id for an event of the bridge."""
        event_id = new_id("event")
        self._ids.append(event_id)
        return event_id

    def __contains__(self, event_id: str | None) -> bool:
        return event_id in self._ids


class GreetingState(StrEnum):
    """Whether clients have heard ``session.created``."""

    GREETING = "greeting"
    LIVE = "live"


_TRANSITIONS = {
    GreetingState.GREETING: frozenset({GreetingState.LIVE}),
    GreetingState.LIVE: frozenset[GreetingState](),
}


class LineSession:
    """See the module."""

    def __init__(
        self,
        downstream: Downstream,
        state: SessionState,
        own: BridgeEvents,
        *,
        log: FilteringBoundLogger,
        is_translation: bool = False,
    ) -> None:
        """A translation's session takes no ``type`` in an update."""
        self._downstream = downstream
        self._state = state
        self._own = own
        self._log = log
        self._is_translation = is_translation
        self._greeting = StateMachine(
            "greeting", GreetingState.GREETING, _TRANSITIONS, log=log, event="upstream.greeting"
        )
        self._session: Body = {}
        """The configuration as an upstream said it last, with fields that the bridge does not know."""
        self._created: Body = {}
        """What the present line's service said of the session before the bridge asked for anything."""
        self._quiet_updates = 0
        """How many answers are still to come that say nothing new."""
        self._update_id = ""
        """The id of the bridge's own ``session.update``, with which every line begins."""

    @property
    def is_live(self) -> bool:
        """Whether clients have heard ``session.created``."""
        return self._greeting.state is GreetingState.LIVE

    def greet(self, created: Body) -> Body | None:
        """The update that asks the first line for what the session was opened with; None if that is nothing.

        ``created`` is what the line's service has said of the session.
        """
        self._session = self._created = created
        wanted = self._writable(self._state.wanted)
        if wanted:
            return self._update(wanted if self._is_translation else {"type": "realtime", **wanted})
        self._go_live()
        return None

    def brief(self, created: Body, *, is_renewal: bool) -> Body:
        """The update that sets a further line as the last one was.

        Clients do not hear of the answer if ``is_renewal``.
        """
        self._created = created
        self._quiet_updates = int(is_renewal)
        return self._update(self._writable(self._session))

    def is_update(self, event_id: str | None) -> bool:
        """Whether this is the id of the bridge's own update of the present line."""
        return event_id is not None and event_id == self._update_id

    def hear_update(self, body: Body) -> None:
        """Takes a ``session.updated``, as the upstream wrote it."""
        self._session = body["session"]
        if not self.is_live:
            self._go_live()
        elif self._quiet_updates:
            self._quiet_updates -= 1
        else:
            body["session"] = self._as_ours(body["session"])
            self._downstream.deliver_event(understood(body), body)

    def hear_refusal(self, event: server.Error, body: Body) -> None:
        """Takes a refusal of the update; returns what clients are told of it, and of the configuration that counts."""
        event.error.event_id = body["error"]["event_id"] = None
        if not self.is_live:
            self._go_live()
            self._downstream.deliver_event(event, body)
            return
        self._quiet_updates = 0
        self._downstream.deliver_event(event, body)
        self.hear_update({"type": "session.updated", "event_id": "", "session": self._created})

    def hear_error(self, event: server.Error, body: Body) -> None:
        """Tells an error to the client that made it; if that was the bridge itself, to the log."""
        error = event.error
        body["error"] = {**msgspec.to_builtins(error), **body["error"]}  # with all that clients may count on
        if error.code == SESSION_EXPIRED:
            return  # the service's own limit, of which the line knows; the session outlives it
        if self.is_update(error.event_id) or (error.event_id is None and not self.is_live):
            self.hear_refusal(event, body)
        elif error.event_id in self._own:
            self._log.info("upstream.own_event_refused", code=error.code, message=error.message)
        else:
            self._downstream.deliver_event(event, body)

    def _update(self, session: Body) -> Body:
        self._update_id = self._own.new_id()
        return {"type": "session.update", "event_id": self._update_id, "session": session}

    def _go_live(self) -> None:
        self._greeting.enter(GreetingState.LIVE)
        body = {"type": "session.created", "session": self._as_ours(self._session)}
        event = understood(body)
        if isinstance(event, server.SessionCreated):
            self._downstream.deliver_event(event, body)
        else:
            self._downstream.deliver_event(server.SessionCreated(session=self._state.config))

    def _as_ours(self, session: Body) -> Body:
        """The upstream's session with the id and the expiry of the bridge's session."""
        config = self._state.config
        return {**session, "id": config.id, "expires_at": config.expires_at}

    def _writable(self, session: Body) -> Body:
        """The configuration without the fields that only a service sets."""
        fixed = (*_READ_ONLY, "type") if self._is_translation else _READ_ONLY
        return {name: value for name, value in session.items() if name not in fixed}
