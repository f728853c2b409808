"""Completes recordings that a killed process has left unfinished, as far as they go, when the next process starts."""

import fcntl
import os
import re
from dataclasses import dataclass, field

from bridge.media.ogg import MAX_PAGE_BYTES, ending
from bridge.recording.files import wav_head

__all__ = ["Leftovers", "finish_leftovers"]

_PART = re.compile(r"((?:rtc|sess)_[A-Za-z0-9]+-rec_[A-Za-z0-9]+\.(ogg|wav|jsonl)(\.age)?)\.part")
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_WAV_HEAD_BYTES = len(wav_head(0))
_WAV_FRAME_BYTES = 4
_BLOCK_BYTES = 65_536


@dataclass(slots=True)
class Leftovers:
    """The unfinished recordings that were found in the folder, and what became of them."""

    finished: list[str] = field(default_factory=list)
    """The files that are complete now, by their final names."""
    left: dict[str, str] = field(default_factory=dict)
    """The files that could not be finished and are still called ``.part``, with the reason."""


def finish_leftovers(folder: int) -> Leftovers:
    """Completes files that nobody is writing any more; never raises for a single file."""
    found = Leftovers()
    for part in sorted(os.listdir(folder)):
        match = _PART.fullmatch(part)
        if match is None:
            continue
        try:
            if _finish(folder, part, match[1], "age" if match[3] else match[2]):
                found.finished.append(match[1])
        except (OSError, ValueError) as error:
            found.left[part] = getattr(error, "strerror", None) or str(error)
    if found.finished:
        os.fsync(folder)
    return found


def _finish(folder: int, part: str, name: str, kind: str) -> bool:
    """Completes one file. Returns False if another process is writing it."""
    descriptor = os.open(part, _FLAGS, dir_fd=folder)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        size = os.fstat(descriptor).st_size
        if kind == "ogg":
            _end_ogg(descriptor, size)
        elif kind == "wav":
            _end_wav(descriptor, size)
        elif kind == "jsonl":
            os.ftruncate(descriptor, _end_of_lines(descriptor, size))
        elif not size:  # whole encrypted pieces can be read; the key is gone
            raise ValueError("there is nothing in it")
        os.fsync(descriptor)
        os.link(part, name, src_dir_fd=folder, dst_dir_fd=folder)  # unlike a rename it replaces nothing
        os.unlink(part, dir_fd=folder)
    finally:
        os.close(descriptor)
    return True


def _end_ogg(descriptor: int, size: int) -> None:
    """Makes the last whole page the stream's end, and cuts off what follows it."""
    start = max(0, size - 2 * MAX_PAGE_BYTES)
    found = ending(os.pread(descriptor, size - start, start))
    if found is None:
        raise ValueError("there is no whole page in it")
    at, page = found
    os.pwrite(descriptor, page, start + at)
    os.ftruncate(descriptor, start + at + len(page))


def _end_wav(descriptor: int, size: int) -> None:
    samples = size - _WAV_HEAD_BYTES
    if samples < 0:
        raise ValueError("its head is not complete")
    samples -= samples % _WAV_FRAME_BYTES
    os.ftruncate(descriptor, _WAV_HEAD_BYTES + samples)
    os.pwrite(descriptor, wav_head(samples), 0)


def _end_of_lines(descriptor: int, size: int) -> int:
    """Returns the end of the last line that is complete."""
    while size:
        start = max(0, size - _BLOCK_BYTES)
        newline = os.pread(descriptor, size - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        size = start
    return 0
