"""The table of threats names tests that exist."""

import ast
import re
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_TABLE = _ROOT / "docs" / "security.md"
_ROW = re.compile(r"\| T?[0-9]+ \|")
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


def test_every_row_is_whole() -> None:
    """Each threat and each attack has its row, what happens, a test or who looks after it, and a figure or none."""
    table = _TABLE.read_text().partition("## Threats and tests")[2]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines() if _ROW.match(line)]
    numbers = [row[0] for row in rows]
    threats, attacks = [number for number in numbers if number[0] == "T"], [n for n in numbers if n[0] != "T"]
    assert threats == [f"T{number}" for number in range(1, 26)]
    assert attacks == [str(number) for number in range(1, len(attacks) + 1)]
    for row in rows:
        assert len(row) == 5, row
        assert all(row), row
        assert _TEST.search(row[3]) or row[3] in ("by hand", "no test of its own"), row
