"""Recordings that a killed process has left unfinished: completed as far as they go when the next one starts."""

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
    """What was found in the folder."""

    finished: list[str] = field(default_factory=list)
    """Files that are complete now, by their final names."""
    left: dict[str, str] = field(default_factory=dict)
    """Files that could not be finished and are still called ``.part``, with the reason."""


def finish_leftovers(folder: int) -> Leftovers:
    """Completes what nobody is writing any more; never raises for a single file."""
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
    """False if the file is being written by another process."""
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
        elif not size:  # of what is encrypted, whole pieces can be read; the key is gone with the process
            raise ValueError("there is nothing in it")
        os.fsync(descriptor)
        os.link(part, name, src_dir_fd=folder, dst_dir_fd=folder)  # unlike a rename it replaces nothing
        os.unlink(part, dir_fd=folder)
    finally:
        os.close(descriptor)
    return True


def _end_ogg(descriptor: int, size: int) -> None:
    """The last whole page is the stream's end; what is behind it was cut off in the middle."""
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
    """Behind the last line that is complete."""
    while size:
        start = max(0, size - _BLOCK_BYTES)
        newline = os.pread(descriptor, size - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        size = start
    return 0
