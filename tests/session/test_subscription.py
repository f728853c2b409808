"""Consumers inside the process: they get events and sound as what they are, and hurt nobody but themselves."""

import json
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

from bridge.session.fanout.subscription import TRACK_NAMES, TrackName
from bridge.wire import server_events as server
from bridge.wire.audio import G711_ULAW, PCM16, AudioFormat
from bridge.wire.own_events import CallClosed
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import ListenerStats
from tests.session.stage import MS, PART, Call


class Taker:
    """Keeps what it gets, and fails at what the test names."""

    def __init__(self, *, fails_at: str = "") -> None:
        self.events: list[ServerEvent] = []
        self.texts: list[bytes] = []
        self.sounds: list[tuple[TrackName, AudioFormat, int, int]] = []
        """Track, format, timestamp and size of each piece."""
        self.ends: list[Exception | None] = []
        self._fails_at = fails_at

    @property
    def types(self) -> list[str]:
        return [str(event.__struct_config__.tag) for event in self.events]

    def event(self, event: ServerEvent, text: bytes) -> None:
        self.events.append(event)
        self.texts.append(text)
        if self._fails_at == "event":
            raise RuntimeError("no")

    def sound(self, track: TrackName, audio_format: AudioFormat, pcm: bytes, timestamp: int) -> None:
        self.sounds.append((track, audio_format, timestamp, len(pcm)))
        if self._fails_at == "sound":
            raise RuntimeError("no")

    def ended(self, error: Exception | None) -> None:
        self.ends.append(error)
        if self._fails_at == "ended":
            raise RuntimeError("no")

    def listed(self) -> ListenerStats | None:
        return None


@pytest.fixture
def log() -> Iterator[list[EventDict]]:
    """What is logged, whatever another test has configured."""
    before = structlog.get_config()
    structlog.reset_defaults()
    with capture_logs() as lines:
        yield lines
    structlog.configure(**before)


async def test_events_come_as_structs_with_their_text() -> None:
    """From session.created to the end of the call; the text holds what the struct does not know."""
    call, taker = Call().connect(), Taker()
    call.session.audience.subscribe(taker)
    body = {"type": "input_audio_buffer.committed", "item_id": "item_1", "news": 1}
    call.upstream.downstream.deliver_event(server.InputAudioBufferCommitted(item_id="item_1"), body)
    call.session.close("hangup")
    assert taker.types == ["session.created", "input_audio_buffer.committed", "bridge.call.closed"]
    told = [json.loads(text) for text in taker.texts]
    assert [event["type"] for event in told] == taker.types
    assert [event["event_id"] for event in told[:2]] == [event.event_id for event in taker.events[:2]]
    assert told[1]["news"] == 1
    assert isinstance(taker.events[-1], CallClosed)
    assert (taker.sounds, taker.ends) == ([], [None])


@pytest.mark.parametrize("audio_format", [PCM16, G711_ULAW])
async def test_sound_comes_with_its_place_in_the_track(audio_format: AudioFormat) -> None:
    """Both tracks in the format that was asked for; the first piece counts what came before anybody subscribed."""
    call, taker = Call().connect(), Taker()
    call.leg.speak(bytes(20 * MS))
    call.session.audience.subscribe(taker, audio_format)
    for _ in range(50):
        call.leg.speak(bytes(20 * MS))
    call.answer(bytes(1000 * MS))
    call.finish_answer()
    call.session.close("hangup")
    for track, first in (("input", 20), ("output", 0)):
        at = first * audio_format.rate_hz // 1000
        for _, _, timestamp, size in (sound for sound in taker.sounds if sound[:2] == (track, audio_format)):
            assert timestamp == at
            at += size // audio_format.bytes_per_sample
        assert at == (first + 1000) * audio_format.rate_hz // 1000
    assert {(track, form) for track, form, _, _ in taker.sounds} == {("input", audio_format), ("output", audio_format)}


async def test_one_track_alone() -> None:
    """Who wants the caller's sound gets no other, and nothing else is made."""
    call, taker = Call().connect(), Taker()
    call.session.audience.subscribe(taker, G711_ULAW, tracks=TRACK_NAMES[:1])
    call.leg.speak(bytes(20 * MS))
    call.answer(bytes(1000 * MS))
    call.finish_answer()
    call.session.close("hangup")
    assert {track for track, _, _, _ in taker.sounds} == {"input"}


async def test_a_consumer_is_no_listener() -> None:
    """It takes no listener's place, stands in no list unless it wants to, and nothing is kept for it to come back."""
    call, taker = Call(max_listeners=0).connect(), Taker()
    subscription = call.session.audience.subscribe(taker, PCM16)
    kept_bytes = call.session.audience.hub.replay.kept_bytes
    call.leg.speak(bytes(20 * MS))
    assert call.session.audience.count == 0
    assert [listener.role for listener in call.session.stats().listeners] == ["peer"]
    assert call.session.audience.hub.replay.kept_bytes == kept_bytes
    subscription.cancel()
    subscription.cancel()
    call.leg.speak(bytes(20 * MS))
    call.session.close("hangup")
    assert (len(taker.sounds), taker.types, taker.ends) == (1, ["session.created"], [])


@pytest.mark.parametrize("at", ["event", "sound", "ended"])
async def test_a_consumer_that_fails_costs_nobody_else(at: str, log: list[EventDict]) -> None:
    """It is told of its end and gets no more, the log names the call, and everybody else goes on."""
    call, failing, other = Call().connect(), Taker(fails_at=at), Taker()
    call.session.audience.subscribe(failing, PCM16)
    call.session.audience.subscribe(other, PCM16)
    for _ in range(2):
        call.leg.speak(bytes(20 * MS))
    call.upstream.downstream.deliver_audio(PART, bytes(20 * MS))
    call.session.close("hangup")
    [line] = [line for line in log if line["event"] == "session.consumer_failed"]
    assert line["call_id"] == "rtc_1"
    assert len(failing.ends) == 1
    assert isinstance(failing.ends[0], RuntimeError) is (at != "ended")
    assert len(failing.sounds) == {"event": 0, "sound": 1, "ended": 3}[at]
    assert (len(other.sounds), other.types, other.ends) == (3, ["session.created", "bridge.call.closed"], [None])
    assert len(call.upstream.audio) == 40 * MS


async def test_who_comes_when_the_call_is_over_is_told_at_once() -> None:
    """There is nothing to wait for."""
    call, taker = Call(hangs=True).connect(), Taker()
    call.session.close("hangup")
    call.session.audience.subscribe(taker, PCM16)
    assert (taker.events, taker.ends) == ([], [None])
