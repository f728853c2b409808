"""What a killed process has left of its recordings, and what the next one makes of it."""

import asyncio
import fcntl
import json
import os
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pyrage
import pytest

from bridge.recording.age import read_recipient
from bridge.recording.files import Format, RecordingFiles
from bridge.recording.leftovers import finish_leftovers
from tests.recording.test_recorder import House, speak

_NAME = "rtc_1-rec_1"
_SECOND = bytes(2 * 24_000)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """The directory, opened."""
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def _killed(folder: int, sound_format: Format, *, seconds: int, lines: bytes = b'{"at_ms":0}\n') -> None:
    """A recording as it is when its process is killed: what was written is there, nothing is closed in order."""
    files = RecordingFiles(folder, _NAME, sound_format)
    for _ in range(seconds):
        files.write(_SECOND, _SECOND, lines)
    for file in files._files.values():  # what the process held back is gone with it
        held = os.open(os.devnull, os.O_WRONLY)
        os.dup2(held, file.fileno())
        os.close(held)
        file.close()


def _names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def _seconds(path: Path) -> float:
    if path.suffix == ".wav":
        with wave.open(str(path)) as source:
            return float(source.getnframes() / source.getframerate())
    with av.open(str(path)) as container:
        return float(sum(frame.samples for frame in container.decode(audio=0)) / 48_000)


@pytest.mark.parametrize("sound_format", ["wav", "ogg"])
def test_what_was_written_is_there_and_is_finished(tmp_path: Path, folder: int, sound_format: Format) -> None:
    """All sound and all events up to the last write, in files that any player opens, under their final names."""
    _killed(folder, sound_format, seconds=3)
    assert _names(tmp_path) == sorted((f"{_NAME}.{sound_format}.part", f"{_NAME}.jsonl.part"))
    found = finish_leftovers(folder)
    assert sorted(found.finished) == _names(tmp_path) == sorted((f"{_NAME}.{sound_format}", f"{_NAME}.jsonl"))
    assert found.left == {}
    assert 2.95 <= _seconds(tmp_path / f"{_NAME}.{sound_format}") <= 3.0
    assert (tmp_path / f"{_NAME}.jsonl").read_bytes() == b'{"at_ms":0}\n' * 3
    assert finish_leftovers(folder).finished == []


@pytest.mark.parametrize("cut", [1, 7, 100, 1000])
@pytest.mark.parametrize("sound_format", ["wav", "ogg"])
def test_what_broke_off_in_the_middle(tmp_path: Path, folder: int, sound_format: Format, cut: int) -> None:
    """Half a sample, half a page, half a line at the end are cut off; the rest is whole."""
    _killed(folder, sound_format, seconds=3, lines=json.dumps({"at_ms": 0, "event": "x" * 400}).encode() + b"\n")
    for part in tmp_path.iterdir():
        os.truncate(part, part.stat().st_size - cut)
    assert len(finish_leftovers(folder).finished) == 2
    assert 1.9 <= _seconds(tmp_path / f"{_NAME}.{sound_format}") <= 3.0
    text = (tmp_path / f"{_NAME}.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    assert len([json.loads(line) for line in text.splitlines()]) == (0 if cut > 850 else 1 if cut > 430 else 2)


def test_what_cannot_be_finished_is_told_and_left(tmp_path: Path, folder: int) -> None:
    """Files without a beginning, links, and names that are taken stay as they are, each with its reason."""
    (tmp_path / "precious").write_text("untouched\nhalf")
    (tmp_path / "rtc_1-rec_1.ogg.part").write_bytes(b"OggS")
    (tmp_path / "rtc_1-rec_2.wav.part").write_bytes(b"RIFF")
    (tmp_path / "rtc_1-rec_3.jsonl.part").symlink_to(tmp_path / "precious")
    (tmp_path / "rtc_1-rec_4.jsonl.part").write_text("{}\n")
    (tmp_path / "rtc_1-rec_4.jsonl").write_text("taken")
    (tmp_path / "rtc_1-rec_5.jsonl.part").mkdir()
    before = _names(tmp_path)
    found = finish_leftovers(folder)
    assert found.finished == []
    assert sorted(found.left) == [name for name in before if name.endswith(".part")]
    assert all(found.left.values())
    assert _names(tmp_path) == before
    assert (tmp_path / "precious").read_text() == "untouched\nhalf"
    assert (tmp_path / "rtc_1-rec_4.jsonl").read_text() == "taken"


def test_files_of_others_are_left_alone(tmp_path: Path, folder: int) -> None:
    """What another process is writing is not finished under its hands, and what is no recording is not touched."""
    files = RecordingFiles(folder, _NAME, "wav")
    files.write(_SECOND, _SECOND, b"{}\n")
    (tmp_path / "movie.mkv.part").write_text("half")
    (tmp_path / "rtc_..-rec_1.jsonl.part").write_text("half")
    before = _names(tmp_path)
    found = finish_leftovers(folder)
    assert (found.finished, found.left) == ([], {})
    assert _names(tmp_path) == before
    files.end()
    assert _seconds(tmp_path / f"{_NAME}.wav") == 1.0


def test_a_writer_holds_its_files(tmp_path: Path, folder: int) -> None:
    """The lock is there as long as the recording runs."""
    files = RecordingFiles(folder, _NAME, "wav")
    with open(tmp_path / f"{_NAME}.jsonl.part", "rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files.abandon()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_the_next_start_finishes_and_tells(tmp_path: Path, folder: int, capfd: Any) -> None:
    """The recorder completes what it finds before it records anything, and the log names the files."""
    await asyncio.to_thread(_killed, folder, "wav", seconds=1)
    (tmp_path / "rtc_1-rec_2.wav.part").write_bytes(b"RIFF")
    async with House(tmp_path) as house:
        assert f"{_NAME}.wav" in house.files()
        session, leg = house.call()
        house.recorder.start(session)
        speak(leg, _SECOND)
        session.close("hangup")
        await house.ended()
    log = capfd.readouterr()
    told = [line for line in (log.out + log.err).splitlines() if "recorder." in line]
    assert any("recorder.recovered" in line and f"{_NAME}.wav" in line for line in told)
    assert any("recorder.left_unfinished" in line and "rtc_1-rec_2.wav.part" in line for line in told)


def test_what_is_encrypted_can_be_read_as_far_as_it_goes(tmp_path: Path, folder: int) -> None:
    """Its key is gone with the process, so nothing can be added to it; what was written is under the final name."""
    identity = pyrage.x25519.Identity.generate()
    files = RecordingFiles(folder, _NAME, "wav", [read_recipient(str(identity.to_public()))])
    files.write(_SECOND, _SECOND, b'{"at_ms":0}\n')
    files.abandon()
    written = (tmp_path / f"{_NAME}.wav.age.part").read_bytes()
    assert len(written) > 64 * 1024
    found = finish_leftovers(folder)
    assert sorted(found.finished) == _names(tmp_path) == [f"{_NAME}.jsonl.age", f"{_NAME}.wav.age"]
    assert (tmp_path / f"{_NAME}.wav.age").read_bytes() == written
