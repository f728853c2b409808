"""One connection of a Live client: what it may say, what it is told, and what waits for it if it is slow."""

from collections.abc import Collection
from typing import Any

from msgspec import UNSET

from bridge.errors import BadEvent, Forbidden
from bridge.media.contracts import Sink
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.listener import Listener
from bridge.wire.codecs.live import LIVE_CODEC
from bridge.wire.live.client_events import LiveBearer
from bridge.wire.live.sessions import DataChannel
from bridge.wire.message import EncodedMessage
from bridge.wire.stats import ListenerRole

__all__ = ["LiveConnection"]

_ROLES = {
    LiveBearer.PRIMARY: ListenerRole.OWNER,
    LiveBearer.CHANNEL: ListenerRole.PEER,
    LiveBearer.SIDEBAND: ListenerRole.CONTROLLER,
}
_SIDEBAND_ONLY = ("transport.",)
_NOT_OF_PRIMARY = frozenset({"session.paused", "session.resumed"})
_RESPONSE_EVENT = "response.event"
_CLOSE = "session.close"


class LiveConnection:
    """See the module. ``grants`` say what a page may send and hear over its data channel.

    A sideband whose ``role`` is ``OBSERVER`` sends nothing; without ``may_end`` it does not close the session. Without
    ``may_choose_model`` a service is told of no other model, and of no tools that it runs itself.
    """

    def __init__(
        self,
        sink: Sink,
        bearer: LiveBearer,
        *,
        limits: Limits,
        grants: DataChannel | None = None,
        role: ListenerRole | None = None,
        may_end: bool = True,
        may_choose_model: bool = True,
    ) -> None:
        self.bearer = bearer
        self.may_choose_model = may_choose_model
        self.listener = Listener(sink, role=role or _ROLES[bearer], limits=limits, codec=LIVE_CODEC)
        self._may_end = may_end
        is_page = bearer is LiveBearer.CHANNEL and grants is not None
        self._may_send = _sendable(grants) if is_page and grants is not None else None
        self._hears = _hearable(grants) if is_page and grants is not None else None

    @property
    def is_limited(self) -> bool:
        """Whether the session grants it some events only."""
        return self._may_send is not None or self._hears is not None

    def require_granted(self, kind: str) -> None:
        """Raises ``BadEvent`` if the session does not grant this client event to the page.

        Raises ``Forbidden`` if the key of a sideband does not allow it.
        """
        if self.listener.role is ListenerRole.OBSERVER:
            raise Forbidden("This key is for listening to the session; it cannot send events.")
        if kind == _CLOSE and not self._may_end:
            raise Forbidden(
                "This key is for attaching to the session; only the key that opened the session, or an API key, can "
                "end it."
            )
        if self._may_send is not None and kind not in self._may_send:
            raise BadEvent(
                f"The session does not allow '{kind[:64]}' on the data channel.", code="event_not_allowed", param="type"
            )

    def hears(self, kind: str, nested: str | None = None) -> bool:
        """Whether it gets the server event ``kind``; ``nested`` is the event in a ``response.event``."""
        if self.bearer is not LiveBearer.SIDEBAND and kind.startswith(_SIDEBAND_ONLY):
            return False
        if self.bearer is LiveBearer.PRIMARY and kind in _NOT_OF_PRIMARY:
            return False
        if self._hears is None or kind in ("error", "info"):
            return True
        return (kind, nested if kind == _RESPONSE_EVENT else None) in self._hears

    def send_message(self, message: EncodedMessage) -> None:
        """Sends a message, or keeps it for as long as there is room; never waits."""
        self.listener.deliver(message)


def _sendable(grants: DataChannel) -> Collection[str] | None:
    allowed = grants.allowed_client_events
    return None if allowed is UNSET or allowed is None or allowed == "all" else frozenset(allowed)


def _hearable(grants: DataChannel) -> Collection[tuple[str, Any]] | None:
    allowed = grants.allowed_server_events
    if allowed is UNSET or allowed is None or isinstance(allowed, str):
        return None
    return frozenset(
        (choice.type, None if choice.response_event is UNSET else choice.response_event) for choice in allowed
    )
