"""The time in which the caller may come back after a connection broke: an owner's socket or a WebRTC peer."""

import asyncio
import hmac
import secrets
from collections.abc import Callable

from bridge.errors import Forbidden

__all__ = ["ResumeWindow"]


class ResumeWindow:
    """A window in time. ``open_window`` opens it; if nobody comes before it is over, ``on_over`` is called."""

    def __init__(self, grace_s: float, on_over: Callable[[], None]) -> None:
        self.key = secrets.token_urlsafe(24)
        """The resume key: whoever shows it may come back as the call's peer."""
        self.grace_s = grace_s
        self._on_over = on_over
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_possible(self) -> bool:
        """Whether the settings give such a time."""
        return self.grace_s > 0

    @property
    def is_awaited(self) -> bool:
        """Whether the window is open."""
        return self._timer is not None

    def open_window(self) -> None:
        """Opens the window, because the connection broke."""
        self.close_window()
        self._timer = asyncio.get_running_loop().call_later(self.grace_s, self.run_out)

    def close_window(self) -> None:
        """Closes the window, because the caller came or is not expected any more; may be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def run_out(self) -> None:
        """Closes the window, because its time is over and nobody came."""
        self.close_window()
        self._on_over()

    def require_key(self, key: str) -> None:
        """Raises ``Forbidden`` if this is not the call's resume key."""
        if not self.is_possible or not hmac.compare_digest(self.key.encode(), key.encode("utf-8", "surrogatepass")):
            raise Forbidden(
                "This is not the call's resume key, which came with the answer that opened the call.",
                param="resume_key",
            )
