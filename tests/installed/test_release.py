"""What ``make dist`` builds: it is whole, and serves from an environment in which there is nothing else."""

import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from asyncio import wait_for
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from typing import NamedTuple

import pytest

from bridge import __version__
from tests.end_to_end.serving import READY
from tests.end_to_end.web import request
from tests.installed.lending import OFFLINE_PIP, new_environment
from tests.machine import scaled
from tests.processes import ROOT, clean_environ, ran, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

_LIMIT_S = scaled(40.0)
_NAME = f"bridge_realtime-{__version__}"


class _Release(NamedTuple):
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop waits for a process is nothing to it."""
    return "asyncio"


def _run(*command: str | Path, cwd: Path = ROOT) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=clean_environ(**OFFLINE_PIP), capture_output=True, text=True, timeout=_LIMIT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> _Release:
    """Built as ``make dist`` does: the sdist, and the wheel from that."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder)
    built = _Release(folder / f"{_NAME}.tar.gz", folder / f"{_NAME}-py3-none-any.whl")
    assert sorted(folder.iterdir()) == sorted(built)
    return built


@pytest.fixture(scope="module")
def bridge(release: _Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command that the wheel has installed, beside its dependencies alone."""
    folder = new_environment(tmp_path_factory.mktemp("environment"))
    _run(sys.executable, "-m", "pip", "--python", folder / "python", "install", release.wheel, cwd=folder)
    return folder / "bridge"


def _sources(folder: str) -> Iterator[str]:
    for path in (ROOT / folder).rglob("*"):
        if path.is_file() and not {"__pycache__", "node_modules", ".hypothesis"} & set(path.parts):
            yield path.relative_to(ROOT).as_posix()


def test_the_sdist_is_what_a_contributor_needs(release: _Release) -> None:
    """All code, tests, benchmarks, examples and locks are in it, and the files that make them work."""
    with tarfile.open(release.sdist) as archive:
        names = {name.removeprefix(f"{_NAME}/") for name in archive.getnames()}
    assert {"Makefile", "Dockerfile", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"} <= names
    for folder in ("bridge", "tests", "locks"):
        assert {name for name in _sources(folder) if name not in names} == set()
    assert {name for name in names if "__pycache__" in name or name.startswith((".venv", "dist/"))} == set()


def test_the_wheel_is_the_package_alone(release: _Release) -> None:
    """The wheel holds every file of ``bridge``, data included, and its metadata; nothing else."""
    with zipfile.ZipFile(release.wheel) as archive:
        names = set(archive.namelist())
        metadata = message_from_string(archive.read(f"{_NAME}.dist-info/METADATA").decode())
    assert {name for name in names if not name.startswith(f"{_NAME}.dist-info/")} == set(_sources("bridge"))
    assert f"{_NAME}.dist-info/licenses/LICENSE" in names
    assert (metadata["Name"], metadata["Version"]) == ("bridge-realtime", __version__)
    assert metadata["Requires-Python"] == "<3.14,>=3.11"


async def test_the_installed_command_says_its_version(bridge: Path) -> None:
    """``bridge --version`` of the wheel is that of the source."""
    assert await ran(str(bridge), "--version", limit_s=_LIMIT_S) == (0, f"bridge {__version__}\n", "")


async def test_the_installed_daemon_serves(bridge: Path, tmp_path: Path) -> None:
    """Installed from the wheel, it serves its API and its console, and stops with exit code 0."""
    command = (str(bridge), "serve", "--port", "0", "--engine", "parrot", "--log-level", "error")
    async with started(*command, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = (await wait_for(process.stdout.readline(), _LIMIT_S)).decode()
        match = READY.fullmatch(line)
        assert match is not None, line + (await process.stderr.read()).decode()
        assert (await request("GET", f"{match[1]}healthz")).status == 200
        assert b"console.js" in (await request("GET", match[1])).body
        assert (await request("GET", f"{match[1]}v1/calls")).json["data"] == []
        process.send_signal(signal.SIGTERM)
        assert await wait_for(process.wait(), _LIMIT_S) == 0
        assert await process.stderr.read() == b""


def test_the_changelog_tells_of_this_version() -> None:
    """CHANGELOG.md has a place for what comes, and below it the version that the package has, with its day."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d", headings[1])
