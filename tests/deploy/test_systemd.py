"""The units for systemd, judged by its own tools; and that they and the settings fit together."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.config import load
from tests.machine import scaled
from tests.processes import ROOT
from tests.settings import SECTIONS

_LIMIT_S = scaled(20.0)
_UNITS = ROOT / "deploy" / "systemd"


class _Unit(configparser.RawConfigParser):
    """A unit's sections; of a name that stands several times, the last."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, comment_prefixes=("#",), delimiters=("=",))
        self.optionxform = str  # type: ignore[assignment]
        self.read_string(path.read_text())


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=_LIMIT_S)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units in a folder, and the program that they start where they say."""
    program = tmp_path / "opt" / "bridge" / "bin" / "bridge"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in _UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/bridge", str(tmp_path / "opt" / "bridge")))
    return tmp_path


@pytest.mark.foreign
def test_systemd_finds_nothing_wrong(installed: Path) -> None:
    """``systemd-analyze verify`` knows every word of both units, and misses nothing that they need."""
    done = _analyze("verify", "--man=no", str(installed / "bridge.service"), str(installed / "bridge.socket"))
    about_ours = [line for line in done.stderr.splitlines() if "bridge." in line]
    assert (done.returncode, about_ours) == (0, []), done.stderr


@pytest.mark.foreign
def test_systemd_finds_it_closed(installed: Path) -> None:
    """Its rating of what the service could do to the machine, from 0 to 10, stays below 2."""
    done = _analyze("security", "--offline=yes", "--threshold=20", str(installed / "bridge.service"))
    assert done.returncode == 0, done.stdout


def test_the_units_fit_the_settings(tmp_path: Path) -> None:
    """The command is one of the bridge's, and serves at the ports that the socket unit opens."""
    service = _Unit(_UNITS / "bridge.service")["Service"]
    program, verb, *flags = service["ExecStart"].split()
    assert (os.path.basename(program), verb) == ("bridge", "serve")
    given = {
        flag.removeprefix("--").replace("-", "_"): value for flag, value in zip(flags[::2], flags[1::2], strict=True)
    }
    assert given.pop("config") == "/etc/bridge/bridge.toml"
    config = load(given, {"BRIDGE_API_KEY": "sk-of-the-tests"}, None, SECTIONS)
    opened = _Unit(_UNITS / "bridge.socket")["Socket"]
    listens = {opened["ListenStream"], opened["ListenDatagram"]}
    assert listens == {f"[{config.server.host}]:{config.server.port}"}


def test_the_signals_are_those_of_the_bridge() -> None:
    """A reload is SIGHUP, a stop SIGTERM, and the unit lets the successor tell of itself."""
    service = _Unit(_UNITS / "bridge.service")["Service"]
    kill = service["ExecReload"].split()
    assert shutil.which(kill[0]) is not None
    assert kill[1:] == ["-HUP", "$MAINPID"]
    assert (service["Type"], service["NotifyAccess"], service["KillSignal"]) == ("notify", "all", "SIGTERM")
    assert re.search(r"signal=USR2", (_UNITS / "bridge.service").read_text())
