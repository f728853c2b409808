"""Runs a scenario of this folder, or of another, in Node and collects what it prints, one observation a line."""

import asyncio
import fcntl
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from tests.end_to_end.event_log import EventLog
from tests.machine import scaled
from tests.processes import clean_environ, started

FOLDER = Path(__file__).parent
API_KEY = "sk-test"

WriteSound = Callable[[str], str]
"""Puts speech of a format into a file."""

_LINE_BYTES = 16 * 1024 * 1024  # an item with its sound
_LIMIT_S = scaled(18.0)
_INSTALL_LIMIT_S = scaled(300)


def install(folder: Path) -> None:
    """Installs the packages of ``folder`` as its lock file has them, unless they are; by one process at a time."""
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    with open(folder / "package.json") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
            return
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            pytest.fail("these tests need Node 20 or newer with npm: make node")
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S)
        if done.returncode:
            pytest.fail(f"npm ci in {folder} failed:\n{done.stderr}")


class Scenario(EventLog):
    """One run of a script: the server events that its SDK got, and under ``sdk.`` what the SDK made of them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        self._process = process

    async def read(self) -> None:
        """Collects until the script ends; fails where it failed, with its own words."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        async for line in self._process.stdout:
            self.add(line)
        complaint = await self._process.stderr.read()
        status = await self._process.wait()
        assert status == 0, f"{complaint.decode()}\ncame: {self.types[-30:]}"

    def tell(self, **command: Any) -> None:
        """For a script that takes commands, one a line, as JSON."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    def end_input(self) -> None:
        """For a script that runs until then."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    @property
    def refusals(self) -> list[Any]:
        """What should not be there in a conversation without mistakes."""
        return self.of("error", "sdk.error", "sdk.not_recognised")


@asynccontextmanager
async def running(*command: str, environ: dict[str, str], cwd: Path) -> AsyncIterator[Scenario]:
    """A program that runs beside the test and prints what it observes; at the end of the block it has ended, well."""
    async with started(*command, environ=environ, cwd=cwd, stdin=PIPE, limit=_LINE_BYTES) as process:
        observed = Scenario(process)
        reading = asyncio.create_task(observed.read())
        try:
            yield observed
            async with asyncio.timeout(_LIMIT_S):
                await reading
        except Exception:
            if reading.done():
                reading.result()  # the program's own complaint says more
            raise
        finally:
            if process.returncode is None:
                process.terminate()  # a browser that it has started ends with it
            await asyncio.wait([reading], timeout=_LIMIT_S)
            reading.cancel()


@asynccontextmanager
async def scenario(
    script: str,
    name: str,
    *,
    certificate: Path | None = None,
    folder: Path = FOLDER,
    command: tuple[str, ...] = ("node",),
    **inputs: Any,
) -> AsyncIterator[Scenario]:
    """A script of ``folder`` run by ``command`` beside the test; at the end of the block it has run to its own end."""
    environ = clean_environ(NODE_EXTRA_CA_CERTS=str(certificate or ""), NODE_NO_WARNINGS="1")
    async with running(*command, script, name, json.dumps(inputs), environ=environ, cwd=folder) as observed:
        yield observed


async def played_through(script: str, name: str, **inputs: Any) -> Scenario:
    """What a script printed from its beginning to its end."""
    async with scenario(script, name, **inputs) as observed:
        pass
    return observed
