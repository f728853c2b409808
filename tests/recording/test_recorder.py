"""Recordings: what happened in a call, in files that are complete or not there, at no cost to the call."""

import asyncio
import json
import os
import resource
import stat
import threading
import wave
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import to_builtins

from bridge.calls.registry import CallLimits, Registry
from bridge.calls.terms import Terms
from bridge.errors import BadRequest, ConfigError
from bridge.recording.files import RecordingFiles
from bridge.recording.recorder import EveryCall, Recorder
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.listener import Listener
from bridge.session.info import CallInfo
from bridge.session.session import Session
from bridge.wire import server_events as server
from bridge.wire.choices import Choices, EventFilter
from bridge.wire.message import EncodedMessage
from bridge.wire.stats import WEBRTC, ListenerRole
from tests.fakes import FakeLeg, FakeSink, FakeUpstream
from tests.machine import scaled
from tests.session.stage import MS, PART

OURS = Choices(events=EventFilter(["bridge"]))


class Watcher(FakeSink):
    """A socket that somebody waits at."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def send_message(self, message: EncodedMessage) -> None:
        super().send_message(message)
        self._news.set()

    async def until(self, name: str, number: int) -> dict[str, Any]:
        """The ``number``-th event of this name."""
        async with asyncio.timeout(scaled(10)):
            while len(self.of_type(name)) < number:
                self._news.clear()
                await self._news.wait()
        return self.of_type(name)[number - 1]


class House:
    """A registry with a recorder, one call, and somebody who watches all calls."""

    def __init__(self, folder: Path, *, sound_format: Any = "wav", records_all: bool = False) -> None:
        self.upstreams: list[FakeUpstream] = []
        self.registry = Registry(
            self._new_upstream, CallLimits(max_calls=5, max_listeners_per_call=0, call_limit_s=3600.0)
        )
        self.folder = folder
        self.thread = ThreadPoolExecutor(1)
        self.recorder = Recorder(
            str(folder), sound_format=sound_format, announce=self.registry.events.publish, thread=self.thread
        )
        self._records_all = records_all

    def _new_upstream(self, info: CallInfo) -> FakeUpstream:
        self.upstreams.append(FakeUpstream())
        return self.upstreams[-1]

    async def __aenter__(self) -> "House":
        await self.recorder.__aenter__()
        if self._records_all:
            self.registry.events.subscribe(EveryCall(self.recorder, self.registry.find))
        await self.registry.__aenter__()
        self.watcher = Watcher()
        self.registry.events.watch(self.watcher, Choices(), [])
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.registry.__aexit__(None, None, None)
        await self.recorder.__aexit__(None, None, None)

    def call(self) -> tuple[Session, FakeLeg]:
        session = self.registry.open(Terms(model="parrot"), transport=WEBRTC)
        port = session.legs.new_port()
        leg = FakeLeg(port)
        session.legs.connect_leg(leg, port)
        leg.connect(FakeSink())
        return session, leg

    async def ended(self, number: int = 1) -> dict[str, Any]:
        """What the watcher is told of the end of the ``number``-th recording."""
        return await self.watcher.until("bridge.recording.ended", number)

    async def written(self) -> None:
        """The thread has done all that it was given."""
        await asyncio.wrap_future(self.thread.submit(lambda: None))

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def sides(self, name: str) -> tuple[bytes, bytes]:
        with wave.open(str(self.folder / name)) as source:
            assert (source.getnchannels(), source.getframerate(), source.getsampwidth()) == (2, 24_000, 2)
            samples = np.frombuffer(source.readframes(source.getnframes()), "<i2").reshape(-1, 2)
        return samples[:, 0].tobytes(), samples[:, 1].tobytes()

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


def speak(leg: FakeLeg, pcm: bytes) -> None:
    for at in range(0, len(pcm), 20 * MS):
        leg.speak(pcm[at : at + 20 * MS])


async def test_both_sides_and_every_event(tmp_path: Path, speech_pcm: bytes) -> None:
    """The caller left, the answer right, whole; events as JSON lines with their time; both under the call's name."""
    async with House(tmp_path) as house:
        session, leg = house.call()
        recording = house.recorder.start(session)
        speak(leg, speech_pcm)
        house.upstreams[0].downstream.deliver_audio(PART, speech_pcm[::-1])
        house.upstreams[0].downstream.deliver_event(server.InputAudioBufferCommitted(item_id="item_1"))
        session.close("hangup")
        ended = await house.ended()
        assert ended["reason"] == "call_ended"
        assert ended["files"] == house.files()[::-1] == [f"{recording.name}.wav", f"{recording.name}.jsonl"]
        left, right = house.sides(ended["files"][0])
        assert speech_pcm in left
        assert len(right) == len(left)
        lines = house.lines(ended["files"][1])
    types = [line["event"]["type"] for line in lines]
    assert types == ["session.created", "input_audio_buffer.committed", "bridge.call.closed"]
    times = [line["at_ms"] for line in lines]
    assert times == sorted(times)
    assert recording.call_id in recording.name
    assert recording.id in recording.name


async def test_files_are_their_owners_alone_and_complete(tmp_path: Path, speech_pcm: bytes) -> None:
    """Until the end they are called ``.part``; nobody else may read them, not even then."""
    async with House(tmp_path) as house:
        session, leg = house.call()
        recording = house.recorder.start(session)
        speak(leg, speech_pcm)
        recording.hand_on()
        await house.written()
        assert house.files() == [f"{recording.name}.jsonl.part", f"{recording.name}.wav.part"]
        house.recorder.stop(session.info.id)
        await house.ended()
        assert house.files() == [f"{recording.name}.jsonl", f"{recording.name}.wav"]
        assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in house.files()} == {0o600}


async def test_what_is_written_while_the_call_runs(tmp_path: Path) -> None:
    """What has happened goes to the files four times a second: whatever kills the process, no more is lost with it."""
    async with House(tmp_path) as house:
        session, _ = house.call()
        house.recorder.start(session)
        for number in range(1, 3):
            tick = house.recorder._tick
            assert tick is not None
            assert tick.when() - house.recorder.now() <= 0.25
            house.upstreams[0].downstream.deliver_event(server.InputAudioBufferCommitted(item_id=f"item_{number}"))
            tick.cancel()
            house.recorder._hand_on()
            await house.written()
            assert len(house.lines(house.files()[0])) == 1 + number


async def test_a_recording_begins_and_ends_on_request(tmp_path: Path, speech_pcm: bytes) -> None:
    """In the middle of a call, once at a time, as often as wanted; who knows the bridge is told, nobody else."""
    async with House(tmp_path) as house:
        session, leg = house.call()
        ours, stock = FakeSink(), FakeSink()
        for sink, choices in ((ours, OURS), (stock, Choices())):
            session.audience.hub.add_listener(
                Listener(sink, role=ListenerRole.CONTROLLER, limits=Limits(), choices=choices)
            )
        speak(leg, speech_pcm)
        first = house.recorder.start(session)
        assert house.recorder.start(session) is first
        assert [listener.role for listener in session.stats().listeners].count(ListenerRole.RECORDER) == 1
        assert to_builtins(house.recorder.stop(session.info.id).stats())["state"] == "finishing"
        with pytest.raises(BadRequest):
            house.recorder.stop(session.info.id)
        second = house.recorder.start(session)
        assert second.name != first.name
        await house.ended()
        house.recorder.stop(session.info.id)
        assert (await house.ended(2))["reason"] == "requested"
        assert len(house.files()) == 4
        assert session.lifetime.state == "connected"
    told = {"bridge.recording.started": 2, "bridge.recording.ended": 2, "bridge.call.closed": 1}
    assert Counter(ours.types) == told
    assert stock.types == []


async def test_every_call_is_recorded_where_that_is_set(tmp_path: Path) -> None:
    """From its beginning, though no other listener is let in."""
    async with House(tmp_path, records_all=True) as house:
        for _ in range(3):
            house.call()
    assert len(house.files()) == 6
    assert not any(name.endswith(".part") for name in house.files())


async def test_what_was_cut_for_the_caller_is_not_in_the_recording(tmp_path: Path) -> None:
    """At an interruption the answer ends, on the right as in the caller's ear."""
    async with House(tmp_path) as house:
        session, _ = house.call()
        house.recorder.start(session)
        downstream = house.upstreams[0].downstream
        downstream.deliver_audio(PART, np.full(24 * 5000, 1000, "<i2").tobytes())
        downstream.deliver_event(server.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="item_2"))
        session.close("hangup")
        _, right = house.sides((await house.ended())["files"][0])
    assert np.count_nonzero(np.frombuffer(right, "<i2")) < 24 * 1000


@contextmanager
def _files_up_to(size: int) -> Iterator[None]:
    """The system refuses to make any file longer, as it does when there is no room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("sound_format", ["ogg", "wav"])
async def test_a_full_disk_ends_the_recording_and_nothing_else(
    tmp_path: Path, speech_pcm: bytes, sound_format: str
) -> None:
    """An event says what went wrong; no file comes under its name; the call goes on, and so do its events."""
    async with House(tmp_path, sound_format=sound_format) as house:
        session, leg = house.call()
        sink = FakeSink()
        session.audience.hub.add_listener(
            Listener(sink, role=ListenerRole.CONTROLLER, limits=Limits(), choices=Choices(events=OURS.events))
        )
        with _files_up_to(20_000):
            recording = house.recorder.start(session)
            for _ in range(30):
                leg.speak(speech_pcm)
                recording.hand_on()
            ended = await house.ended()
        assert (ended["reason"], ended["error"], ended["files"]) == ("failed", "File too large", [])
        assert to_builtins(recording.stats())["state"] == "failed"
        assert all(name.endswith(".part") for name in house.files())
        assert [listener.role for listener in session.audience.hub.listeners] == ["peer", "controller"]
        assert sink.types == ["bridge.recording.started", "bridge.recording.ended"]
        assert session.lifetime.state == "connected"
        speak(leg, speech_pcm)
        house.recorder.start(session)
        session.close("hangup")
        assert (await house.ended(2))["error"] is None


def test_no_file_of_somebody_else_is_touched(tmp_path: Path) -> None:
    """Where a name is taken, by a link even, nothing is written there, and nothing else is left open."""
    target = tmp_path / "precious"
    target.write_text("untouched")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in ("sound.wav.part", "lines.jsonl.part"):
            (tmp_path / name).symlink_to(target)
            with pytest.raises(FileExistsError):
                RecordingFiles(folder, name.partition(".")[0], "wav")
    finally:
        os.close(folder)
    assert target.read_text() == "untouched"


@pytest.mark.parametrize("name", ["missing", "file"])
async def test_a_folder_that_is_none(tmp_path: Path, name: str) -> None:
    """It stops the start, naming the setting."""
    (tmp_path / "file").write_text("")
    house = House(tmp_path / name)
    with pytest.raises(ConfigError) as caught:
        await house.recorder.__aenter__()
    assert caught.value.param == "record_dir"


async def test_a_slow_disk_costs_the_recording_sound_and_nobody_else(tmp_path: Path, speech_pcm: bytes) -> None:
    """While the thread does not keep up, what is on its way stays bounded; sound is dropped and that is on record."""
    async with House(tmp_path) as house:
        session, leg = house.call()
        recording = house.recorder.start(session)
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()
        blocked = house.thread.submit(lambda: asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10))
        most = 0
        for _ in range(80):
            leg.speak(speech_pcm)
            recording.hand_on()
            most = max(most, recording.buffered_bytes)
        assert recording.listed().dropped_ms > 10_000
        assert most < 32 * 1024 * 1024
        gate.set()
        await asyncio.wrap_future(blocked)
        session.close("hangup")
        ended = await house.ended()
        events = [line["event"] for line in house.lines(ended["files"][1])]
    assert events[0]["type"] == "session.created"
    told = [event for event in events if event["type"] == "bridge.listener.dropped"]
    assert sum(event["audio_ms"] for event in told) == recording.listed().dropped_ms
    assert sum(event["events"] for event in told) == recording.listed().dropped_events


async def test_a_recording_that_fails_by_itself_ends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in it is told as its failure; its files are given up, and the call goes on."""
    async with House(tmp_path) as house:
        session, leg = house.call()
        monkeypatch.setattr("bridge.recording.recorder.StereoTimeline", lambda rate_hz: object())
        house.recorder.start(session)
        leg.speak(bytes(20 * MS))
        ended = await house.ended()
        assert (ended["reason"], ended["error"], ended["files"]) == ("failed", "AttributeError", [])
        assert session.lifetime.state == "connected"
        assert session.stats().listeners[-1].role == "peer"
        await house.written()
    assert all(name.endswith(".part") for name in house.files())


async def test_watchers_hear_of_a_call_before_its_recording(tmp_path: Path) -> None:
    """Whoever looks a recording up finds the call that it is of."""
    async with House(tmp_path, records_all=True) as house:
        session, _ = house.call()
        session.close("hangup")
        await house.ended()
    types = [
        "bridge.calls",
        "bridge.call.opened",
        "bridge.recording.started",
        "bridge.call.closed",
        "bridge.recording.ended",
    ]
    assert house.watcher.types == types


async def test_a_disk_that_takes_nothing_ends_the_recording(tmp_path: Path, speech_pcm: bytes) -> None:
    """Events that wait for it are bounded: then the recording ends, says why, and the call goes on."""
    async with House(tmp_path) as house:
        session, leg = house.call()
        recording = house.recorder.start(session)
        gate = threading.Event()
        blocked = house.thread.submit(gate.wait, 10)
        while recording.buffered_bytes <= 4 * 1024 * 1024:
            leg.speak(speech_pcm)
            recording.hand_on()
        downstream = house.upstreams[0].downstream
        for _ in range(200):
            if recording.reason:
                break
            downstream.deliver_event(server.InputAudioBufferCommitted(item_id="i" * 10_000))
        assert (recording.reason, session.lifetime.state) == ("disk_too_slow", "connected")
        gate.set()
        await asyncio.wrap_future(blocked)
        ended = await house.ended()
        assert (ended["reason"], len(ended["files"])) == ("disk_too_slow", 2)
        assert "bridge.listener.dropped" not in {line["event"]["type"] for line in house.lines(ended["files"][1])}
