"""All sessions of this process: opened within the limits, found by call id, closed before the process ends."""

import asyncio
import time
from collections.abc import Callable

from bridge.errors import Draining, OverLimit, UnknownCall
from bridge.session.hub import Limits
from bridge.session.roles import Upstream
from bridge.session.session import CallInfo, Session
from bridge.wire.ids import new_id
from bridge.wire.sessions import SessionConfig, default_session

__all__ = ["Registry", "UpstreamFactory"]

_GOING_AWAY = 1001

UpstreamFactory = Callable[[], Upstream]


class Registry:
    """Opens and finds sessions. ``async with`` owns what they leave to be closed."""

    def __init__(
        self,
        new_upstream: UpstreamFactory,
        *,
        max_calls: int,
        max_listeners_per_call: int,
        call_limit_s: float,
        limits: Limits,
    ) -> None:
        self._new_upstream = new_upstream
        self._max_calls = max_calls
        self._max_listeners = max_listeners_per_call
        self._call_limit_s = call_limit_s
        self._limits = limits
        self._sessions: dict[str, Session] = {}
        self._is_draining = False
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> "Registry":
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close_all("server_stopped", code=_GOING_AWAY)
        await self._tasks.__aexit__(None, None, None)

    @property
    def sessions(self) -> list[Session]:
        """Those that run or connect, oldest first."""
        return list(self._sessions.values())

    @property
    def is_draining(self) -> bool:
        """No new calls are taken."""
        return self._is_draining

    def open(self, *, model: str, transport: str, config: SessionConfig | None = None) -> Session:
        """A new session; raises ``Draining`` or ``OverLimit``. With WebRTC it has a call id."""
        if self._is_draining:
            raise Draining("The server is about to stop and takes no new calls.")
        if len(self._sessions) >= self._max_calls:
            raise OverLimit(f"The server has {self._max_calls} calls, which is the limit.", code="too_many_calls")
        info = CallInfo(
            transport=transport,
            model=model,
            started_at=time.time(),
            call_id=new_id("rtc") if transport == "webrtc" else None,
        )
        loop = asyncio.get_running_loop()
        session = Session(
            info,
            self._new_upstream(),
            limits=self._limits,
            max_listeners=self._max_listeners,
            on_closed=self._forget,
            clock=loop.time,
        )
        self._sessions[info.call_id or info.session_id] = session
        self._tasks.create_task(self._keep(session))
        expires_at = int(info.started_at + self._call_limit_s)
        session.start(config or default_session(session_id=info.session_id, model=model, expires_at=expires_at))
        return session

    def find(self, call_id: str) -> Session:
        """The session of a running call; raises ``UnknownCall``."""
        session = self._sessions.get(call_id)
        if session is None:
            raise UnknownCall(f"No call '{call_id[:64]}' is running here.", param="call_id")
        return session

    def close_all(self, reason: str, *, code: int) -> None:
        """Begins the end of every session."""
        for session in self.sessions:
            session.close(reason, code=code)

    def stop_accepting(self) -> None:
        """From now on ``open`` raises ``Draining``."""
        self._is_draining = True

    async def drain(self, grace_s: float) -> None:
        """Takes no more calls, lets the running ones end by themselves for ``grace_s``, then ends them."""
        self.stop_accepting()
        try:
            async with asyncio.timeout(grace_s):
                for session in self.sessions:
                    await session.closed.wait()
        except TimeoutError:
            self.close_all("server_draining", code=_GOING_AWAY)

    async def _keep(self, session: Session) -> None:
        """Ends the session at the limit, and its upstream behind it."""
        try:
            async with asyncio.timeout(self._call_limit_s):
                await session.closed.wait()
        except TimeoutError:
            session.expire(self._call_limit_s)
        await session.aclose()

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.info.call_id or session.info.session_id, None)
