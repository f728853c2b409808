"""The end of each call: at its time limits if it does not come before, and then the end of its upstream."""

import asyncio
from collections.abc import Callable

from bridge.log import get_logger
from bridge.session.session import Session

__all__ = ["CallReaper"]

_log = get_logger("registry")


class CallReaper:
    """Ends calls; ``async with`` waits for the end of every call that it was given.

    Whoever leaves the block has begun to end them.
    """

    def __init__(self) -> None:
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> "CallReaper":
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._tasks.__aexit__(None, None, None)

    def watch(
        self, session: Session, *, limit_s: float, idle_timeout_s: float | None, on_gone: Callable[[Session], None]
    ) -> None:
        """Ends the call after ``limit_s``, or if nothing has happened in it for ``idle_timeout_s``.

        ``on_gone`` is called when nothing of it is left.
        """
        self._tasks.create_task(self._contained(session, limit_s, idle_timeout_s, on_gone))

    async def _contained(
        self, session: Session, limit_s: float, idle_timeout_s: float | None, on_gone: Callable[[Session], None]
    ) -> None:
        """Ends one session: whatever goes wrong at its end must not end the others."""
        session.context.bind_task()
        try:
            await self._keep(session, limit_s, idle_timeout_s)
        except Exception as error:
            _log.error("registry.keep_failed", exc_info=error)
        finally:
            on_gone(session)

    @staticmethod
    async def _keep(session: Session, limit_s: float, idle_timeout_s: float | None) -> None:
        now = asyncio.get_running_loop().time
        deadline = now() + limit_s
        while not session.lifetime.closed.is_set():
            left = min(deadline - now(), session.idle_left_s(idle_timeout_s))
            try:
                async with asyncio.timeout(max(left, 0)):
                    await session.lifetime.closed.wait()
            except TimeoutError:
                if now() >= deadline:
                    session.expire(limit_s)
                    break
                if session.idle_left_s(idle_timeout_s) <= 0:
                    session.close("idle_timeout")
                    break
        await session.aclose()
