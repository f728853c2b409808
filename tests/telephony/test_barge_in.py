"""Speaking over an answer stops it, at once and where it was heard to."""

import asyncio
import json
from typing import Any

import pytest

from bridge.client.carriers.table import CARRIERS
from bridge.daemon import Daemon
from tests.end_to_end.event_log import outbound_sound
from tests.end_to_end.sound import match, resample, samples_of
from tests.end_to_end.web import EventSocket, open_socket
from tests.machine import scaled
from tests.telephony.calling import Caller, calling, dialling, session_of

pytestmark = [pytest.mark.slow, pytest.mark.alone]

_MOST_S = 0.040
"""From the moment at which the bridge knows that the caller speaks to the last sound of the answer at the caller's ear.

On top of it comes what the carrier takes itself, which is nothing here.
"""
_LIMIT_S = scaled(0.030)
_FRAME_MS = 20


class _Times:
    """When each event reached a listener."""

    def __init__(self, listener: EventSocket) -> None:
        self.events: list[tuple[float, dict[str, Any]]] = []
        self._add = listener.add
        listener.add = self._note  # type: ignore[method-assign]

    def _note(self, text: str | bytes) -> None:
        self.events.append((asyncio.get_running_loop().time(), json.loads(text)))
        self._add(text)

    def of(self, event_type: str) -> list[float]:
        return [at for at, event in self.events if event["type"] == event_type]


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_speaking_over_an_answer_stops_it(
    open_daemon: Daemon, carrier: Any, speech_pcm: bytes, short_pcm: bytes
) -> None:
    """Silence at most 40 ms after ``speech_started``, and the item is cut where the caller heard it end."""
    async with calling(dialling(open_daemon, carrier)) as caller:
        session = await session_of(open_daemon, caller)
        async with open_socket(open_daemon.url, f"call_id={session.info.id}&audio=pcm16") as listener:
            times = _Times(listener)
            caller.say(short_pcm)
            await listener.until("output_audio_buffer.started")
            caller.say(speech_pcm[: 48 * 1200] + bytes(48 * 1000))
            leg: Any = session.legs.current
            clear, known_at = leg.clear, list[float]()

            def cleared_now() -> Any:
                known_at.append(asyncio.get_running_loop().time())
                return clear()

            leg.clear = cleared_now
            await listener.until("input_audio_buffer.speech_started", number=2)
            cleared = await listener.until("output_audio_buffer.cleared")
            truncated = await listener.until("conversation.item.truncated")
            started_at = times.of("input_audio_buffer.speech_started")[1]
            stopped_at = _last_sound(caller, until=started_at + 1.0)
            known_at.append(started_at)
            delays_s = [
                delay_s
                for (at, _), delay_s in zip(caller.frames, caller.delays_s, strict=True)
                if known_at[0] <= at <= stopped_at + 0.1
            ]
            await listener.until("response.done", number=2)
    response_id = listener.of("response.created")[0]["response"]["id"]
    deltas = [event for event in listener.of("response.output_audio.delta") if event["response_id"] == response_id]
    rate_hz = caller.answer_format.rate_hz
    answer = resample(samples_of(outbound_sound(deltas)), 24_000, rate_hz)
    frames = len([at for at, _ in caller.frames if at <= stopped_at])
    began = match(caller.heard[: frames * rate_hz // 50], answer).lag
    heard_ms = frames * _FRAME_MS - 1000 * began / rate_hz
    assert stopped_at - min(known_at) <= _MOST_S + max(delays_s, default=0.0)
    assert abs(truncated["audio_end_ms"] - heard_ms) <= 2 * _FRAME_MS
    assert cleared["response_id"] == response_id
    assert caller.phone.carrier.complaints == []


def _last_sound(caller: Caller, *, until: float) -> float:
    """When the answer was last heard, the next answer left aside."""
    return max(at for at, _ in caller.sounding if at < until)


async def test_the_next_answer_is_whole(open_daemon: Daemon, short_pcm: bytes, speech_pcm: bytes) -> None:
    """What was thrown away comes neither before nor within what is answered to the interruption."""
    async with calling(dialling(open_daemon, "twilio")) as caller:
        session = await session_of(open_daemon, caller)
        async with open_socket(open_daemon.url, f"call_id={session.info.id}&audio=pcm16") as listener:
            caller.say(short_pcm)
            await listener.until("output_audio_buffer.started")
            caller.say(speech_pcm[48 * 2600 : 48 * 4200] + bytes(48 * 800))
            await listener.until("output_audio_buffer.cleared")
            cleared_at = len(caller.frames)
            await listener.until("output_audio_buffer.stopped")
    second = listener.of("response.created")[-1]["response"]["id"]
    deltas = [e for e in listener.of("response.output_audio.delta") if e["response_id"] == second]
    answer = resample(samples_of(outbound_sound(deltas)), 24_000, 8000)
    rest = caller.heard[160 * (cleared_at + 3) :]
    assert match(rest, answer).correlation > 0.95


async def test_a_controller_may_silence_it(open_daemon: Daemon, short_pcm: bytes) -> None:
    """``output_audio_buffer.clear`` clears the carrier's buffer as well."""
    async with calling(dialling(open_daemon, "twilio")) as caller:
        session = await session_of(open_daemon, caller)
        async with open_socket(open_daemon.url, f"call_id={session.info.id}") as listener:
            caller.say(short_pcm)
            await listener.until("output_audio_buffer.started")
            await listener.send({"type": "output_audio_buffer.clear"})
            cleared_at = asyncio.get_running_loop().time()
            await listener.until("output_audio_buffer.cleared")
            await caller.wait(lambda: caller.frames[-1][0] > cleared_at + 0.3, "silence")
    assert [at for at, _ in caller.sounding if at > cleared_at + _LIMIT_S] == []
