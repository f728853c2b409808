"""One telephone call of a benchmark: it comes as a carrier brings it, speaks and hears the answer, again and again.

Over a telephone line there are no events. An answer is the sound after the last word, and it is over if nothing has
been heard for a while.
"""

import asyncio
import time
from collections.abc import Callable

from bridge.client.address import CallFailed, explain
from bridge.client.bench.gaps import Gaps
from bridge.client.bench.record import BenchRecord, Failure, Turn
from bridge.client.carriers.contract import FRAME_MS, silence_of
from bridge.client.phone import Phone, dial
from bridge.client.phone_call import PhonePlan
from bridge.client.sound import BYTES_PER_MS, is_silent, sounding_end
from bridge.media.convert import SoundDecoder, SoundEncoder

__all__ = ["PhoneBenchCall"]

_QUIET_S = 1.5  # a longer silence ends an answer


class PhoneBenchCall:
    """One call. ``run`` makes it, once, and writes down in ``record`` how it goes; a failure is no exception."""

    def __init__(self, plan: PhonePlan, record: BenchRecord, *, patience_s: float) -> None:
        self.record = record
        self._plan = plan
        self._patience_s = patience_s
        self._began = 0.0

    async def run(
        self, *, connected: Callable[[], None], may_speak: Callable[[], bool], is_over: Callable[[], bool], began: float
    ) -> None:
        """Makes the call, from the first request to the hang-up; the parameters are those of ``BenchCall.run``."""
        self._began = began
        record, requested_at = self.record, time.monotonic()
        try:
            try:
                async with dial(self._plan.dialling) as phone:
                    record.connect_ms = 1000 * (time.monotonic() - requested_at)
                    connected()
                    await self._converse(phone, may_speak, is_over)
            finally:
                connected()
        except CallFailed as error:
            self._fail(error.code, error.message)
        except Exception as error:
            failure = explain(error, self._plan.dialling.url)
            self._fail(failure.code, failure.message)
        record.result = "came_through" if record.failure is None else "failed"

    async def _converse(self, phone: Phone, may_speak: Callable[[], bool], is_over: Callable[[], bool]) -> None:
        paced = _PacedPhone(phone)
        while self.record.failure is None and not may_speak():
            await self._tick(paced, b"")
        while self.record.failure is None and not is_over():
            await self._take_turn(paced)
        carrier = phone.carrier
        if late := carrier.late_frames:
            self.record.complaints.append(Failure("late_frames", f"{late} frames were missing when they were due"))
        self.record.complaints += [Failure("carrier", complaint) for complaint in carrier.complaints]

    async def _take_turn(self, paced: "_PacedPhone") -> None:
        """Speaks, and then is silent until the answer has been heard."""
        turn, gaps = Turn(), Gaps(is_paced=True)
        self.record.turns.append(turn)
        gaps.begin_response()
        spoken, size = paced.encoded(self._plan.pcm), len(paced.silence)
        spoken_at = heard_at = loud_at = None
        at = 0
        while self.record.failure is None:
            heard = await self._tick(paced, spoken[at : at + size])
            now = time.monotonic()
            at += size
            if spoken_at is None and at >= len(spoken):
                spoken_at, turn.spoken_at_s = now, now - self._began
            is_audible = not is_silent(heard)
            gaps.take_sound(len(heard) / BYTES_PER_MS / 1000, now, is_audible=is_audible)
            if is_audible:
                loud_at = now
                turn.is_early = turn.is_early or spoken_at is None
                if heard_at is None:
                    heard_at = now
            if heard_at is not None:
                turn.answer_s += len(heard) / BYTES_PER_MS / 1000
            if spoken_at is None:
                continue
            if loud_at is not None and loud_at > spoken_at and now - loud_at > _QUIET_S:
                break
            if now - spoken_at > self._patience_s:
                words = "nothing was heard" if heard_at is None else "the answer did not end"
                self._fail("no_answer", f"There was no complete answer within {self._patience_s:g} s: {words}.")
        turn.gap_ms = gaps.total_ms
        turn.answer_s = max(0.0, turn.answer_s - _QUIET_S)
        if heard_at is not None and spoken_at is not None and not turn.is_early:
            turn.first_sound_ms = 1000 * (heard_at - spoken_at)
        turn.is_answered = self.record.failure is None

    async def _tick(self, paced: "_PacedPhone", frame: bytes) -> bytes:
        """Lets 20 ms pass, and returns what was heard in them as PCM16 24 kHz mono."""
        heard = await paced.tick(frame)
        if paced.phone.ended.is_set():
            self._fail("hung_up", "The bridge hung up.")
        return heard

    def _fail(self, code: str, message: str) -> None:
        if self.record.failure is None:
            self.record.failure = Failure(code, message)


class _PacedPhone:
    """What the caller says and hears, 20 ms at a time and in time."""

    def __init__(self, phone: Phone) -> None:
        self.phone = phone
        self.silence = silence_of(phone.carrier.audio_format)
        self._decoder = SoundDecoder(phone.carrier.answer_format)
        self._due = time.monotonic()

    def encoded(self, pcm: bytes) -> bytes:
        """Returns the sound in the carrier's format, up to the last that can be heard."""
        encoder = SoundEncoder(self.phone.carrier.audio_format)
        return encoder.push(pcm[: sounding_end(pcm) or len(pcm)]) + encoder.flush()

    async def tick(self, frame: bytes) -> bytes:
        """Waits for the next 20 ms, says ``frame``, filled up with silence, and returns what was heard."""
        self._due += FRAME_MS / 1000
        await asyncio.sleep(self._due - time.monotonic())
        return self._decoder.push(await self.phone.tick(frame + self.silence[len(frame) :]))
