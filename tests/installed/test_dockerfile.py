"""The Dockerfile's own steps, rehearsed without Docker: what it copies, builds, runs and asks for its health.

Its places (``/src``, ``/opt/bridge``) lie in a temporary folder. Dependencies, and Debian's packages, are lent instead
of downloaded; all else is done as the file says, by its commands, and its user runs it.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import psutil
import pytest

from bridge import __version__
from bridge.config import ServerSettings
from tests.end_to_end.web import request
from tests.installed.lending import OFFLINE_PIP, lend
from tests.machine import scaled
from tests.processes import ROOT, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_LIMIT_S = scaled(60.0)
_COMPILE_S = scaled(240.0)
_CLI = (ROOT / "bridge" / "cli.py").read_text()
_CAN_READ_ALL, _CAN_DO_ALL = 1 << 2, 1 << 1  # CAP_DAC_READ_SEARCH and CAP_DAC_OVERRIDE, capabilities(7)

Steps = list[tuple[str, str]]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop waits for a process is nothing to it."""
    return "asyncio"


def _stages() -> list[Steps]:
    """The instructions of each stage, in order: name and what follows it, long lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    stages: list[Steps] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, rest.strip()))
    return stages


def _is_ignored(name: str, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps a file, or a folder that it is in, from the build: its last fitting line decides."""
    above = [name, *(str(parent) for parent in PurePosixPath(name).parents)][:-1]
    is_ignored = False
    for pattern in patterns:
        glob = pattern.removeprefix("!")
        anywhere = glob.removeprefix("**/")
        if any(fnmatch(path.rpartition("/")[2] if anywhere != glob else path, anywhere) for path in above):
            is_ignored = not pattern.startswith("!")
    return is_ignored


@dataclass
class _Image:
    """What a build has made: its files are below ``root``."""

    root: Path
    places: list[str]
    """Absolute paths that mean a folder below ``root``."""
    environ: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    is_compiled: bool = False

    def at(self, text: str) -> str:
        """``text`` with the image's places where they really are."""
        pattern = "|".join(re.escape(place) for place in self.places)
        return re.sub(rf"(?<![\w.-])({pattern})(?![\w.-])", lambda match: f"{self.root}{match[0]}", text)

    def set_variables(self, words: str) -> None:
        """ENV."""
        for pair in shlex.split(words):
            name, _, value = pair.partition("=")
            self.environ[name] = self.at(re.sub(r"\$(\w+)", lambda match: self.environ[match[1]], value))


def _build(root: Path, given: dict[str, str]) -> _Image:
    """Carries out both stages; the second takes over what it copies."""
    first, second = _stages()
    places = [rest for name, rest in first if name == "WORKDIR"]
    places += [rest.split()[1] for name, rest in second if name == "COPY" and rest.startswith("--from=build ")]
    (root / "bin").mkdir()
    python = root / "bin" / "python"  # of the base image
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(os.path.realpath(sys.executable))} "$@"\n')
    python.chmod(0o755)
    packages = root / "bin" / "apt-get"  # what it would install is there, or the step after it fails
    packages.write_text("#!/bin/sh\n")
    packages.chmod(0o755)
    base = {"PATH": f"{root}/bin:/usr/bin:/bin", "HOME": "/"}
    image = _Image(root, places, {**base})
    for name, rest in first:
        _step(image, name, rest, given)
    run = _Image(root, places, {**base}, is_compiled=given.get("COMPILED") == "1")
    for name, rest in second:
        _step(run, name, rest, {})
    return run


def _step(image: _Image, name: str, rest: str, given: dict[str, str]) -> None:
    match name:
        case "ARG":
            argument, _, default = rest.partition("=")
            image.arguments[argument] = given.get(argument, default.strip('"'))
        case "WORKDIR":
            image.workdir = image.at(rest)
            Path(image.workdir).mkdir(parents=True)
        case "ENV":
            image.set_variables(rest)
        case "USER":
            image.user = rest
        case "RUN":
            environ = {**image.environ, **image.arguments, **OFFLINE_PIP}
            done = subprocess.run(
                ["/bin/sh", "-c", image.at(rest)],
                cwd=image.workdir,
                env=environ,
                capture_output=True,
                text=True,
                timeout=_COMPILE_S,
            )
            assert done.returncode == 0, f"RUN {rest}\n{done.stdout}{done.stderr}"
            for folder in image.root.glob("opt/*/lib/python3.*/site-packages"):
                if not (folder / "lent.pth").exists():
                    lend(folder)
        case "COPY" if rest.startswith("--from="):
            _, source, target = rest.split()
            assert source == target, "what is copied between stages stays where it is: scripts hold their own path"
            assert Path(image.at(source)).exists()
        case "COPY":
            *sources, target = rest.split()
            for source in sources:
                _copy(source, Path(image.workdir) / target)
        case "FROM" | "EXPOSE" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
            pass
        case _:
            pytest.fail(f"this test does not know {name}: teach it")


def _copy(source: str, target: Path) -> None:
    """COPY, of what .dockerignore lets through."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    path = ROOT / source
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    let_through = [file for file in files if not _is_ignored(file.relative_to(ROOT).as_posix(), patterns)]
    assert let_through, f"COPY {source}: .dockerignore keeps it out"
    for file in let_through:
        copied = target / (file.relative_to(path) if path.is_dir() else file.name)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copied)


def _instruction(name: str) -> str:
    return next(rest for step, rest in _stages()[-1] if step == name)


def _as_user(user: str) -> list[str]:
    """What runs a command as the image's user. Only root can; anybody else is no root already.

    The Python of these tests may lie where others cannot read, which a real image's does not: one capability is left.
    """
    if os.geteuid():
        return []
    bounding = int(
        next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapBnd" in line)[7:], 16
    )
    left = "+dac_read_search" if bounding & _CAN_READ_ALL else "+dac_override" if bounding & _CAN_DO_ALL else "-all"
    number, _, group = user.partition(":")
    return ["setpriv", f"--reuid={number}", f"--regid={group}", "--clear-groups", "--no-new-privs",
            f"--inh-caps={left}", f"--ambient-caps={left}"]  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[{"EXTRAS": ""}, {"EXTRAS": "[cluster,local,upload]", "COMPILED": "1"}],
    ids=["plain", "compiled-with-extras"],
)
def image(request: pytest.FixtureRequest) -> Iterator[_Image]:
    """Built without extras, and with all that a daemon may have, in a folder into which others may look."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        Path(folder).chmod(0o755)
        yield _build(Path(folder), request.param)


@asynccontextmanager
async def _running(image: _Image, *arguments: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``docker run -e …``: the entry point with its own arguments, or others, as its user in its environment alone."""
    entry, usual = json.loads(_instruction("ENTRYPOINT")), json.loads(_instruction("CMD"))
    command = [*_as_user(image.user), *entry, *(arguments or usual)]
    program = shutil.which(command[0], path=image.environ["PATH"])
    assert program is not None
    environment = {**image.environ, **environ}
    async with started(program, *command[1:], environ=environment, cwd=Path(image.workdir)) as process:
        yield process


async def _health(image: _Image, **environ: str) -> int | None:
    """The exit code of the file's HEALTHCHECK."""
    command = json.loads(_instruction("HEALTHCHECK").partition("CMD ")[2])
    environment = {**image.environ, **environ}
    whole = [*_as_user(image.user), *command]
    async with started(*whole, environ=environment, cwd=Path(image.workdir)) as process, asyncio.timeout(_LIMIT_S):
        await process.communicate()
    return process.returncode


def _free_port() -> int:
    with socket.create_server(("", 0)) as listening:
        return int(listening.getsockname()[1])


async def test_the_image_serves_as_its_user(image: _Image) -> None:
    """With a key it serves on all addresses, without being root; it is healthy while it runs, and SIGTERM ends it."""
    port = str(_free_port())
    environ = {"BRIDGE_API_KEY": "a-key-of-16-letters", "BRIDGE_ADVERTISE": "127.0.0.1", "BRIDGE_PORT": port}
    assert await _health(image, BRIDGE_PORT=port) == 1
    async with _running(image, **environ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.timeout(_LIMIT_S):
            line = (await process.stdout.readline()).decode()
        assert "bridge is ready" in line, (await process.stderr.read()).decode()
        owner = psutil.Process(process.pid).uids().effective
        assert owner == (int(image.user.partition(":")[0]) if os.geteuid() == 0 else os.geteuid())
        assert owner != 0
        assert (await request("GET", f"http://127.0.0.1:{port}/v1/models")).status == 401
        assert await _health(image, BRIDGE_PORT=port) == 0
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_LIMIT_S):
            assert await process.wait() == 0


async def test_the_image_refuses_to_serve_everybody_without_a_key(image: _Image) -> None:
    """Without BRIDGE_API_KEY the container ends with exit code 2 and one line that names the setting."""
    async with _running(image) as process, asyncio.timeout(_LIMIT_S):
        _, complaint = await process.communicate()
    assert process.returncode == 2
    assert b"api_key" in complaint
    assert complaint.count(b"\n") == 1


async def test_the_image_holds_this_version(image: _Image) -> None:
    """Other arguments of ``docker run`` go to ``bridge``: it is the one that was copied, not the one that tests it."""
    async with _running(image, "--version") as process, asyncio.timeout(_LIMIT_S):
        out, _ = await process.communicate()
    assert out.decode() == f"bridge {__version__}{' (compiled)' if image.is_compiled else ''}\n"
    assert _installed(image, "cli.py") == _CLI


def _installed(image: _Image, name: str) -> str:
    """A file of the package that the image holds."""
    [path] = Path(image.at("/opt/bridge")).glob(f"lib/python3.*/site-packages/bridge/{name}")
    return path.read_text()


def test_the_ports_are_those_of_the_settings() -> None:
    """What the file exposes is where the daemon listens unless it is told otherwise, for TCP and UDP."""
    port = ServerSettings().port
    assert sorted(_instruction("EXPOSE").split()) == [f"{port}/tcp", f"{port}/udp"]
    assert f"or {port}" in _instruction("HEALTHCHECK")


def test_both_stages_have_one_python() -> None:
    """An environment works only with the Python that made it, and that is one that the package supports."""
    bases = {rest.split()[0] for stage in _stages() for name, rest in stage if name == "FROM"}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.1[123]-slim", bases.pop())
