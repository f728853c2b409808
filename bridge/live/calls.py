"""All Live calls of this process, and the clock of what they hear."""

import asyncio

from bridge.live.call import LiveCall
from bridge.media.pacer import Pacer
from bridge.session.fanout.backlog import Limits
from bridge.session.session import Session
from bridge.wire.live.sessions import LiveSession

__all__ = ["LiveCalls"]


class LiveCalls:
    """Makes Live calls and finds them. The clock runs while there are any; each ends with its session."""

    def __init__(self) -> None:
        self._calls: dict[str, LiveCall] = {}
        self._pacer = Pacer()
        self._timer: asyncio.TimerHandle | None = None

    def find(self, call_id: str) -> LiveCall | None:
        """Returns the call with this id."""
        return self._calls.get(call_id)

    def add_live_call(
        self, session: Session, asked: LiveSession | None, *, limits: Limits, is_socket: bool
    ) -> LiveCall:
        """Makes a session a Live call; raises ``UpstreamError`` if what answers it cannot speak Live."""
        loop = asyncio.get_running_loop()
        call = LiveCall(session, asked, limits=limits, clock=loop.time, is_socket=is_socket, on_over=self._forget)
        self._calls[session.info.id] = call
        if self._timer is None:
            self._timer = loop.call_at(self._pacer.start(loop.time()), self._turn)
        return call

    def _forget(self, call: LiveCall) -> None:
        self._calls.pop(call.session.info.id, None)
        if not self._calls and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        """Gives the calls what is due, every 20 ms; after a long delay it leaves a gap."""
        loop = asyncio.get_running_loop()
        behind = self._pacer.begin(loop.time())
        try:
            for call in tuple(self._calls.values()):
                self._tick(call, behind)
        finally:  # whatever happened, the other calls' sound goes on
            due = self._pacer.end()
            self._timer = loop.call_at(due, self._turn) if self._calls else None

    def _tick(self, call: LiveCall, behind: int) -> None:
        try:
            if behind:
                call.skip(behind)
            call.tick()
        except Exception as error:
            call.session.context.logger("live").error("live.tick_failed", exc_info=error)
            call.session.close("internal_error")
