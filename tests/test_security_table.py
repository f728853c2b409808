"""The table of threats names tests that exist."""

import ast
import re
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_TABLE = _ROOT / "docs" / "security.md"
_TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def test_every_test_of_the_table_is_there() -> None:
    """A test that is renamed or deleted is missed in the table at once."""
    named = _TEST.findall(_TABLE.read_text())
    assert len(named) > 40
    functions = {
        path: {
            node.name
            for node in ast.walk(ast.parse((_ROOT / path).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for path, _ in named
        if (_ROOT / path).exists()
    }
    assert [f"{path}::{name}" for path, name in named if name not in functions.get(path, ())] == []
