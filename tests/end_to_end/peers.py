"""Stock aiortc peers in a process of their own: encrypting and encoding for twenty callers takes a whole core.

Run as ``python -m tests.end_to_end.peers URL COUNT WAV SILENCE_MS``: the calls' ids come as one JSON line when all are
connected. Then each line ``speak`` makes all of them say the file and so much silence; one more line says when each has
had its answer. They hang up at the end of the input.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import PIPE

import aioice.ice

from bridge.client.sound import read_sound
from tests.end_to_end.real_peer import RealPeer
from tests.machine import scaled
from tests.processes import started

__all__ = ["Peers", "peers"]

_LIMIT_S = scaled(60.0)


class Peers:
    """The peers of one such process; ``call_ids`` in the order in which they connected."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.call_ids: list[str] = []
        self._process = process

    async def read(self) -> object:
        """The next line; fails with the process's own words if it has ended."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        async with asyncio.timeout(_LIMIT_S):
            line = await self._process.stdout.readline()
            assert line, (await self._process.stderr.read()).decode()
        told: object = json.loads(line)
        return told

    async def speak(self) -> None:
        """All say the recording at once; returns when all have been answered."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"speak\n")
        await self.read()


@contextlib.asynccontextmanager
async def peers(url: str, count: int, sound: Path, *, silence_ms: int) -> AsyncIterator[Peers]:
    """``count`` peers that have called the daemon at ``url``."""
    command = (sys.executable, "-m", "tests.end_to_end.peers", url, str(count), str(sound), str(silence_ms))
    async with started(*command, stdin=PIPE) as process:
        crowd = Peers(process)
        told = await crowd.read()
        assert isinstance(told, list)
        crowd.call_ids += told
        yield crowd


def _tell(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def _main(url: str, count: int, sound: str, silence_ms: int) -> None:
    pcm = read_sound(sound) + bytes(2 * 24 * silence_ms)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with contextlib.AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(RealPeer(url)) for _ in range(count)]
        _tell([peer.call_id for peer in crowd])
        turns = 0
        async for _ in lines:
            turns += 1
            async with asyncio.TaskGroup() as speaking:
                for peer in crowd:
                    speaking.create_task(peer.speak(pcm))
            for peer in crowd:
                await peer.until("response.done", number=turns)
            _tell(turns)


if __name__ == "__main__":
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # which it would leave out
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
