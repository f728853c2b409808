"""``bridge serve`` as a program beside a test: started, asked, stopped."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.machine import scaled
from tests.processes import clean_environ, started

__all__ = ["COMMAND", "LIMIT_S", "READY", "Serving", "serving"]

COMMAND = (sys.executable, "-m", "bridge", "serve", "--max-loop-lag-ms", "0")  # other tests use the processor, too
READY = re.compile(
    r"bridge is ready: (https?://127\.0\.0\.1:(\d+)/)  media: UDP (\d+)  engine: (parrot|local)(  \(no API key .*\))?\n"
)
LIMIT_S = scaled(15.0)


class Serving:
    """A running daemon: its URL, its first line, its process and the log that it writes."""

    def __init__(self, process: asyncio.subprocess.Process, line: str, log: Path) -> None:
        match = READY.fullmatch(line)
        assert match, line + log.read_text()
        self.url = match[1]
        self.line = line
        self.engine = match[4]
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """All that it has logged until now."""
        return self._log.read_text()

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
    **environ: str,
) -> AsyncIterator[Serving]:
    """A daemon on free ports that logs into the file ``log``; killed in the end, if it still runs."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        command = (*before, *COMMAND, "--port", "0", "--engine", engine, *flags)
        starting = started(*command, environ=clean_environ(**environ), stdin=stdin, stderr=descriptor)
        async with starting as process:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), LIMIT_S)
            yield Serving(process, line.decode(), log)
    finally:
        os.close(descriptor)
