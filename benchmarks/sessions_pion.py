"""Builds the Go baseline of ``benchmarks.sessions``: a bridge of Pion, gorilla/websocket and libopus.

Its source is ``benchmarks/pion/main.go``, and Debian's Go packages are what it is built with, without the network.

What is equal: the load, each call's socket, Opus to PCM16 at 24 kHz mono by libopus' C API, events of the same form and
size, the encoder's settings (those of the bridge while nothing is lost: CELT, 64 kbit/s, complexity 4), sound paced at
20 ms, SRTP by AES-GCM, sender and receiver reports.

What is not: it plays packets as they come (no reordering, no wait for late ones, no FEC, no concealment), keeps nothing
for listeners that come back, does not know what was heard (ledger), has one listener to a call and one format, and
takes neither keys nor turns, metrics or recordings. Its SRTP has keys of 128 bits, where the bridge agrees on 256 with
these callers. Each of its calls has a UDP socket of its own, as is usual with Pion; the bridge has one for all.
"""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["PACKAGES", "ServerMissingError", "build", "environ", "versions"]

PACKAGES = "golang-go golang-github-pion-webrtc.v3-dev golang-github-gorilla-websocket-dev libopus-dev pkg-config"
"""Debian's and Ubuntu's names for what it takes."""

_SOURCE = Path(__file__).with_name("pion")
_BUILD = Path(__file__).parents[1] / "build" / "pion"
_SHARED_GO = Path("/usr/share/gocode")
_IMPORTED = ("github.com/pion/webrtc", "github.com/gorilla/websocket")
_LIMIT_S = 600.0


class ServerMissingError(Exception):
    """A server cannot be built here; the text says what to install."""


def _missing() -> str:
    """What to do before it can be built; empty if nothing is missing."""
    is_there = all((_SHARED_GO / "src" / name).is_dir() for name in _IMPORTED)
    if is_there and all(map(shutil.which, ("go", "gcc", "pkg-config"))):
        if subprocess.run(["pkg-config", "--exists", "opus"], check=False, timeout=_LIMIT_S).returncode == 0:
            return ""
    return f"the server pion is built by Go with Debian's packages: sudo apt-get install {PACKAGES}"


async def build() -> Path:
    """The program, built anew if its source is newer; raises ``ServerMissingError``, or ``RuntimeError`` of Go's."""
    return await asyncio.to_thread(_build)


def _build() -> Path:
    if complaint := _missing():
        raise ServerMissingError(complaint)
    program = _BUILD / "server"
    sources = [_SOURCE / "main.go", _SOURCE / "go.mod"]
    if program.exists() and program.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return program
    folder = _BUILD / "gopath" / "src" / "benchmarks" / "pion"  # Go resolves ``/v3`` in a GOPATH alone
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copy(source, folder)
    paths = {"GOPATH": f"{_BUILD / 'gopath'}:{_SHARED_GO}", "GO111MODULE": "off", "GOCACHE": str(_BUILD / "cache")}
    command = ["go", "build", "-o", str(program), "."]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | paths, capture_output=True, text=True, check=False, timeout=_LIMIT_S
    )
    if done.returncode:
        raise RuntimeError(f"go build: {done.stderr}")
    return program


def environ() -> dict[str, str]:
    """What it runs in: one thread at a time runs Go code, as one runs the bridge, unless ``GOMAXPROCS`` is given."""
    return {"GOMAXPROCS": "1"} | dict(os.environ)


def versions() -> dict[str, str]:
    """Of what it is made of, and how many threads run Go code at a time."""

    def told(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S).stdout.strip()

    return {
        "go": told("go", "env", "GOVERSION").removeprefix("go"),
        "pion": told("dpkg-query", "-W", "-f", "${Version}", "golang-github-pion-webrtc.v3-dev"),
        "libopus": told("pkg-config", "--modversion", "opus"),
        "gomaxprocs": environ()["GOMAXPROCS"],
    }
