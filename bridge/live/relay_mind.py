"""A service that speaks Live as the mind of a Live call: events pass value for value, but for the session's id."""

from collections.abc import Callable
from typing import Any

from bridge.errors import Forbidden
from bridge.live.audience import LiveAudience
from bridge.live.connection import LiveConnection
from bridge.live.hosted_tools import refuse_hosted_tools
from bridge.live.timeline import Timeline
from bridge.session.contracts import LivePassage
from bridge.wire.live.client_events import LiveMessage
from bridge.wire.live.server_events import LiveClosed, LiveStarted, LiveUsage
from bridge.wire.server_events import Body, ServerEvent

__all__ = ["RelayMind"]

_WORKING = ("responses", "decisions")
"""Kinds of delegation that name a model."""

_USAGE = "session.usage.updated"


class RelayMind:
    """See the module; a ``LiveMind``. Clients know the session by ``call_id``.

    ``on_activity`` is called whenever the service says something of the conversation, so that a call in which it speaks
    is not ended as idle.
    """

    def __init__(
        self,
        passage: LivePassage,
        call_id: str,
        audience: LiveAudience,
        timeline: Timeline,
        *,
        on_activity: Callable[[], None],
    ) -> None:
        self._passage = passage
        self._call_id = call_id
        self._audience = audience
        self._timeline = timeline
        self._on_activity = on_activity
        self._session: Body = {}
        self._is_closed = False

    def start(self) -> None:
        """Begins to hear the service."""
        self._passage.tell(self._hear)

    def receive_client_message(self, connection: LiveConnection, message: LiveMessage) -> None:
        """Passes an event on, value for value; raises ``Forbidden`` for what its key may not choose."""
        if not connection.may_choose_model:
            refuse_hosted_tools(message.body)
            if message.type == "session.update":
                self._require_same_models(message.body.get("session"))
        self._passage.receive_live_client_event(message.body)

    def _require_same_models(self, update: Any) -> None:
        for name in _WORKING:
            wanted = _working_model(update, name)
            if wanted is not None and wanted != _working_model(self._session, name):
                raise Forbidden("This key may not choose the model.", param=f"session.delegation.{name}.model")

    def follow(self, event: ServerEvent) -> None:
        """Does nothing, because the service tells Live clients itself."""

    def greet(self, connection: LiveConnection) -> None:
        """Tells the session as the service said it last."""
        self._audience.tell(LiveStarted(session=self._session), only=connection)

    def spoken(self, words: str, at_ms: int) -> None:
        """Does nothing, because the service tells what it says."""

    def spend(self) -> None:
        """Does nothing, because the service tells what it costs."""

    def close(self, reason: str) -> None:
        """Hears no more. If the call ends before the service has said so, its end is told here."""
        self._passage.tell(None)
        if not self._is_closed and self._timeline.is_started:
            usage = LiveUsage(seconds=self._timeline.seconds)
            self._audience.tell(LiveClosed(reason=reason, session=self._session, usage=usage))

    def _hear(self, body: Body) -> None:
        """Passes on what the service says, with the call's id in the place of the service's own."""
        session = body.get("session")
        if isinstance(session, dict) and "id" in session:
            self._session = {**session, "id": self._call_id}
            body = {**body, "session": self._session}
        if "session_id" in body:
            body = {**body, "session_id": self._call_id}
        self._is_closed = self._is_closed or body.get("type") == "session.closed"
        if body.get("type") == "session.started":
            self._timeline.start()
        if body.get("type") != _USAGE:  # it comes by the clock
            self._on_activity()
        self._audience.tell_as_it_is(body)


def _working_model(session: Any, kind: str) -> Any:
    """Returns the model that a session names for this kind of delegation; None if it names none."""
    for name in ("delegation", kind, "model"):
        session = session.get(name) if isinstance(session, dict) else None
    return session
