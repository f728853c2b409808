"""Deletes recordings, the oldest first, so that they are no older and no more than the settings say.

A recording goes with all of its files. One that is being written, or still waits to be uploaded, stays.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bridge.log import get_logger
from bridge.recording.files import NOTE_SUFFIX

__all__ = ["KeepFiles", "SweepResult", "Retention", "sweep"]

_log = get_logger("recorder")

_EVERY_S = 30.0
_FILE = re.compile(r"((?:rtc|sess)_[A-Za-z0-9]+-rec_[A-Za-z0-9]+)\.(?:[a-z0-9.]+)")
_MAX_TOLD = 50  # names in one line of the log


@dataclass(frozen=True, slots=True)
class KeepFiles:
    """How long recordings are kept, and how many bytes of them. None stands for ever, and for any size."""

    age_s: float | None = None
    size_bytes: int | None = None


@dataclass(slots=True)
class SweepResult:
    """What a look into the folder has found and done."""

    recordings: int = 0
    size_bytes: int = 0
    deleted: list[str] = field(default_factory=list)
    """The names of the recordings that were deleted."""
    failures: dict[str, str] = field(default_factory=dict)
    is_over: bool = False
    """Whether the recordings that must stay are more than the limit."""


@dataclass(slots=True)
class _Recording:
    name: str
    files: list[str] = field(default_factory=list)
    size_bytes: int = 0
    changed_at: float = 0.0
    must_stay: bool = False


class Retention:
    """Looks into a folder again and again, and deletes what is too old or too much.

    ``async with`` owns its thread, which waits for the disk.
    """

    def __init__(self, folder: str, keep: KeepFiles, *, every_s: float = _EVERY_S) -> None:
        self.keep = keep
        """How much is kept. It may be changed at any time."""
        self.kept = SweepResult()
        """What the last look has found."""
        self.deleted = 0
        """The number of recordings that were deleted since the start."""
        self._folder = folder
        self._every_s = every_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="retention")
        self._tasks = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Retention":
        await self._tasks.__aenter__()
        self._task = self._tasks.create_task(self._run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._tasks.__aexit__(None, None, None)
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                kept = await loop.run_in_executor(self._thread, sweep, self._folder, self.keep, time.time())
            except OSError as error:
                _log.error("recorder.retention_failed", error=str(error))
            else:
                self._tell(kept)
            await asyncio.sleep(self._every_s)

    def _tell(self, kept: SweepResult) -> None:
        was_over, self.kept = self.kept.is_over, kept
        self.deleted += len(kept.deleted)
        if kept.deleted:
            _log.info("recorder.deleted", count=len(kept.deleted), recordings=kept.deleted[:_MAX_TOLD])
        if kept.failures:
            failures = dict(list(kept.failures.items())[:_MAX_TOLD])
            _log.error("recorder.not_deleted", count=len(kept.failures), recordings=failures)
        if kept.is_over and not was_over:
            _log.warning("recorder.over_limit", size_bytes=kept.size_bytes, limit_bytes=self.keep.size_bytes)


def sweep(folder: str, keep: KeepFiles, now: float, *, unlink: Callable[[str], None] = os.unlink) -> SweepResult:
    """Deletes recordings that are too old, and the oldest of the others if there are too many bytes of them.

    ``now`` is Unix time.
    """
    found = sorted(_recordings(folder), key=lambda recording: recording.changed_at)
    kept = SweepResult(recordings=len(found), size_bytes=sum(recording.size_bytes for recording in found))
    for recording in found:
        is_old = keep.age_s is not None and now - recording.changed_at > keep.age_s
        is_much = keep.size_bytes is not None and kept.size_bytes > keep.size_bytes
        if recording.must_stay or not (is_old or is_much):
            continue
        try:
            for name in recording.files:
                unlink(os.path.join(folder, name))
        except OSError as error:
            kept.failures[recording.name] = error.strerror or str(error)
            continue
        kept.deleted.append(recording.name)
        kept.recordings -= 1
        kept.size_bytes -= recording.size_bytes
    kept.is_over = keep.size_bytes is not None and kept.size_bytes > keep.size_bytes
    return kept


def _recordings(folder: str) -> list[_Recording]:
    found: dict[str, _Recording] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _FILE.fullmatch(entry.name)
            if match is None:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # it was completed or deleted at this moment
                continue
            recording = found.setdefault(match[1], _Recording(match[1]))
            recording.files.append(entry.name)
            recording.size_bytes += status.st_size
            recording.changed_at = max(recording.changed_at, status.st_mtime)
            recording.must_stay |= entry.name.endswith((".part", NOTE_SUFFIX))
    return list(found.values())
