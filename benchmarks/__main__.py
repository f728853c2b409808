"""All benchmarks by one name each: ``python -m benchmarks NAME [options]``; without a name, what there is.

They measure this bridge from the inside too, its CPU time above all; ``bridge bench`` any server, from outside alone.
"""

import ast
import importlib
import sys
from pathlib import Path

_NAMES = {
    "sessions": "sessions",
    "stages": "stages",
    "latency": "live",
    "fan-out": "fanout",
    "compressed": "compressed",
    "loss": "loss",
    "neteq": "neteq",
    "telephony": "telephony",
    "answer": "answer",
    "soak": "soak",
    "calls": "calls",
    "workers": "workers",
    "words": "words",
}


def main() -> None:
    """Runs one."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in _NAMES:
        sys.argv[:2] = [f"python -m benchmarks {name}"]
        importlib.import_module(f"benchmarks.{_NAMES[name]}").main()
        return
    for name, module in _NAMES.items():
        sys.stdout.write(f"python -m benchmarks {name:10} {_caption(module)}\n")
    sys.exit("benchmarks: which one?" if len(sys.argv) == 1 else f"benchmarks: there is no {sys.argv[1]!r}")


def _caption(module: str) -> str:
    """What its docstring begins with; read, not imported, because that would take seconds."""
    source = Path(__file__).with_name(f"{module}.py").read_text()
    return (ast.get_docstring(ast.parse(source)) or "").partition(":")[0].splitlines()[0]


if __name__ == "__main__":
    main()
