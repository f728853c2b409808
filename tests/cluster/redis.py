"""A real Redis beside a test: Debian's, on a port of its own, with nothing kept on a disk.

The environment variable ``TESTS_REDIS_SERVER`` names another program, such as Valkey's or an older Redis.
"""

import asyncio
import asyncio.subprocess
import os
import signal
import socket
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from bridge.cluster.store import SharedStore
from tests.machine import scaled
from tests.processes import started

__all__ = ["SECRET", "RunningRedis", "free_port", "redis_running", "until"]

SECRET = "a secret of the tests, long enough"
_LIMIT_S = scaled(10.0)
_PROGRAM = os.environ.get("TESTS_REDIS_SERVER", "redis-server")


class RunningRedis:
    """A server that can be killed and started again on its port, empty."""

    def __init__(self, port: int, *flags: str) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}"
        self._flags = flags
        self._process: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """It runs inside the block, and is killed at its end."""
        flags = ("--port", str(self.port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1", *self._flags)
        async with started(_PROGRAM, *flags, stdout=DEVNULL, stderr=DEVNULL) as self._process:
            async with asyncio.timeout(_LIMIT_S):
                await self._answers()
            yield

    def stop(self) -> None:
        """Has it stand still: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets it go on, with all that it knew."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it runs"
        self._process.send_signal(number)

    async def _answers(self) -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"PING\r\n")
                answer = await reader.readline()
                writer.close()
                if answer.startswith((b"+PONG", b"-CLUSTERDOWN")):
                    return
            await asyncio.sleep(0.02)

    def store(self, name: str = "bridge", *, timeout_s: float = scaled(1.0)) -> SharedStore:
        """What a process of a cluster asks it with."""
        return SharedStore(self.url, name, timeout_s=min(timeout_s, 10.0))


def free_port() -> int:
    """One that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def redis_running(*flags: str) -> AsyncIterator[RunningRedis]:
    """A server, for the time of the block."""
    running = RunningRedis(free_port(), *flags)
    async with running.serving():
        yield running


async def until(is_so: Callable[[], Awaitable[bool]], limit_s: float = _LIMIT_S) -> None:
    """Asks until it is so."""
    async with asyncio.timeout(limit_s):
        while not await is_so():  # noqa: ASYNC110  # another process changes it
            await asyncio.sleep(0.02)
