"""The command line of ``bridge serve``: its help, and what it says of a mistake."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.cli import main
from bridge.config.fields import settings_of
from bridge.config.rooms import ROOMS
from tests.machine import scaled
from tests.processes import ROOT, clean_environ

_LIMIT_S = scaled(20.0)


def _complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The first line that the program ends with."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") <= 2
    return told.partition("\n")[0]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("srve",), "bridge: unknown command srve, did you mean serve?"),
        (("frobnicate",), "bridge: unknown command frobnicate"),
        (("serve", "--prot", "80"), "bridge serve: unknown flag --prot, did you mean --port?"),
        (("serve", "--max-cals=2"), "bridge serve: unknown flag --max-cals, did you mean --max-calls?"),
        (("serve", "--zzz"), "bridge serve: unknown flag --zzz"),
        (("serve", "--log-level"), "bridge serve: --log-level needs a value"),
        (("call", "--txt", "hello"), "bridge call: unknown flag --txt, did you mean --text?"),
    ],
)
def test_a_mistake_is_told_with_what_was_probably_meant(
    words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names what is unknown and what is close to it, without a page of usage."""
    assert _complaint(capsys, *words) == line


def test_a_mistyped_variable_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be left aside otherwise, and nobody would know why the setting does not count."""
    monkeypatch.setenv("BRIDGE_API_KYE", "sekrit")
    complaint = _complaint(capsys, "serve")
    assert complaint == "bridge: api_kye: unknown setting, did you mean api_key? (from environment BRIDGE_API_KYE)"


def test_help_is_grouped_by_room(capsys: pytest.CaptureFixture[str]) -> None:
    """Each room's settings stand together below what they are about, and the usage is one line."""
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    told = capsys.readouterr().out
    assert told.startswith("usage: bridge serve [--config FILE] [--SETTING VALUE ...]\n\n")
    for room in ROOMS:
        _, found, rest = told.partition(f"\n{room.title}:\n")
        assert found, room.title
        group = re.split(r"\n\n", rest, maxsplit=1)[0]
        flags = [flag for flag in re.findall(r"^  (--[a-z-]+)", group, re.MULTILINE) if not flag.endswith("-file")]
        assert flags == [one.flag for one in settings_of([room]).values() if not one.is_table]


def test_a_wrong_setting_is_told_before_the_daemon_is_imported(tmp_path: Path) -> None:
    """A second of imports is not waited for to hear of a typing mistake."""
    source = (
        "import sys\nfrom bridge.cli import main\n"
        "try:\n    main(['serve', '--port', 'x'])\nfinally:\n    print(*sys.modules, file=sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True, text=True, cwd=ROOT, env=clean_environ() | {"PATH": os.environ["PATH"]}, timeout=_LIMIT_S,
    )  # fmt: skip
    assert "port: must be a whole number from 0 to 65535, got 'x' (from flag --port)" in done.stderr
    assert not {"bridge.daemon", "aiortc", "numpy"} & set(done.stdout.split())
