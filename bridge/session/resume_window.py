"""The time in which who is the call may come back after its connection broke: an owner's socket, a WebRTC peer."""

import asyncio
import hmac
import secrets
from collections.abc import Callable

from bridge.errors import BridgeError, Forbidden
from bridge.media.contracts import Leg, LegOwner, Sink
from bridge.media.playback import Played

__all__ = ["ResumeWindow", "LegPort"]


class ResumeWindow:
    """``begin`` starts the grace time; if nobody comes before it is over, ``on_over`` is called."""

    def __init__(self, grace_s: float, on_over: Callable[[], None]) -> None:
        self.key = secrets.token_urlsafe(24)
        """Whoever shows it may come back as the call's peer."""
        self.grace_s = grace_s
        self._on_over = on_over
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_possible(self) -> bool:
        """There is such a time."""
        return self.grace_s > 0

    @property
    def is_awaited(self) -> bool:
        """It is running."""
        return self._timer is not None

    def begin(self) -> None:
        """The connection broke."""
        self.end()
        self._timer = asyncio.get_running_loop().call_later(self.grace_s, self._over)

    def end(self) -> None:
        """Somebody came, or nobody is expected any more; may be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def require_key(self, key: str) -> None:
        """Raises ``Forbidden`` where it is not the call's."""
        if not self.is_possible or not hmac.compare_digest(self.key.encode(), key.encode("utf-8", "surrogatepass")):
            raise Forbidden(
                "This is not the call's resume key; it came with the call's own answer.", param="resume_key"
            )

    def _over(self) -> None:
        self._timer = None
        self._on_over()


class LegPort:
    """Between one leg and its session: of two legs only one is the call's, and nothing of the other passes.

    ``on_connected`` is called before anything of the leg passes, ``on_closed`` when it is gone.
    """

    def __init__(
        self,
        owner: LegOwner,
        *,
        on_connected: Callable[["LegPort"], None],
        on_closed: Callable[["LegPort", str, BridgeError | None], None],
    ) -> None:
        self.is_current = False
        self.leg: Leg | None = None
        self.after: str | None = None
        """The event behind which its data channel goes on."""
        self._owner = owner
        self._on_connected = on_connected
        self._on_closed = on_closed

    def leg_connected(self) -> None:
        """Sound can flow."""
        self._on_connected(self)
        if self.is_current:
            self._owner.leg_connected()

    def receive_leg_audio(self, sound: bytes) -> None:
        """The caller's sound."""
        if self.is_current:
            self._owner.receive_leg_audio(sound)

    def channel_opened(self, sink: Sink) -> None:
        """The leg has a channel for events."""
        if self.is_current:
            self._owner.channel_opened(sink)

    def receive_leg_text(self, text: str) -> None:
        """A client event came over that channel."""
        if self.is_current:
            self._owner.receive_leg_text(text)

    def played(self, event: Played) -> None:
        """The leg's ledger."""
        if self.is_current:
            self._owner.played(event)

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """The leg is gone; the session knows whether that matters."""
        self._on_closed(self, reason, error)
