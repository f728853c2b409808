"""The hot path in its two forms: plain Python, and compiled where ``make compiled`` runs these tests once more."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from bridge import __version__

_ROOT = Path(__file__).parents[1]
_SETTINGS = tomllib.loads((_ROOT / "pyproject.toml").read_text())
_HOOK = _SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
_IS_COMPILED = "build/compiled" in os.environ.get("PYTHONPATH", "")


@pytest.mark.parametrize("path", _HOOK["modules"])
def test_the_form_of_a_module(path: str) -> None:
    """Each module that ``pyproject.toml`` names is an extension of C in a compiled wheel, and else its source."""
    assert (_ROOT / path).is_file()
    file = import_module(path.removesuffix(".py").replace("/", ".")).__file__
    assert file is not None
    assert file.endswith(tuple(EXTENSION_SUFFIXES) if _IS_COMPILED else ".py")


def test_the_version_says_which_form_it_is() -> None:
    """``bridge --version`` says ``compiled`` if it is, so that a report of a fault tells it."""
    said = subprocess.run([sys.executable, "-m", "bridge", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"bridge {__version__}{' (compiled)' if _IS_COMPILED else ''}\n"
