"""How long recordings are kept, and how many: the oldest go first, whole, and never what still has to stay."""

import asyncio
import os
from pathlib import Path

from structlog.testing import capture_logs

from bridge.recording.retention import KeepFiles, Retention, sweep
from tests.machine import scaled

NOW = 1_800_000_000.0
KEEP_ALL = KeepFiles()


def record(folder: Path, number: int, *, age_s: float, size: int = 1000, suffixes: str = "ogg jsonl") -> str:
    """The files of one recording; its name."""
    name = f"rtc_{number}-rec_{number}"
    for suffix in suffixes.split():
        path = folder / f"{name}.{suffix}"
        path.write_bytes(bytes(size // 2))
        os.utime(path, (NOW - age_s, NOW - age_s))
    return name


def names(folder: Path) -> set[str]:
    """The recordings that are there."""
    return {path.name.partition(".")[0] for path in folder.iterdir()}


def test_too_old(tmp_path: Path) -> None:
    """Each goes with all of its files when it is older than allowed; encrypted ones, too."""
    old = record(tmp_path, 1, age_s=101), record(tmp_path, 2, age_s=5000, suffixes="wav.age jsonl.age")
    young = record(tmp_path, 3, age_s=99)
    kept = sweep(str(tmp_path), KeepFiles(age_s=100), NOW)
    assert sorted(kept.deleted) == sorted(old)
    assert names(tmp_path) == {young}
    assert (kept.recordings, kept.size_bytes, kept.is_over) == (1, 1000, False)


def test_too_much(tmp_path: Path) -> None:
    """The oldest go until what is left is no more than allowed."""
    recorded = [record(tmp_path, number, age_s=1000 - number) for number in range(6)]
    kept = sweep(str(tmp_path), KeepFiles(size_bytes=2500), NOW)
    assert kept.deleted == recorded[:4]
    assert names(tmp_path) == set(recorded[4:])


def test_what_must_stay(tmp_path: Path) -> None:
    """A recording that is being written, or waits to be uploaded, stays whatever the limits say; that is told."""
    running = record(tmp_path, 1, age_s=9000, suffixes="ogg.part jsonl.part")
    waiting = record(tmp_path, 2, age_s=9000, suffixes="ogg jsonl upload")
    record(tmp_path, 3, age_s=1)
    (tmp_path / "somebody else's").write_bytes(bytes(10_000))
    kept = sweep(str(tmp_path), KeepFiles(age_s=100, size_bytes=100), NOW)
    assert names(tmp_path) == {running, waiting, "somebody else's"}
    assert kept.is_over


def test_no_limit(tmp_path: Path) -> None:
    """Without a limit nothing is deleted, and how much there is is known."""
    record(tmp_path, 1, age_s=1e9)
    kept = sweep(str(tmp_path), KEEP_ALL, NOW)
    assert (kept.recordings, kept.size_bytes, kept.deleted) == (1, 1000, [])


def test_what_cannot_be_deleted(tmp_path: Path) -> None:
    """It is told, and the others go all the same."""
    stuck, gone = record(tmp_path, 1, age_s=300), record(tmp_path, 2, age_s=200)

    def unlink(path: str) -> None:
        if stuck in path:
            raise PermissionError(1, "Operation not permitted")
        os.unlink(path)

    kept = sweep(str(tmp_path), KeepFiles(age_s=100), NOW, unlink=unlink)
    assert kept.deleted == [gone]
    assert kept.failures == {stuck: "Operation not permitted"}


async def test_limits_change_while_it_runs(tmp_path: Path) -> None:
    """What is set anew counts at the next look."""
    record(tmp_path, 1, age_s=0)
    async with Retention(str(tmp_path), KEEP_ALL, every_s=0.01) as retention, asyncio.timeout(scaled(10.0)):
        while True:
            if retention.kept.recordings:
                break
            await asyncio.sleep(0.01)
        retention.keep = KeepFiles(size_bytes=10)
        while True:
            if retention.deleted:
                break
            await asyncio.sleep(0.01)
    assert names(tmp_path) == set()


async def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """It is told, and looked for again."""
    folder = tmp_path / "recordings"
    with capture_logs() as lines:
        async with Retention(str(folder), KEEP_ALL, every_s=0.01) as retention, asyncio.timeout(scaled(10.0)):
            while not lines:  # noqa: ASYNC110  # a thread looks
                await asyncio.sleep(0.01)
            assert lines[0]["event"] == "recorder.retention_failed"
            folder.mkdir()
            record(folder, 1, age_s=1)
            while not retention.kept.recordings:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
