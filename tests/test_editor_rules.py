"""What editors and ``pre-commit`` do is what ``make lint`` and .editorconfig say."""

import configparser
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.machine import scaled
from tests.processes import ROOT

_LIMIT_S = scaled(20.0)
_WRITTEN = {".css", ".go", ".html", ".js", ".md", ".mjs", ".py", ".toml", ".yaml", ".yml", ""}
_FOLDERS = ("benchmarks", "bridge", "docs", "examples", "tests")
_SKIPPED = {"__pycache__", "data", "node_modules", "THIRD_PARTY"}


def _files() -> Iterator[Path]:
    """Every file that a person has written: those of the root, and those in the folders."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in _WRITTEN and path.name != ".git")
    for folder in _FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in _WRITTEN - {""} and not _SKIPPED & set(path.parts):
                yield path


def _has_tabs(path: Path) -> bool:
    """Whether lines are indented by tabs: make asks for them, and Go's formatter writes them."""
    return path.name == "Makefile" or path.suffix == ".go"


def _faults(path: Path, text: str) -> Iterator[str]:
    """What .editorconfig would have an editor write otherwise."""
    if not text.endswith("\n") and text:
        yield "no newline at the end"
    if "\r" in text:
        yield "a carriage return"
    for number, line in enumerate(text.splitlines(), 1):
        if line != line.rstrip():
            yield f"{number}: white space at the end"
        if line.startswith("\t") != line.startswith((" ", "\t")) and _has_tabs(path):
            yield f"{number}: indented by spaces"
        if line.startswith("\t") and not _has_tabs(path):
            yield f"{number}: indented by a tab"


def test_files_are_as_an_editor_would_leave_them() -> None:
    """No file ends without a newline, or has carriage returns, white space at a line's end or the wrong indentation."""
    files = list(_files())
    assert len(files) > 300
    faults = [f"{path.relative_to(ROOT)}: {fault}" for path in files for fault in _faults(path, path.read_text())]
    assert faults == []


def test_each_fault_is_seen() -> None:
    """The reader of files knows a good one, and each way of being bad."""
    assert list(_faults(Path("a.py"), "a = 1\n")) == []
    assert list(_faults(Path("Makefile"), "a:\n\tb\n")) == []
    for text in ("a", "a\r\n", "a \n", "\ta\n"):
        assert list(_faults(Path("a.py"), text))
    assert list(_faults(Path("Makefile"), "a:\n    b\n"))


def test_the_editor_is_told_what_is_held() -> None:
    """.editorconfig says what the test above looks for, and ruff's width for Python."""
    parser = configparser.ConfigParser()
    parser.read_string("[top]\n" + (ROOT / ".editorconfig").read_text())
    everywhere = dict(parser["*"])
    assert everywhere["end_of_line"] == "lf"
    assert everywhere["indent_style"] == "space"
    assert (everywhere["insert_final_newline"], everywhere["trim_trailing_whitespace"]) == ("true", "true")
    assert parser["Makefile"]["indent_style"] == parser["*.go"]["indent_style"] == "tab"
    assert f"line-length = {parser['*.{md,py}']['max_line_length']}\n" in (ROOT / "pyproject.toml").read_text()


def test_the_hooks_are_the_linters() -> None:
    """``pre-commit`` runs what ``make lint`` runs, from .venv, and fetches nothing."""
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    repositories, hooks, languages = (
        re.findall(rf"^ *(?:- )?{key}: (.*)$", config, re.MULTILINE) for key in ("repo", "entry", "language")
    )
    assert repositories == ["local"]
    assert languages == ["system"] * len(hooks)
    done = subprocess.run(
        ["make", "--dry-run", "--assume-old=.venv/testable", "lint"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=_LIMIT_S,
    )
    commands = [line for line in done.stdout.splitlines() if line.startswith(".venv/bin/")]
    assert len(commands) == len(hooks) == 3
    assert all(any(command.startswith(hook) for command in commands) for hook in hooks)
