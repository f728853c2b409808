"""Live events that pass between a Live service and the call's Live clients as they are, but for what only we know.

A session that was forked in mid-call is still the clients' one session: times and usage go on where they were.
"""

from collections.abc import Callable
from typing import Any

from bridge.upstream.early import Early
from bridge.upstream.live.start import LiveStart
from bridge.wire.ids import new_id
from bridge.wire.server_events import Body

__all__ = ["PassedEvents"]

_TIMES = ("start_ms", "end_ms", "offset_ms")
_SECONDS = ("seconds", "active_seconds", "paused_seconds")


class PassedEvents:
    """What the service says, on its way to the clients; ``start`` is what they have asked for."""

    def __init__(self, start: LiveStart) -> None:
        self.session_id = ""
        """The service's id of the present session."""
        self.is_stored = False
        """Whether the service keeps the session, so that it can be forked."""
        self.usage: Body = {"seconds": 0}
        """What the service has reported last, over all of the call's sessions."""
        self._start = start
        self._resource: Body = {}
        self._offset_ms = 0
        self._usage_before: Body = {}
        self._taker: Callable[[Body], None] | None = None
        self._has_taker = False
        self._early: Early[Body] = Early()

    def tell(self, taker: Callable[[Body], None] | None) -> None:
        """From now on ``taker`` gets each event; the first one gets what came before as well."""
        self._taker = taker
        if taker is not None and not self._has_taker:
            self._has_taker = True
            for body in self._early.take_early():
                taker(body)

    def pass_event(self, body: Body) -> None:
        """Takes an event of the service, and passes it on."""
        session = body.get("session")
        if isinstance(session, dict):
            self._follow(session)
            body = {**body, "session": self._start.as_shown(session)}
        usage = body.get("usage")
        if isinstance(usage, dict):
            self.usage = {**usage, **_sums(self._usage_before, usage)}
            body = {**body, "usage": self.usage}
        if self._offset_ms:
            body = {
                **body,
                **{name: body[name] + self._offset_ms for name in _TIMES if isinstance(body.get(name), int)},
            }
        self.say(body)

    def say(self, body: Body) -> None:
        """Passes an event on as it is: one that the bridge says itself, or a refusal."""
        if self._taker is not None:
            self._taker(body)
        elif not self._has_taker:
            self._early.keep_early(body)

    def go_on(self, started: Body, heard_ms: int) -> None:
        """Notes that another session has taken over after ``heard_ms`` of model time; clients hear an ``info``."""
        self._offset_ms, self._usage_before = heard_ms, self.usage
        self._follow(started["session"])
        self.say(
            {
                "type": "info",
                "event_id": new_id("event"),
                "code": "session_restored",
                "message": "The connection to the model was lost; a fork of the stored session continues.",
            }
        )

    def lose(self, code: str, message: str) -> None:
        """Tells that the session is lost: an ``error``, then the ``session.closed`` that the service did not say."""
        error = {"type": "server_error", "code": code, "message": message, "param": None}
        self.say({"type": "error", "event_id": new_id("event"), "error": error})
        self.say(
            {
                "type": "session.closed",
                "event_id": new_id("event"),
                "reason": "connection_lost",
                "session": self._start.as_shown(self._resource),
                "usage": self.usage,
            }
        )

    def _follow(self, session: Body) -> None:
        self._resource = session
        self.session_id = str(session.get("id") or self.session_id)
        self.is_stored = session.get("store") is True


def _sums(before: Body, usage: Body) -> Body:
    sums: dict[str, Any] = {}
    for name in _SECONDS:
        had, has = before.get(name), usage.get(name)
        if isinstance(had, int | float) and isinstance(has, int | float):
            sums[name] = had + has
    return sums
