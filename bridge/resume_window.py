"""The time in which who is the call may come back after its connection broke: an owner's socket, a WebRTC peer."""

import asyncio
import hmac
import secrets
from collections.abc import Callable

from bridge.errors import Forbidden

__all__ = ["ResumeWindow"]


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
