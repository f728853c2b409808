"""Reads what a worker writes, line by line, and puts it into the log of all workers.

A worker writes its log itself, with its number in each line. Whatever else comes out of the process, such as the last
words of a crash in C, gets a line of the log around it if the log is JSON, so that each line stays readable.
"""

import asyncio
import os
from collections.abc import Callable

__all__ = ["Output"]

_READ_BYTES = 64 * 1024
_LONGEST_LINE = 256 * 1024
_TURNS = 16  # reads at a time, so that a worker that writes very much does not keep the others waiting


class Output:
    """The standard output and error of one worker, as a pipe. Lines go to ``write``, strange ones to ``tell``."""

    def __init__(self, write: Callable[[str], object], tell: Callable[[str], object], *, is_json: bool) -> None:
        self._write = write
        self._tell = tell
        self._is_json = is_json
        self._rest = b""
        self._reader, self.end = os.pipe()
        """``end`` is the worker's. Whoever has started the worker closes it here."""
        os.set_blocking(self._reader, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self._read_some)

    def finish(self) -> None:
        """Reads all that the worker has left behind, and closes the pipe; to be called when it has ended."""
        while self._reader >= 0 and self._read():
            pass
        self._close()

    def _read_some(self) -> None:
        for _ in range(_TURNS):
            if not self._read():
                return

    def _read(self) -> bool:
        """Reads once; returns whether there may be more."""
        try:
            data = os.read(self._reader, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close()
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._pass_on(line)
        return True

    def _pass_on(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace")
        if self._is_json and not (text.startswith("{") and text.endswith("}")):
            if text.strip():
                self._tell(text)
        else:
            self._write(f"{text}\n")

    def _close(self) -> None:
        if self._reader < 0:
            return
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        self._reader = -1
        if self._rest:
            self._pass_on(self._rest)
            self._rest = b""
