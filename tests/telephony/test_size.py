"""A carrier stays small: what its package says beyond what all carriers share fits on two pages."""

import ast
import tokenize
from pathlib import Path
from typing import Any

import pytest

import bridge.telephony
from bridge.telephony.carrier import Carrier
from bridge.telephony.table import CARRIERS

_PACKAGES = Path(bridge.telephony.__file__).parent
_MOST = 150
"""Lines of code of all files of a package: dialect, documents, settings, sign-in and row.

Not counted are docstrings, comments, empty lines, imports and ``__all__``.
"""
_NEED_MORE = {
    "twilio": (220, "three carriers' streams at one endpoint, which three ways open, and which come back"),
    "genesys": (290, "a state machine of its own: numbered messages, probes, pauses, the last word, signed upgrades"),
    "asterisk": (275, "it is reached both ways, so it has a client, and speaks in two forms, of text and of JSON"),
    "audiosocket": (275, "a TCP port and frames of its own: no HTTP, no WebSocket, and silence while a call is opened"),
}
"""The carriers that need more, with how much and why."""
_NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def _lines(path: Path) -> int:
    """The lines of code of a file, as ``_MOST`` counts them."""
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_export = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if isinstance(node, ast.Import | ast.ImportFrom) or is_docstring or is_export:
            assert isinstance(node, ast.stmt)
            left_out |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    with tokenize.open(path) as source:
        tokens = [token for token in tokenize.generate_tokens(source.readline) if token.type not in _NOT_CODE]
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - left_out)


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
def test_a_carrier_is_small(carrier: Carrier[Any]) -> None:
    """At most 150 lines; the few that need more are named with a reason, and do not get ahead of it."""
    most, _ = _NEED_MORE.get(carrier.name, (_MOST, ""))
    counted = {path.name: _lines(path) for path in sorted((_PACKAGES / carrier.name).glob("*.py"))}
    assert sum(counted.values()) <= most, counted
    assert (sum(counted.values()) > _MOST) is (carrier.name in _NEED_MORE)


def test_what_counts_as_a_line(tmp_path: Path) -> None:
    """Code alone; what stands on several lines counts as often."""
    path = tmp_path / "some.py"
    path.write_text('"""Says."""\n\nimport os\nfrom a import (\n    b,\n)\n\n__all__ = ["c"]\n\n\n# why\ndef c():\n'
                    '    """Says."""\n    return b(\n        os,\n    )\n\n\nC = 1\n"""Says."""\n')  # fmt: skip
    assert _lines(path) == 5
