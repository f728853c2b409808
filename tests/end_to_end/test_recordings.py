"""Recordings of real calls: both sides where they were heard, in files that others can play."""

import json
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bridge.errors import ConfigError
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.sound import Samples, match, resample, samples_of
from tests.end_to_end.web import open_socket, open_watch, request

pytestmark = pytest.mark.slow

_ONSET = 0.05  # of the loudest: where sound begins


def _sides(path: Path) -> tuple[Samples, Samples]:
    """Left and right at 24 kHz, decoded by FFmpeg."""
    with av.open(str(path), "r") as container:
        stream = container.streams.audio[0]
        frames = [frame.to_ndarray() for frame in container.decode(stream)]
        rate_hz, channels = stream.rate, stream.channels
    assert channels == 2
    samples = np.concatenate(frames, axis=1).astype(np.float64)
    left, right = samples if len(samples) == 2 else samples.reshape(-1, 2).T
    return resample(left, rate_hz, 24_000), resample(right, rate_hz, 24_000)


def _onset_ms(side: Samples) -> float:
    return float(np.argmax(np.abs(side) > _ONSET * np.max(np.abs(side)))) / 24


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("sound_format", ["ogg", "wav"])
async def test_a_call_from_beginning_to_end(
    serve_with: ServeWith, tmp_path: Path, short_pcm: bytes, sound_format: str
) -> None:
    """The caller is on the left and what it heard on the right, each at its time, and every event with its own."""
    settings: Any = {"record_dir": str(tmp_path), "record_calls": True, "record_format": sound_format}
    async with serve_with(**settings) as daemon, open_watch(daemon.url) as watch:
        async with RealPeer(daemon.url) as peer:
            started = await watch.until("bridge.recording.started")
            await peer.speak(short_pcm)
            await peer.until("output_audio_buffer.stopped")
            call_id, heard = peer.call_id, samples_of(peer.heard)
        ended = await watch.until("bridge.recording.ended")
    assert (ended["call_id"], ended["recording_id"]) == (call_id, started["recording_id"])
    assert (ended["reason"], ended["error"]) == ("call_ended", None)
    name = f"{call_id}-{ended['recording_id']}"
    assert ended["files"] == [f"{name}.{sound_format}", f"{name}.jsonl"]
    assert _names(tmp_path) == sorted(ended["files"])
    left, right = _sides(tmp_path / ended["files"][0])
    assert len(left) == len(right) == pytest.approx(24_000 * ended["seconds"], abs=24_000)
    spoken = match(left, samples_of(short_pcm))
    assert spoken.correlation > 0.9
    assert abs(match(right, heard).correlation) > 0.9
    lines = _lines(tmp_path / ended["files"][1])
    at_ms = {line["event"]["type"]: line["at_ms"] for line in reversed(lines)}
    assert -50 < at_ms["input_audio_buffer.speech_started"] - _onset_ms(left) < 700
    # The answer is the caller's own words with what was heard in the 300 ms before them.
    assert 150 < _onset_ms(right) - at_ms["output_audio_buffer.started"] < 400
    assert lines[0]["event"]["type"] == "session.created"
    assert lines[-1]["event"]["type"] == "bridge.call.closed"
    assert "response.done" in at_ms
    assert not any(name in at_ms for name in ("input_audio_buffer.append", "response.output_audio.delta"))


async def test_on_request(serve_with: ServeWith, tmp_path: Path, speech_pcm: bytes) -> None:
    """Begun and ended in the middle of a call, which goes on; a second request changes nothing."""
    async with serve_with(record_dir=str(tmp_path), record_format="wav") as daemon, open_watch(daemon.url) as watch:
        async with open_socket(daemon.url, "model=any") as owner:
            session_id = owner.events[0]["session"]["id"]
            door = f"{daemon.url}v1/calls/{session_id}/recording"
            nothing = await request("DELETE", door)
            assert (nothing.status, nothing.json["error"]["code"]) == (400, "not_recording")
            first = await request("POST", door)
            assert (first.status, first.json["state"], first.json["call_id"]) == (201, "recording", session_id)
            assert (await request("POST", door)).json["id"] == first.json["id"]
            call = (await request("GET", f"{daemon.url}v1/calls/{session_id}")).json
            assert [listener["role"] for listener in call["listeners"]] == ["owner", "recorder"]
            assert (await request("DELETE", door)).json["state"] == "finishing"
            ended = await watch.until("bridge.recording.ended")
            assert ended["reason"] == "requested"
            await owner.send({"type": "input_audio_buffer.clear"})
            await owner.until("input_audio_buffer.cleared")
            assert (await request("POST", f"{daemon.url}v1/calls/rtc_nobody/recording")).status == 404
    with wave.open(str(tmp_path / ended["files"][0])) as sound:
        assert sound.getnchannels() == 2
    assert _names(tmp_path) == sorted(ended["files"])


async def test_a_folder_that_is_none_stops_the_start(serve_with: ServeWith, tmp_path: Path) -> None:
    """Not the first call that is to be recorded."""
    with pytest.raises(ConfigError) as caught:
        async with serve_with(record_dir=str(tmp_path / "missing")):
            pass
    assert caught.value.param == "record_dir"
