"""``bridge completion``: scripts by which shells complete what is typed."""

import subprocess

import pytest

from tests.machine import scaled
from tests.test_start_up import _CONSOLE_SCRIPT, _run

_LIMIT_S = scaled(20.0)


def test_completion_is_imported_by_its_own_command_alone() -> None:
    """What makes the scripts costs no other command anything, and they know commands, flags and words of settings."""
    printed, modules = _run(_CONSOLE_SCRIPT, "bridge", "completion", "bash")
    assert "shtab" in modules
    assert "shtab" not in _run(_CONSOLE_SCRIPT, "bridge", "serve", "--help")[1]
    assert subprocess.run(["bash", "-n"], input=printed, text=True, timeout=_LIMIT_S, check=False).returncode == 0
    for typed, offered in (
        (["bridge", "ca"], "calls call"),
        (["bridge", "calls", "--wa"], "--watch"),
        (["bridge", "serve", "--udp"], "--udp-port"),
        (["bridge", "serve", "--log-level", "w"], "warning"),
    ):
        words = " ".join(f"'{word}'" for word in typed)
        line = f'COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _shtab_bridge; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(
            ["bash"], input=f"{printed}\n{line}\n", capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
        assert done.stdout.split() == offered.split(), typed


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_there_is_a_script_for_other_shells(shell: str) -> None:
    """Each names the commands; they were not run."""
    printed, _ = _run(_CONSOLE_SCRIPT, "bridge", "completion", shell)
    assert all(name in printed for name in ("calls", "hangup", "doctor", "completion"))
