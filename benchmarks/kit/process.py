"""Programs that a benchmark starts, each in a process of its own: the daemon that is measured, and helpers."""

import asyncio
import asyncio.subprocess
import contextlib
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from subprocess import DEVNULL, PIPE
from typing import Any

import psutil

__all__ = ["Program", "Redis", "running", "serving", "serving_command", "serving_redis"]

_ANSWER_LIMIT_S = 180.0
_STOP_LIMIT_S = 30.0


@dataclass(slots=True)
class Program:
    """A process of ours that can be told what to do by lines of text, and watched from outside."""

    process: asyncio.subprocess.Process
    figures: psutil.Process
    """What the kernel knows of it."""
    url: str = ""
    """Of a server: ``http://HOST:PORT``."""

    @property
    def port(self) -> int:
        """Of a server."""
        return int(self.url.rpartition(":")[2])

    async def ask(self, line: str = "") -> str:
        """Sends a line, if there is one, and reads a line; raises ``RuntimeError`` if the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if line:
            self.process.stdin.write(f"{line}\n".encode())
        async with asyncio.timeout(_ANSWER_LIMIT_S):
            answer = await self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a program of the benchmark ended at {line!r}")
        return answer.decode().strip()

    async def report(self) -> dict[str, Any]:
        """What it answers to ``report``: JSON."""
        figures: dict[str, Any] = json.loads(await self.ask("report"))
        return figures


@contextlib.asynccontextmanager
async def running(*arguments: str, core: int | None = None) -> AsyncIterator[Program]:
    """Runs ``python -m ARGUMENTS`` until the end of the block, on one core if it is given."""
    async with _running(sys.executable, "-m", *arguments, core=core) as program:
        yield program


@contextlib.asynccontextmanager
async def _running(
    *command: str, core: int | None = None, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environ)
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, [core])  # at once: its threads inherit it
        yield Program(process, psutil.Process(process.pid))
    finally:
        await _stop(process)


@contextlib.asynccontextmanager
async def serving(
    *flags: str, program: str | None = None, core: int | None = None, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """Runs ``bridge serve`` on free ports with ``flags``, or the module ``program``, whose first line is its port."""
    ours = ("bridge", "serve", "--port", "0", "--udp-port", "0", "--log-level", "error")
    module = ours if program is None else (program,)
    async with serving_command(sys.executable, "-m", *module, *flags, core=core, environ=environ) as server:
        yield server


@contextlib.asynccontextmanager
async def serving_command(
    *command: str, core: int | None = None, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """Runs a server whose first line is its port or has its URL; ``environ`` is in place of this process's own."""
    async with _running(*command, core=core, environ=environ) as server:
        line = await server.ask()
        server.url = next((word for word in line.split() if word.startswith("http")), f"http://127.0.0.1:{line}")
        server.url = server.url.rstrip("/")
        yield server


@dataclass(frozen=True, slots=True)
class Redis:
    """A Redis of the benchmark's own, with nothing kept on a disk."""

    port: int
    figures: psutil.Process

    @property
    def url(self) -> str:
        """As the setting ``redis_url`` has it."""
        return f"redis://127.0.0.1:{self.port}"

    async def commands(self) -> int:
        """How many commands it has carried out, those inside of scripts included, and without ``INFO``."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"INFO commandstats\r\nQUIT\r\n")
        async with asyncio.timeout(_ANSWER_LIMIT_S):
            text = (await reader.read()).decode()
        writer.close()
        found = re.findall(r"^cmdstat_(\S+):calls=(\d+)", text, re.MULTILINE)
        return sum(int(count) for name, count in found if name not in ("info", "ping"))


@contextlib.asynccontextmanager
async def serving_redis() -> AsyncIterator[Redis]:
    """Runs ``redis-server`` on a free port until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    flags = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    process = await asyncio.create_subprocess_exec("redis-server", *flags, stdout=DEVNULL)
    try:
        redis = Redis(port, psutil.Process(process.pid))
        async with asyncio.timeout(_STOP_LIMIT_S):
            while True:
                try:
                    await redis.commands()
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        yield redis
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        process.terminate()  # the daemon's grace period ends with the second one
    try:
        async with asyncio.timeout(_STOP_LIMIT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
