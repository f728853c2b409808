"""Programs that run beside a test, and are gone when it ends, however it ends."""

import asyncio
import asyncio.subprocess
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

from tests.machine import scaled

__all__ = ["IGNORING_INTERRUPTS", "ROOT", "clean_environ", "ran", "started"]

ROOT = Path(__file__).parents[1]
IGNORING_INTERRUPTS = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")
"""Before a command: starts it with SIGINT ignored, as shells do for what runs in the background."""

_LIMIT_S = scaled(20.0)


def clean_environ(**more: str) -> dict[str, str]:
    """This environment without settings of the bridge and keys of services, and with ``more``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BRIDGE_", "OPENAI_"))}
    return {**kept, **more}


@asynccontextmanager
async def started(
    *command: str, environ: Mapping[str, str] | None = None, cwd: Path = ROOT, **options: Any
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Starts ``command``, its output in pipes unless ``options`` of ``create_subprocess_exec`` say otherwise.

    At the end of the block it has ended, killed if need be with all that it has started itself, and its pipes are
    closed, also what nobody has read. The environment is ``environ``, or this process's without settings of the bridge.
    """
    env = clean_environ() if environ is None else dict(environ)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, start_new_session=True, **{"stdout": PIPE, "stderr": PIPE, **options}
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process._transport.close()  # type: ignore[attr-defined]  # pipes that are full, too
        await process.wait()


async def ran(
    *command: str, environ: Mapping[str, str] | None = None, limit_s: float = _LIMIT_S
) -> tuple[int | None, str, str]:
    """What ``command`` left behind: its exit code, its standard output and its standard error."""
    async with started(*command, environ=environ) as process, asyncio.timeout(limit_s):
        out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()
