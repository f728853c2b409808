"""One call of a benchmark: it connects, waits for the others, then speaks and hears the answer, again and again."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bridge.client.address import CallFailed, explain, parse_address
from bridge.client.answer import Answer
from bridge.client.bench.gaps import Gaps
from bridge.client.bench.network import BadNetwork, Network
from bridge.client.bench.record import BenchRecord, Failure, Turn
from bridge.client.call import Plan
from bridge.client.change_signal import ChangeSignal
from bridge.client.lines import ClientLine, ClientWebRtcLine, SocketLine
from bridge.client.sound import BYTES_PER_MS, is_silent, sounding_end
from bridge.webrtc.runner import PeerRunner

__all__ = ["BenchCall"]

_PROBE = "bench_probe_"
_GOOD_NETWORK = Network()
_LEAD_S = 0.1  # the sound may come this much earlier than the event that announces it


class BenchCall:
    """One call. ``run`` makes it, once, and writes down in ``record`` how it goes; a failure is no exception."""

    def __init__(
        self,
        plan: Plan,
        record: BenchRecord,
        *,
        patience_s: float,
        runner: PeerRunner | None,
        network: Network = _GOOD_NETWORK,
    ) -> None:
        self.record = record
        self._plan = plan
        self._address = parse_address(plan.url, plan.model)
        self._line = self._new_line(runner, network)
        self._patience_s = patience_s
        self._changes = ChangeSignal()
        self._is_ga = True  # until the session says otherwise
        self._failure: Failure | None = None
        self._lost: Failure | None = None
        self._began = 0.0
        self._begin_turn()

    def _new_line(self, runner: PeerRunner | None, network: Network) -> ClientLine:
        if runner is None:
            return SocketLine(self)
        if not network.is_bad:
            return ClientWebRtcLine(self, runner)
        return ClientWebRtcLine(self, runner, new_agent=partial(BadNetwork, network, self.record.number))

    async def run(
        self, *, connected: Callable[[], None], may_speak: Callable[[], bool], is_over: Callable[[], bool], began: float
    ) -> None:
        """Makes the call, from the first request to the hang-up.

        ``connected`` is called when it is connected or has failed, and perhaps twice. The caller speaks after
        ``may_speak``, until ``is_over``.
        """
        self._began = began
        record, plan = self.record, self._plan
        try:
            try:
                async with self._line.open(self._address, plan.api_key, sound_s=plan.sound_s):
                    record.connect_ms = 1000 * (self._now() - self._line.requested_at)
                    connected()
                    await self._converse(may_speak, is_over)
            finally:
                connected()
                self._note_figures()
        except CallFailed as error:
            self._fail(error.code, error.message)
        except Exception as error:
            failure = explain(error, self._address.socket)
            self._fail(failure.code, failure.message)
        record.failure = self._failure
        record.result = "came_through" if self._failure is None else "failed"

    async def _converse(self, may_speak: Callable[[], bool], is_over: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._line.read())
            await self._until(may_speak)
            while self._failure is None and not is_over():
                if self._lost is None:
                    await self._take_turn(tasks)
                else:
                    self._failure = self._lost
            reading.cancel()

    async def _take_turn(self, tasks: asyncio.TaskGroup) -> None:
        """Speaks, waits for the answer and listens to it, also if its sound was sent ahead of its time."""
        self._begin_turn()
        self.record.turns.append(self._turn)
        pcm = self._plan.pcm
        end = sounding_end(pcm) or len(pcm)
        limit_s = self._plan.sound_s + self._patience_s
        speaking = tasks.create_task(self._line.play_caller_audio(pcm[:end], pcm[end:]))
        try:
            async with asyncio.timeout(limit_s):
                await self._probe()
                await self._until(lambda: self._answer.is_complete(self._now()))
        except TimeoutError:
            why = self._answer.what_is_missing(had_sound=True)
            self._fail("no_answer", f"There was no complete answer within {limit_s:g} s: {why}.")
        finally:
            self._note_turn()
        speaking.cancel()
        self._judge_turn()
        if self._failure is None and not self._line.is_paced:
            heard_until = (self._heard_at or 0.0) + min(self._turn.answer_s, self._patience_s)
            await self._until(lambda: self._now() >= heard_until)

    def _begin_turn(self) -> None:
        self._turn = Turn()
        self._answer = Answer(is_paced=self._line.is_paced)
        self._gaps = Gaps(is_paced=self._line.is_paced)
        self._heard_at: float | None = None
        self._stopped_at: float | None = None
        self._probed_at: float | None = None

    def _note_turn(self) -> None:
        """Notes what was measured of a turn, even if the turn is not complete."""
        turn, answer = self._turn, self._answer
        turn.answer_s = len(answer.pcm) / BYTES_PER_MS / 1000
        turn.gap_ms = self._gaps.total_ms
        heard_at, spoken_at = self._heard_at, answer.spoken_at
        if spoken_at is not None:
            turn.spoken_at_s = spoken_at - self._began
        if heard_at is None or spoken_at is None:
            return
        turn.is_early = heard_at < spoken_at
        if not turn.is_early:
            turn.first_sound_ms = 1000 * (heard_at - spoken_at)
            if self._stopped_at is not None:
                turn.after_stopped_ms = 1000 * (heard_at - self._stopped_at)

    def _judge_turn(self) -> None:
        """Judges whether the turn had an answer."""
        answer = self._answer
        if answer.failure:
            self._fail(answer.failure_code, answer.failure)
        elif self._failure is None and answer.flaw:
            self._fail("empty_answer", answer.flaw)
        self._turn.is_answered = self._failure is None

    async def _probe(self) -> None:
        """Asks for the session as it is already.

        Any Realtime server answers that, and nothing else depends on it.
        """
        if self.record.refusal is not None:
            return
        session: dict[str, Any] = {"type": "realtime"} if self._is_ga else {}
        if self._plan.instructions is not None:
            session["instructions"] = self._plan.instructions
        self._probed_at = self._now()
        event_id = f"{_PROBE}{len(self.record.turns)}"
        await self._line.send_client_event({"type": "session.update", "event_id": event_id, "session": session})

    async def _until(self, is_so: Callable[[], bool]) -> None:
        await self._changes.until(lambda: self._failure is not None or is_so())

    def _fail(self, code: str, message: str) -> None:
        """Notes a failure, if it is the first."""
        if self._failure is None:
            self._failure = Failure(code, message)
        self._changes.notify()

    def _note_figures(self) -> None:
        record, figures = self.record, self._line.describe()
        record.call_id = self._line.call_id
        record.packets, record.lost = figures.get("packets"), figures.get("lost")
        record.jitter_ms = figures.get("jitter_ms") if record.packets else None

    # The line's reports

    def receive_event(self, event: dict[str, Any]) -> None:
        """Takes a server event."""
        now = self._now()
        self._answer.receive_event(event, now)
        match event:
            case {"type": "session.created", "session": dict(session)}:
                self._is_ga = "type" in session or "modalities" not in session
            case {"type": "session.updated"}:
                self._end_probe(now)
            case {"type": "input_audio_buffer.speech_stopped"} if self._heard_at is None:
                self._stopped_at = now
            case {"type": "response.created"}:
                self._gaps.begin_response()
                if self._heard_at is not None and now - self._heard_at > _LEAD_S:
                    self._heard_at = None  # that sound was something else
            case {"type": "response.done", "response": {"status": "cancelled"}}:
                self._heard_at = None  # the caller went on speaking, so another answer comes
            case {"type": "error", "error": dict(error)}:
                self._take_error(error, now)
        self._changes.notify()

    def _take_error(self, error: dict[str, Any], now: float) -> None:
        told = Failure(str(error.get("code") or error.get("type") or "error"), str(error.get("message") or ""))
        if str(error.get("event_id") or "").startswith(_PROBE):
            self._end_probe(now)
            self.record.refusal = told
        else:
            self.record.complaints.append(told)

    def _end_probe(self, now: float) -> None:
        if self._probed_at is not None:
            self._turn.round_trip_ms = 1000 * (now - self._probed_at)
            self._probed_at = None

    def receive_audio(self, pcm: bytes) -> None:
        """Takes a piece of sound."""
        now = self._now()
        self._answer.receive_audio(pcm, now)
        is_audible = not self._line.is_paced or not is_silent(pcm)
        if is_audible and self._heard_at is None:
            self._heard_at = now
        self._gaps.take_sound(len(pcm) / BYTES_PER_MS / 1000, now, is_audible=is_audible)

    def speaking(self, spoken_ms: int) -> None:
        """Does nothing, because nobody looks on."""

    def spoken(self) -> None:
        """Notes that everything has been said."""
        self._answer.finish_speaking(self._now())

    def wants_silence(self) -> bool:
        """Returns whether the server still has to hear that the caller is silent."""
        return self._answer.wants_to_hear

    def line_lost(self, message: str, code: str) -> None:
        """Notes that the line is down. After an answer that matters only if there was more to say."""
        complaints = self.record.complaints
        self._lost = Failure(code, f"{message} {complaints[-1].message}" if complaints else message)
        if not self._turn.is_answered:
            self._fail(code, self._lost.message)

    def _now(self) -> float:
        return time.monotonic()  # the loop's own clock: uvloop reads it once in each turn, to a millisecond
