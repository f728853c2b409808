"""What short commands import: nothing that they do not need, so that a person who asks for help gets it at once."""

import json
import subprocess
import sys

import pytest

from tests.machine import scaled
from tests.processes import ROOT, clean_environ

_LIMIT_S = scaled(20.0)
_REPORT = """
import atexit, json, sys
before = set(sys.modules)
atexit.register(lambda: sys.stderr.write("\\n" + json.dumps(sorted(set(sys.modules) - before))))
sys.argv[:] = {words!r}
{program}
"""
_CONSOLE_SCRIPT = "from bridge.cli import main; sys.exit(main())"
_BENCHMARKS = "import runpy; runpy.run_module('benchmarks', run_name='__main__', alter_sys=True)"


def _run(program: str, *words: str) -> tuple[str, set[str]]:
    """What a program that is started with these words prints, and the modules that it has imported at its end."""
    source = _REPORT.format(program=program, words=list(words))
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT, env=clean_environ(), timeout=_LIMIT_S
    )
    return done.stdout, set(json.loads(done.stderr.rpartition("\n")[2]))


def _foreign(modules: set[str]) -> set[str]:
    """Top-level packages that are neither Python's own nor ours."""
    return {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - {"bridge", "benchmarks"}


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("-h",), ()])
def test_help_and_version_import_next_to_nothing(words: tuple[str, ...]) -> None:
    """``bridge --version`` and ``--help`` import Python's own modules and three of ours, and no event loop."""
    printed, modules = _run(_CONSOLE_SCRIPT, "bridge", *words)
    assert ("bridge 0." in printed or "usage: bridge" in printed) is bool(words)
    assert _foreign(modules) == set()
    assert {name for name in modules if name.startswith("bridge")} == {"bridge", "bridge.cli", "bridge.errors"}
    assert not modules & {"asyncio", "ssl", "socket", "threading"}
    assert len(modules) < 80


def test_the_help_of_serve_imports_the_settings_alone() -> None:
    """``bridge serve --help`` lists every setting without the daemon, its libraries and its models."""
    printed, modules = _run(_CONSOLE_SCRIPT, "bridge", "serve", "--help")
    assert "--udp-port" in printed
    assert _foreign(modules) - {"typing_extensions"} == {"msgspec"}  # msgspec imports it if it is there
    assert "bridge.daemon" not in modules


def test_calls_are_listed_without_sound_and_webrtc() -> None:
    """Whoever looks for a call at night waits for the bridge alone: its list needs no codec, no peer, no loop."""
    _, modules = _run(_CONSOLE_SCRIPT, "bridge", "calls", "http://127.0.0.1:9")
    assert "bridge.client.operators.calls" in modules
    assert _foreign(modules) - {"typing_extensions"} == {"msgspec", "tqdm", "websockets"}


@pytest.mark.parametrize(
    ("command", "flag"), [("serve", "--config"), ("config", "show"), ("call", "--text"), ("bench", "--turns")]
)
def test_each_command_has_its_own_help(command: str, flag: str) -> None:
    """``bridge COMMAND --help`` lists the flags of that command."""
    printed, _ = _run(_CONSOLE_SCRIPT, "bridge", command, "--help")
    assert f"usage: bridge {command}" in printed
    assert flag in printed


def test_benchmarks_are_listed_without_being_imported() -> None:
    """``python -m benchmarks`` names every benchmark with a sentence, and imports none of them."""
    printed, modules = _run(_BENCHMARKS, "benchmarks")
    lines = printed.splitlines()
    runnable = [path for path in (ROOT / "benchmarks").glob("[!_]*.py") if "def main()" in path.read_text()]
    assert len(lines) == len(runnable)
    assert all(line.startswith("python -m benchmarks ") and len(line.split()) > 5 for line in lines)
    assert {name for name in modules if name.startswith("benchmarks")} <= {"benchmarks", "benchmarks.__main__"}
    assert _foreign(modules) == set()
