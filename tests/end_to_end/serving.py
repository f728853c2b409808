"""``bridge serve`` as a program beside a test: started, asked, stopped."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.machine import scaled
from tests.processes import clean_environ, started

__all__ = ["COMMAND", "LIMIT_S", "READY", "Serving", "bound_sockets", "free_port", "logged", "serving"]

COMMAND = (sys.executable, "-m", "bridge", "serve", "--max-loop-lag-ms", "0")  # other tests use the processor, too
READY = re.compile(
    r"bridge is ready: (https?://127\.0\.0\.1:(\d+)/)  media: UDP (\d+)(?:, \d+)*  "
    r"engine: (parrot|local|unused)(?:  workers: \d+)?(  \(no API key .*\))?\n"
)
LIMIT_S = scaled(15.0)
_GIVING = """
import os, sys
numbers = [os.dup(int(number)) for number in sys.argv[1].split()]  # none of them is where another one has to be
numbers = [os.dup2(number, 100 + at) for at, number in enumerate(numbers)]
for at, number in enumerate(numbers):
    os.dup2(number, 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(numbers)))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Serving:
    """A running daemon: its URL, its first line, its process and the log that it writes."""

    def __init__(self, process: asyncio.subprocess.Process, line: str, log: Path) -> None:
        match = READY.fullmatch(line)
        assert match, line + log.read_text()
        self.url = match[1]
        self.line = line
        self.engine = match[4]
        self.process = process
        self.udp_port = int(match[3])
        self.log_path = log

    @property
    def log(self) -> str:
        """All that it has logged until now."""
        return self.log_path.read_text()

    def log_lines(self) -> list[dict[str, Any]]:
        """The same, parsed."""
        return [json.loads(line) for line in self.log.splitlines()]

    def complaints(self) -> list[dict[str, Any]]:
        """The lines that tell of something wrong."""
        return [line for line in self.log_lines() if line["level"] not in ("debug", "info")]

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Sends a signal; the seconds until the daemon was gone, with exit code 0."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.process.send_signal(number)
        assert await asyncio.wait_for(self.process.wait(), LIMIT_S) == 0
        return loop.time() - began


@asynccontextmanager
async def serving(
    log: Path,
    *flags: str,
    before: tuple[str, ...] = (),
    engine: str = "parrot",
    stdin: int | None = None,
    sockets: Sequence[socket.socket] = (),
    **environ: str,
) -> AsyncIterator[Serving]:
    """A daemon on free ports that logs into the file ``log``; killed in the end, if it still runs.

    It gets ``sockets`` as systemd gives them to what it starts.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        numbers = [each.fileno() for each in sockets]
        giver = (sys.executable, "-c", _GIVING, " ".join(map(str, numbers))) if numbers else ()
        command = (*before, *giver, *COMMAND, "--port", "0", "--engine", engine, *flags)
        starting = started(*command, environ=clean_environ(**environ), stdin=stdin, stderr=descriptor, pass_fds=numbers)
        async with starting as process:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), LIMIT_S)
            yield Serving(process, line.decode(), log)
    finally:
        os.close(descriptor)


def bound_sockets(port: int) -> list[socket.socket]:
    """Those that a service manager holds: for TCP and for UDP."""
    tcp = socket.create_server(("127.0.0.1", port))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", port))
    return [tcp, udp]


def free_port() -> int:
    """Free for TCP and for UDP."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port


async def logged(daemon: Serving, event: str) -> dict[str, Any]:
    """The first line of the log with this event."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            for line in daemon.log_lines():
                if line["event"] == event:
                    return line
            await asyncio.sleep(0.01)
