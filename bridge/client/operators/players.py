"""Plays sound with a program of the system that takes it from its standard input, in a process of its own."""

import asyncio
import shlex
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bridge.client.address import CallFailed
from bridge.wire.audio import SESSION_HZ

__all__ = ["PlayerProcess", "playing"]

_HZ = str(SESSION_HZ)
_PLAYERS = (
    ("pw-cat", "--playback", "--rate", _HZ, "--channels", "2", "--format", "s16", "-"),
    ("paplay", "--raw", "--rate", _HZ, "--channels", "2", "--format", "s16le"),
    ("aplay", "-q", "-t", "raw", "-r", _HZ, "-c", "2", "-f", "S16_LE", "-"),
    ("ffplay", "-loglevel", "error", "-nodisp", "-autoexit", "-f", "s16le", "-ar", _HZ, "-ac", "2", "-i", "-"),
    ("play", "-q", "-t", "raw", "-r", _HZ, "-c", "2", "-e", "signed", "-b", "16", "-"),
)
"""The players of PipeWire, PulseAudio, ALSA, FFmpeg and SoX, in this order. Each takes stereo PCM16 at 24 kHz."""

_WRITE_TIMEOUT_S = 2.0
_END_TIMEOUT_S = 5.0


class PlayerProcess:
    """A program that plays sound.

    If it has ended, or takes nothing for two seconds, nothing is written to it any more.
    """

    def __init__(self, process: Process, name: str) -> None:
        self.name = name
        self._process = process
        self._is_stuck = False

    @property
    def is_gone(self) -> bool:
        """Whether it has stopped playing."""
        return self._is_stuck or self._process.returncode is not None

    async def write(self, stereo: bytes) -> None:
        """Hands sound to the program; never raises."""
        pipe = self._process.stdin
        if self.is_gone or pipe is None or pipe.is_closing():  # uvloop would raise something that is no OSError
            return
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                pipe.write(stereo)
                await pipe.drain()
        except (OSError, TimeoutError):
            self._is_stuck = True


@asynccontextmanager
async def playing(command: str | None) -> AsyncIterator[PlayerProcess]:
    """Starts the first player that this machine has, or ``command``.

    At the end of the block it plays what it still has, and ends. Raises ``CallFailed`` if there is none.
    """
    words = shlex.split(command) if command else next((row for row in _PLAYERS if shutil.which(row[0])), ())
    if not words:
        names = ", ".join(row[0] for row in _PLAYERS)
        raise CallFailed(f"No player was found ({names}): install one, name one with --player, or use --save FILE.wav.")
    try:
        process = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL)
    except OSError as error:
        raise CallFailed(f"{words[0]} cannot be started: {error.strerror}.") from None
    try:
        yield PlayerProcess(process, words[0])
    finally:
        await _end(process)


async def _end(process: Process) -> None:
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.close()
    try:
        async with asyncio.timeout(_END_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
