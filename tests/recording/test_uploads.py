"""Recordings that go to an object store: each once at least, none lost by a store or a process that fails."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.errors import ConfigError
from bridge.recording.uploads import Uploader, UploadNote, new_store
from bridge.wire.own_events import RecordingUploaded
from tests.machine import scaled

URL = "s3://calls/2026"


def complete(folder: Path, number: int) -> str:
    """A recording that is to be uploaded; its name."""
    name = f"rtc_{number}-rec_{number}"
    files = [f"{name}.ogg", f"{name}.jsonl"]
    for file in files:
        (folder / file).write_bytes(file.encode())
    note = UploadNote(
        call_id=f"rtc_{number}", recording_id=f"rec_{number}", reason="requested", seconds=1.5, files=files
    )
    (folder / f"{name}.upload").write_bytes(msgspec.json.encode(note))
    return name


class Store:
    """A store that keeps what it is given, unless it is told to fail."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.failures = 0
        """How often it fails from now on."""
        self.tries = 0

    async def put(self, name: str, path: Path) -> None:
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the store is away")
        self.kept[name] = await asyncio.to_thread(path.read_bytes)


class Stage:
    """An uploader, its store, and what was announced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store()
        self.told: list[RecordingUploaded] = []
        self._news = asyncio.Event()

    def _announce(self, event: RecordingUploaded) -> None:
        self.told.append(event)
        self._news.set()

    @asynccontextmanager
    async def uploading(self, **options: float) -> AsyncIterator[Uploader]:
        """One process's life."""
        async with Uploader(str(self.folder), URL, self.store.put, self._announce, **options) as uploader:
            yield uploader

    async def until_told(self, number: int) -> None:
        async with asyncio.timeout(scaled(15.0)):
            while len(self.told) < number:
                self._news.clear()
                await self._news.wait()

    async def until_empty(self) -> None:
        async with asyncio.timeout(scaled(15.0)):
            while True:
                if not os.listdir(self.folder):
                    return
                await asyncio.sleep(0.01)

    async def until_done(self, uploader: Uploader) -> None:
        """Until nothing is left here, and the uploader has counted the last of it."""
        await self.until_empty()
        async with asyncio.timeout(scaled(15.0)):
            while uploader.waiting:  # noqa: ASYNC110 (there is no event for it)
                await asyncio.sleep(0.01)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """With an empty folder."""
    return Stage(tmp_path)


async def test_uploaded_told_and_deleted_here(stage: Stage) -> None:
    """All files are in the store under their names, the event has their addresses, and nothing is left here."""
    name = complete(stage.folder, 1)
    async with stage.uploading() as uploader:
        await stage.until_done(uploader)
        assert (uploader.uploaded, uploader.failures, uploader.waiting) == (1, 0, 0)
    [event] = stage.told
    assert event.urls == [f"{URL}/{name}.ogg", f"{URL}/{name}.jsonl"]
    assert (event.call_id, event.recording_id, event.reason, event.seconds) == ("rtc_1", "rec_1", "requested", 1.5)
    assert stage.store.kept == {file: file.encode() for file in event.files}


async def test_what_comes_while_it_runs(stage: Stage) -> None:
    """It is uploaded when its recorder says that it is complete."""
    async with stage.uploading() as uploader:
        for number in range(1, 8):
            complete(stage.folder, number)
            uploader.wake()
            await stage.until_told(number)
    assert [event.call_id for event in stage.told] == [f"rtc_{number}" for number in range(1, 8)]


async def test_a_store_that_fails(stage: Stage) -> None:
    """It is asked again, later each time; the recording stays until it has it, and is told once."""
    complete(stage.folder, 1)
    stage.store.failures = 4
    async with stage.uploading(first_wait_s=0.01) as uploader:
        await stage.until_done(uploader)
        assert uploader.failures == 4
    assert len(stage.told) == 1
    assert stage.store.tries == 4 + 2


async def test_one_that_fails_keeps_no_other(stage: Stage) -> None:
    """A note that cannot be read, and a file that is gone, are passed by."""
    broken, gone = complete(stage.folder, 1), complete(stage.folder, 2)
    (stage.folder / f"{broken}.upload").write_text("{")
    (stage.folder / f"{gone}.jsonl").unlink()
    complete(stage.folder, 3)
    async with stage.uploading():
        await stage.until_told(1)
    assert [event.call_id for event in stage.told] == ["rtc_3"]
    assert (stage.folder / f"{broken}.upload").exists()


async def test_the_queue_outlives_the_process(stage: Stage) -> None:
    """What one process could not upload, the next one does; what is being written is left alone."""
    complete(stage.folder, 1)
    running = complete(stage.folder, 2)
    (stage.folder / f"{running}.ogg").rename(stage.folder / f"{running}.ogg.part")
    stage.store.failures = 1000
    async with stage.uploading(), asyncio.timeout(scaled(15.0)):
        while True:
            if stage.store.tries:
                break
            await asyncio.sleep(0.01)
    stage.store.failures = 0
    async with stage.uploading():
        await stage.until_told(1)
    assert [event.call_id for event in stage.told] == ["rtc_1"]


async def test_one_of_two_processes_uploads(stage: Stage) -> None:
    """Whoever holds the note's lock has it; the other one passes by."""
    name = complete(stage.folder, 1)
    with (stage.folder / f"{name}.upload").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        complete(stage.folder, 2)
        async with stage.uploading():
            await stage.until_told(1)
    assert [event.call_id for event in stage.told] == ["rtc_2"]


@pytest.mark.parametrize("url", ["s3://", "ftp://files/2026"])
def test_a_store_that_is_none(url: str) -> None:
    """The start is refused, and the setting named."""
    with pytest.raises(ConfigError, match="record_upload"):
        new_store(url)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    modules: dict[str, Any] = {"obstore": None}
    for name, module in modules.items():
        monkeypatch.setitem(__import__("sys").modules, name, module)
    with pytest.raises(ConfigError, match=r"bridge-realtime\[upload\]"):
        new_store(URL)
