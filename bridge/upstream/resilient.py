"""An upstream that is dialled: chosen from the configuration, tried again, replaced when it is lost.

Theory of operation. One task a call opens a line and hands over what comes on it, until the line ends. What clients
send goes out at once while a line is up, and waits in a bounded queue while none is. ``Relay`` knows what is said on
both sides, and what a new line must be told.

    opening ──session.created──▶ live ──line lost──▶ reopening ──session.created──▶ live
       └──────────── no target answers ────────────────────┴──▶ over, with the last target's own error

When a line is lost, responses in progress are brought to their end and clients are told (``upstream_reconnecting``). A
line that has lasted so long that the service would soon end it is replaced unheard, at a moment when nothing is under
way. A target named ``local`` is the embedded engine: it finds the session's state and goes on with it.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from bridge.context import CallContext
from bridge.errors import BadEvent, BridgeError, UpstreamError
from bridge.media.contracts import PassingUpstream
from bridge.media.convert import SoundEncoder
from bridge.media.playback import Part
from bridge.session.budget import size_of
from bridge.session.contracts import Downstream, Upstream
from bridge.session.state import SessionState
from bridge.upstream.line import Line
from bridge.upstream.relay import Relay
from bridge.upstream.tally import TargetTally
from bridge.upstream.target import Target
from bridge.wire import client_events as client
from bridge.wire import server_events as server
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.relayed import understood
from bridge.wire.server_events import Body, ServerEvent
from bridge.wire.stats import UpstreamStats

__all__ = ["ResilientUpstream", "RetryPolicy"]

_MAX_WAITING = 256  # client events while no line is up
_MAX_WAITING_BYTES = 2 * 24_000 * 30  # of sound, likewise: 30 s; the oldest goes first
_BACKOFF_S, _MAX_BACKOFF_S, _BACKOFF_SPREAD = 0.5, 4.0, 0.2
_MAX_RETRY_AFTER_S = 10.0  # whoever asks for more has to be asked by somebody else
_WATCH_S = 0.5
_STALLED = "upstream_stalled"
_RENEW_AGAIN_S = 30.0
_STEADY_S = 10.0  # whoever lasts so long, or gives an answer, was worth dialling
_ANSWER_S = 10.0  # what was not answered by then needs no answer


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long is waited for what, and how often it is tried; seconds."""

    connect_s: float = 10.0
    stall_s: float = 15.0
    """Without a word while one is owed."""
    renew_s: float = 3300.0
    """After which a line is replaced before its service ends it."""
    tries: int = 3
    """Of each target."""


@dataclass(slots=True, eq=False)
class _Opened:
    """A line that is up, or on its way."""

    target: Target
    line: Line
    created: "asyncio.Future[Body]"
    ended: "asyncio.Task[UpstreamError | None] | None" = None
    opened_at: float = 0.0
    answers: int = 0
    """How many had been given when it was taken."""
    early: list[Body | tuple[Part, bytes]] = field(default_factory=list)
    """What came behind ``session.created`` before the line was taken."""


class ResilientUpstream:
    """See the module; an ``Upstream`` and a ``LineOwner``."""

    def __init__(
        self,
        targets: tuple[Target, ...],
        *,
        new_line: Callable[[Target], Line],
        new_engine: Callable[[], Upstream],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        patience: RetryPolicy,
        context: CallContext,
        tally: Callable[[Target], TargetTally],
    ) -> None:
        self._context = context
        self._tally = tally
        self._log = context.logger("upstream")
        self._targets = targets
        self._new_line = new_line
        self._new_engine = new_engine
        self._spawn = spawn
        self._patience = patience
        self._over = asyncio.Event()
        self._closing = asyncio.Event()
        self._current: _Opened | None = None
        self._opening: _Opened | None = None
        self._engine: Upstream | None = None
        self._format = PCM16
        """Of the caller's sound, as the last line took it."""
        self._waiting: deque[Body] = deque()
        self._waiting_sound = bytearray()
        self._heard_at = 0.0
        self._name = ""
        """Of the target whose line there is, or was last."""
        self._lines = self._lost = 0
        self._strikes = 0
        """How many lines in a row were of no use."""

    # Upstream

    def start(self, downstream: Downstream, state: SessionState) -> None:
        """Begins to dial; ``session.created`` follows when somebody answers."""
        self._downstream = downstream
        self._state = state
        self._relay = Relay(downstream, state, self._log)
        self._loop = asyncio.get_running_loop()
        self._spawn(self._run())

    @property
    def passage(self) -> PassingUpstream | None:
        """The present line's."""
        return self._current.line.passage if self._current is not None else None

    @property
    def input_format(self) -> AudioFormat:
        """The present line's; between lines, the last one's."""
        if self._engine is not None:
            return self._engine.input_format
        return self._current.line.input_format if self._current is not None else self._format

    @property
    def output_format(self) -> AudioFormat:
        """The present line's."""
        if self._engine is not None:
            return self._engine.output_format
        return self._current.line.output_format if self._current is not None else PCM16

    def receive_event(self, message: client.ClientMessage) -> None:
        """A client event; raises ``BadEvent`` if too many wait."""
        if self._engine is not None:
            self._engine.receive_event(message)
            return
        event = message.event
        if event.event_id is None:
            event.event_id = self._relay.new_id()
            if isinstance(event, client.ConversationItemTruncate) and self._current and self._current.line.plays:
                # The session's own ledger. The service keeps one as well: it stops, and truncates by that.
                self._current.line.send({"type": "output_audio_buffer.clear", "event_id": event.event_id})
                return
        body: Body = {**message.body, "event_id": event.event_id}
        item = body.get("item")
        if isinstance(item, dict) and item.get("id") is None:
            body["item"] = {**item, "id": new_id("item")}  # so that its answer can be told
        if self._current is not None:
            self._relay.ask(self._current.line, body, self._loop.time())
        elif len(self._waiting) < _MAX_WAITING:
            self._state.budget.charge(size_of(body))
            self._waiting.append(body)
        else:
            raise BadEvent("Too many events wait for the upstream.", code="upstream_busy")

    def receive_audio(self, sound: bytes) -> None:
        """The caller's sound, in ``input_format``."""
        if self._engine is not None:
            self._engine.receive_audio(sound)
        elif self._current is not None:
            self._relay.push(self._current.line, sound)
        else:
            self._waiting_sound += sound
            del self._waiting_sound[:-_MAX_WAITING_BYTES]

    def stats(self) -> UpstreamStats:
        """Over all lines; those of the engine are added, if it has taken over."""
        answers = self._relay.answers
        if self._engine is not None:
            engine = self._engine.stats()
            return UpstreamStats(name=engine.name, lines=self._lines, lost=self._lost, answers=answers + engine.answers)
        return UpstreamStats(name=self._name, lines=self._lines, lost=self._lost, answers=answers)

    async def aclose(self) -> None:
        """Ends the call with the upstream; may be called twice."""
        self._closing.set()
        if self._engine is not None:
            await self._engine.aclose()
        await self._over.wait()

    # The life of it

    async def _run(self) -> None:
        self._context.bind_task()
        error: BridgeError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                closing = group.create_task(self._closing.wait())
                living = group.create_task(self._live())
                await asyncio.wait((closing, living), return_when=asyncio.FIRST_COMPLETED)
                closing.cancel()
                living.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    error = await living
        except Exception as failure:
            self._log.error("upstream.failed", exc_info=failure)
            error = UpstreamError("Something went wrong between the bridge and its upstream.")
        finally:
            self._current = None
            self._relay.close()
            self._waiting.clear()
            self._waiting_sound.clear()
            self._over.set()
            if not self._closing.is_set() and self._engine is None:
                self._downstream.upstream_closed(error)

    async def _live(self) -> UpstreamError | None:
        """From the first line to the end of the last; why there is no further one, None where that is in good order."""
        try:
            await self._live_on_lines()
        except UpstreamError as error:
            return error
        return None

    async def _live_on_lines(self) -> None:
        opened = await self._open()
        while opened is not None:
            self._take(opened)
            line = opened.line
            try:
                ending = await self._until_over(opened)
            finally:
                await line.aclose()
            if isinstance(ending, _Opened):
                opened = ending
                continue
            if ending is None:
                if not self._relay.is_wanted:
                    return
                ending = UpstreamError("The upstream hung up before it was done.", code="upstream_lost")
            self._lost += 1
            self._tally(opened.target).lost += 1
            self._log.warning("upstream.lost", code=ending.code, message=ending.message)
            self._format, self._current = line.input_format, None
            self._downstream.upstream_changed()
            self._relay.lose(ending)
            await self._reconsider(opened, ending)
            opened = await self._open()

    async def _reconsider(self, lost: _Opened, ending: UpstreamError) -> None:
        """A target whose lines are of no use time and again is not dialled any more; raises ``ending`` for the last."""
        is_steady = self._loop.time() - lost.opened_at >= _STEADY_S and ending.code != _STALLED
        is_of_use = is_steady or self._relay.answers > lost.answers
        self._strikes = 0 if is_of_use else self._strikes + 1
        if not ending.is_transient or self._strikes >= self._patience.tries:
            self._strikes = 0
            self._targets = tuple(target for target in self._targets if target is not lost.target)
            if not self._targets:
                raise ending
        elif self._strikes > 1:
            await asyncio.sleep(_delay_s(ending, self._strikes - 2) or 0)

    async def _open(self) -> _Opened | None:
        """The first target that answers; None where that is the engine. Raises the last one's error."""
        failure: UpstreamError | None = None
        for target in self._targets:
            if target.transport == "local":
                self._hand_to_engine()
                return None
            for number in range(self._patience.tries):
                try:
                    return await self._open_one(target)
                except UpstreamError as error:
                    failure = error
                delay_s = _delay_s(failure, number)
                if delay_s is None or number + 1 == self._patience.tries:
                    break
                self._log.info("upstream.retry", upstream=target.name, url=target.shown_url, code=failure.code,
                               message=failure.message, in_s=round(delay_s, 2))  # fmt: skip
                await asyncio.sleep(delay_s)
            self._tally(target).given_up += 1
            self._log.warning("upstream.refused", upstream=target.name, url=target.shown_url,
                              code=failure and failure.code, message=failure and failure.message)  # fmt: skip
        assert failure is not None, "a dial has targets"
        raise failure

    async def _open_one(self, target: Target) -> _Opened:
        """A line to the target, on which ``session.created`` has come; raises ``UpstreamError``."""
        line = self._new_line(target)
        opened = self._opening = _Opened(target, line, self._loop.create_future())
        is_good = False
        tally = self._tally(target)
        tally.dials += 1
        try:
            await line.open(self, self._state)
            async with asyncio.timeout(self._patience.connect_s):
                opened.ended = self._group.create_task(line.run())
                await asyncio.wait((opened.created, opened.ended), return_when=asyncio.FIRST_COMPLETED)
                if not opened.created.done():
                    raise opened.ended.result() or UpstreamError("The upstream closed before it said anything.")
            opened.created.result()
            opened.opened_at = self._loop.time()
            is_good = True
            return opened
        except TimeoutError:
            message = f"The upstream did not answer within {self._patience.connect_s:g} s."
            raise UpstreamError(message, code="upstream_timeout") from None
        finally:
            if not is_good:
                tally.failures += 1
                self._opening = None
                opened.created.cancel()
                await line.aclose()

    async def _until_over(self, opened: _Opened) -> UpstreamError | _Opened | None:
        """Until the line ends or stalls (its error), or is to be replaced (by the line that is returned)."""
        assert opened.ended is not None
        patience, relay = self._patience, self._relay
        renew_at = opened.opened_at + patience.renew_s
        owed_since = None
        while True:
            await asyncio.wait((opened.ended,), timeout=_WATCH_S)
            if opened.ended.done():
                return opened.ended.result()
            now = self._loop.time()
            relay.forget_unanswered(now - _ANSWER_S)
            owed_since = (owed_since or now) if relay.owes_answer else None
            if owed_since is not None and now - max(self._heard_at, owed_since) > patience.stall_s:
                return UpstreamError("The upstream has fallen silent.", code=_STALLED)
            if now >= renew_at and relay.is_idle:
                fresh = await self._renew()
                if fresh is not None:
                    return fresh
                renew_at = self._loop.time() + min(_RENEW_AGAIN_S, patience.renew_s)

    async def _renew(self) -> _Opened | None:
        """A line to take over from one that is about to be too old; None where that must wait."""
        try:
            fresh = await self._open_one(self._targets[0])
        except UpstreamError as error:
            self._log.warning("upstream.renewal_failed", code=error.code)
            return None
        if self._relay.is_idle:
            self._log.info("upstream.renewed")
            self._tally(fresh.target).renewals += 1
            return fresh
        self._opening = None
        await fresh.line.aclose()
        return None

    def _take(self, opened: _Opened) -> None:
        """From now on this is the line; what waited for it goes out, sound first, since a commit may be waiting."""
        is_renewal, self._current, self._opening = self._current is not None, opened, None
        self._name, self._lines = opened.target.name, self._lines + 1
        self._heard_at = now = self._loop.time()
        self._downstream.upstream_changed()
        line, relay = opened.line, self._relay
        opened.answers = relay.answers
        session = opened.created.result()["session"]
        if relay.is_live:
            relay.brief(line, session, now, is_renewal=is_renewal)
        else:
            relay.greet(line, session, now)
        sound = self._take_waiting_sound(line.input_format)
        if sound:
            relay.push(line, sound)
        for body in self._take_waiting():
            relay.ask(line, body, now)
        for early in opened.early:
            if isinstance(early, dict):
                relay.hear(early)
            else:
                self._downstream.deliver_audio(*early)

    def _take_waiting(self) -> list[Body]:
        waiting = list(self._waiting)
        self._waiting.clear()
        self._state.budget.charge(-sum(map(size_of, waiting)))
        return waiting

    def _take_waiting_sound(self, audio_format: AudioFormat) -> bytes:
        sound, self._waiting_sound = bytes(self._waiting_sound), bytearray()
        if audio_format is self._format:
            return sound
        encoder = SoundEncoder(audio_format, self._format)
        return encoder.push(sound) + encoder.flush()

    def _hand_to_engine(self) -> None:
        """The embedded engine goes on from the session's state."""
        engine, relay = self._new_engine(), self._relay
        told, uncommitted, again = relay.hand_over(engine.input_format)
        successor = _Successor(self._downstream, is_live=relay.is_live, offset_ms=relay.offset_ms)
        engine.start(successor, self._state)
        self._engine = engine
        self._downstream.upstream_changed()
        self._tell_engine(engine, told)
        sound = uncommitted + self._take_waiting_sound(engine.input_format)
        if sound:
            engine.receive_audio(sound)
        self._tell_engine(engine, [*again, *self._take_waiting()])

    def _tell_engine(self, engine: Upstream, bodies: list[Body]) -> None:
        for body in bodies:
            try:
                engine.receive_event(client.message_of(body))
            except BadEvent as error:
                if not self._relay.is_own(body["event_id"]):
                    self._downstream.deliver(server.error_event(error, event_id=body["event_id"]))

    # What comes over a line

    def received(self, line: Line, body: Body) -> None:
        """An event of the upstream's."""
        self._heard_at = self._loop.time()
        opening = self._opening
        if opening is not None and line is opening.line:
            self._received_while_opening(opening, body)
        elif self._current is not None and line is self._current.line:
            self._relay.hear(body)

    def received_audio(self, line: Line, part: Part, sound: bytes) -> None:
        """A piece of the answer."""
        self._heard_at = self._loop.time()
        opening = self._opening
        if self._current is not None and line is self._current.line:
            self._downstream.deliver_audio(part, sound)
        elif opening is not None and line is opening.line and len(opening.early) < _MAX_WAITING:
            opening.early.append((part, sound))

    def passed_audio(self, line: Line) -> None:
        """A piece that went another way; whoever plays has not fallen silent."""
        self._heard_at = self._loop.time()

    def _received_while_opening(self, opening: _Opened, body: Body) -> None:
        if opening.created.done():
            if len(opening.early) < _MAX_WAITING:
                opening.early.append(body)
            return
        if body["type"] == "session.created" and isinstance(body.get("session"), dict):
            opening.created.set_result(body)
        elif body["type"] == "error":
            event = understood(body)
            if isinstance(event, server.Error):
                opening.created.set_exception(_as_error(event.error))


class _Successor:
    """The engine's way to the session: where that is live already, it is updated and not created anew."""

    def __init__(self, downstream: Downstream, *, is_live: bool, offset_ms: int) -> None:
        self._downstream = downstream
        self._is_live = is_live
        self._offset_ms = offset_ms
        self.deliver_audio = downstream.deliver_audio
        self.upstream_changed = downstream.upstream_changed
        self.upstream_closed = downstream.upstream_closed

    def deliver(self, event: ServerEvent, body: Body | None = None) -> None:
        """As it is, but for the first one, and for times: they count from the session's first sound."""
        if self._is_live and isinstance(event, server.SessionCreated):
            event = server.SessionUpdated(session=event.session)
        elif isinstance(event, server.InputAudioBufferSpeechStarted):
            event.audio_start_ms += self._offset_ms
        elif isinstance(event, server.InputAudioBufferSpeechStopped):
            event.audio_end_ms += self._offset_ms
        elif isinstance(event, server.InputAudioBufferTimeoutTriggered):
            event.audio_start_ms += self._offset_ms
            event.audio_end_ms += self._offset_ms
        self._downstream.deliver(event, body)


def _delay_s(error: UpstreamError, number: int) -> float | None:
    """How long to wait before the next try; None where that is of no use."""
    if not error.is_transient:
        return None
    if error.retry_after_s is not None:
        return error.retry_after_s if error.retry_after_s <= _MAX_RETRY_AFTER_S else None
    delay_s = min(_BACKOFF_S * 2.0**number, _MAX_BACKOFF_S)
    return delay_s * random.uniform(1 - _BACKOFF_SPREAD, 1 + _BACKOFF_SPREAD)


def _as_error(detail: server.ErrorDetail) -> UpstreamError:
    """An error with which a service greets instead of a session."""
    return UpstreamError(
        detail.message, code=detail.code, param=detail.param, type=detail.type,
        is_transient=detail.type == "server_error",
    )  # fmt: skip
