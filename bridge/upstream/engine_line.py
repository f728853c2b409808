"""A cascade as a line: an embedded engine of its own, so that a call moves between it and services in both directions.

The engine keeps the conversation of this line as a service does, and is told what went before. A response that fails
before anything was said ends the line, and the next target is asked for the answer. The last target has nobody behind
it: its responses fail, and the line goes on.
"""

import asyncio
from collections.abc import Callable

import msgspec

from bridge.errors import BadEvent, BridgeError, UpstreamError
from bridge.media.playback import Part
from bridge.session.budget import Budget
from bridge.session.contracts import Upstream
from bridge.session.state import SessionState
from bridge.upstream.line import LineOwner
from bridge.wire import client_events as client
from bridge.wire import server_events as server
from bridge.wire.audio import AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.server_events import Body, ServerEvent
from bridge.wire.stats import StageStats

__all__ = ["EngineLine"]

_MAX_BYTES = 32 * 1024 * 1024  # of the line's own copy of the conversation, within what the call may keep


class EngineLine:
    """See ``Line``; the ``Downstream`` of its engine."""

    plays = False
    passage = None

    def __init__(self, new_engine: Callable[[], Upstream], *, is_last: bool) -> None:
        """``is_last`` says that no other target is left for an answer that fails."""
        self._new_engine = new_engine
        self._is_last = is_last
        self._engine: Upstream | None = None
        self._budget: Budget | None = None
        self._ended: asyncio.Future[UpstreamError | None] = asyncio.get_running_loop().create_future()

    async def open(self, owner: LineOwner, state: SessionState) -> None:
        """Begins a conversation with the session's configuration."""
        self._owner = owner
        self._budget = state.budget.part(_MAX_BYTES, what="The conversation with a cascade")
        config = msgspec.convert(msgspec.to_builtins(state.config), type(state.config))
        self._state = SessionState(config, budget=self._budget)
        engine = self._new_engine()
        self._formats = engine.input_format, engine.output_format
        self._engine = engine
        engine.start(self, self._state)

    async def run(self) -> UpstreamError | None:
        """Runs until an answer fails that somebody else may give."""
        return await self._ended

    @property
    def input_format(self) -> AudioFormat:
        """The format that the engine hears."""
        return self._formats[0]

    @property
    def output_format(self) -> AudioFormat:
        """The format that the engine speaks."""
        return self._formats[1]

    @property
    def stages(self) -> tuple[StageStats, ...]:
        """The figures of the engine's stages."""
        return () if self._engine is None else self._engine.stats().stages

    def send_client_event(self, body: Body) -> None:
        """Gives the engine a client event. What it refuses is answered by an ``error`` event."""
        if self._engine is None:
            return
        try:
            self._engine.receive_client_event(client.message_of(body))
        except BadEvent as error:
            self.deliver_event(server.error_event(error, event_id=body.get("event_id")))

    def send_audio(self, sound: bytes) -> None:
        """Gives the engine a piece of the caller's sound."""
        if self._engine is not None:
            self._engine.receive_caller_audio(sound)

    async def aclose(self) -> None:
        """Ends the conversation; may be called twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.aclose()
        if self._budget is not None:
            self._budget.close()
            self._budget = None
        if not self._ended.done():
            self._ended.set_result(None)

    # Downstream

    def deliver_event(self, event: ServerEvent, body: Body | None = None) -> None:
        """Hands an event on. A failure that somebody else may mend ends the line instead."""
        if self._engine is None or self._ended.done():
            return
        self._state.follow(event)
        if isinstance(event, server.ResponseDone) and not self._is_last:
            response = event.response
            if response.status == "failed" and not response.output:
                details = response.status_details
                error = details.error if details is not None and isinstance(details.error, dict) else {}
                self._fail(UpstreamError(
                    str(error.get("message") or "The cascade failed to answer."),
                    code=str(error.get("code") or "upstream_error"),
                    is_transient=False,
                ))  # fmt: skip
                return
        if not event.event_id:
            event.event_id = new_id("event")
        self._owner.received(self, msgspec.to_builtins(event) if body is None else body)

    def deliver_audio(self, part: Part, sound: bytes) -> None:
        """Hands on a piece of the answer."""
        if self._engine is not None and not self._ended.done():
            self._state.has_spoken = True
            self._owner.received_audio(self, part, sound)

    def upstream_changed(self) -> None:
        """Does nothing, because the engine's formats never change."""

    def upstream_closed(self, error: BridgeError | None) -> None:
        """Ends the line, because the engine has gone."""
        self._fail(UpstreamError("The engine has ended.") if error is None else UpstreamError(error.message))

    def _fail(self, error: UpstreamError) -> None:
        if not self._ended.done():
            self._ended.set_result(error)
