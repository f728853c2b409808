"""What only the source says: which errors are raised, which lines are logged, which room imports which."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bridge.errors
from bridge.errors import BridgeError

__all__ = ["ErrorCode", "LogLine", "error_classes", "error_codes", "log_lines", "room_captions", "room_imports"]

ROOT = Path(__file__).parents[1]
_PACKAGE = ROOT / "bridge"
_LEVELS = frozenset({"debug", "info", "warning", "error"})


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One value of an error's ``code``."""

    code: str
    kind: type[BridgeError]
    messages: list[str] = field(default_factory=list)
    """What it says, with an ellipsis for what differs from case to case."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event of the log."""

    event: str
    level: str
    keys: list[str]


def error_classes() -> list[type[BridgeError]]:
    """Every error of the tree, each before its children, in the order of the module."""
    return [kind for kind in vars(bridge.errors).values() if isinstance(kind, type) and issubclass(kind, BridgeError)]


def error_codes() -> list[ErrorCode]:
    """Every code that some line of the package gives to an error, with the class that carries it."""
    kinds = {kind.__name__: kind for kind in error_classes()}
    found: dict[tuple[str, type[BridgeError]], set[str]] = defaultdict(set)
    for _, tree in _modules():
        constants = _constants(tree)
        for call in _calls(tree):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            if name not in kinds:
                continue
            given = next((keyword.value for keyword in call.keywords if keyword.arg == "code"), None)
            for code in [kinds[name].code] if given is None else _texts(given, constants):
                found[code, kinds[name]] |= set(_texts(call.args[0], constants)) if call.args else set()
    codes = [ErrorCode(code, kind, sorted(messages)) for (code, kind), messages in found.items()]
    return sorted(codes, key=lambda error: (error.code, error.kind.__name__))


def log_lines() -> list[LogLine]:
    """Every event that is logged, by its level; keys of all places that log it."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for _, tree in _modules():
        for call in _calls(tree):
            match call:
                case ast.Call(
                    func=ast.Attribute(attr=level, value=owner), args=[ast.Constant(value=str(event)), *_]
                ) if level in _LEVELS and "log" in ast.unparse(owner):
                    found[event, level] |= {keyword.arg or "…" for keyword in call.keywords} - {"exc_info"}
                case ast.Call(func=ast.Name(id="StateMachine")):
                    named = [str(word.value.value) for word in call.keywords
                             if word.arg == "event" and isinstance(word.value, ast.Constant)]  # fmt: skip
                    for event in named or ["session.state"]:  # which is the default
                        found[event, "debug"] |= {"after", "before", "thing"}
    return [LogLine(event, level, sorted(keys)) for (event, level), keys in sorted(found.items())]


def room_imports() -> dict[str, set[str]]:
    """Each room of the package, and the other rooms that its modules import."""
    found: dict[str, set[str]] = {}
    for name, tree in _modules():
        room = name.split(".")[1]
        targets = found.setdefault(room, set())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            targets |= {name.split(".")[1] for name in names if name.startswith("bridge.")}
    return {room: (targets & found.keys()) - {room} for room, targets in found.items()}


def room_captions() -> dict[str, str]:
    """Each room of the package, and the first sentence of what it says of itself."""
    return {
        name.split(".")[1]: (ast.get_docstring(tree) or "").split("\n\n")[0].splitlines()[0]
        for name, tree in _modules()
        if name.count(".") == 1 and not name.endswith("__main__")
    }


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(_PACKAGE.rglob("*.py")):
        name = ".".join(("bridge", *path.relative_to(_PACKAGE).with_suffix("").parts))
        if name != "bridge.__init__":
            yield name.removesuffix(".__init__"), ast.parse(path.read_text())


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _constants(tree: ast.Module) -> dict[str, str]:
    """The module's own names for texts."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _texts(node: ast.expr, constants: dict[str, str]) -> list[str]:
    """The texts that an expression may be, as far as the source says it; what is put in is an ellipsis."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)]
        case ast.Name(id=name) if name in constants:
            return [constants[name]]
        case ast.IfExp(body=body, orelse=other):
            return [*_texts(body, constants), *_texts(other, constants)]
    return []
