"""What a field of an event must be: a value, or one of these objects, which say in words what they want."""

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["ANY", "ID", "JSON_TEXT", "NUMBER", "TEXT", "Absent", "OneOf", "Want", "at", "mismatch", "resolved"]

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Want:
    """Wants a field that passes a check; ``words`` say which."""

    words: str
    kind: type | tuple[type, ...] = object
    is_empty_fine: bool = True

    def fits(self, value: Any) -> bool:
        """Returns whether ``value`` is what is wanted. A boolean does not count as a number."""
        if isinstance(value, bool) and self.kind is not object:
            return False
        return isinstance(value, self.kind) and (self.is_empty_fine or bool(value))


class _JsonText(Want):
    def fits(self, value: Any) -> bool:
        """Returns whether ``value`` is the text of a JSON object."""
        try:
            return isinstance(json.loads(value), dict)
        except (TypeError, ValueError):
            return False


@dataclass(frozen=True, slots=True)
class OneOf:
    """Wants one of several values."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """Wants a field that is missing, or null."""


ANY = Want("there, and not null")
TEXT = Want("a text that is not empty", str, is_empty_fine=False)
ID = Want("an id", str, is_empty_fine=False)
NUMBER = Want("a number", (int, float))
JSON_TEXT: Want = _JsonText("the text of a JSON object", str)


def at(event: Any, path: str) -> Any:
    """Returns the value at a path such as ``response.output.0.id``; a private mark if there is none."""
    value = event
    for name in path.split("."):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.lstrip("-").isdecimal() and -len(value) <= int(name) < len(value):
            value = value[int(name)]
        else:
            return _MISSING
    return value


def mismatch(event: Any, path: str, wanted: Any) -> str:
    """Returns in words what is wrong with the field at ``path``; empty if nothing is."""
    value = at(event, path)
    shown = "is not there" if value is _MISSING else f"is {shortened(value)}"
    match wanted:
        case Absent():
            return "" if value is _MISSING or value is None else f"{path} {shown}, and should not be there"
        case OneOf(values=values):
            ok = value in values
            words = " or ".join(shortened(each) for each in values)
        case Want():
            ok = value is not _MISSING and value is not None and wanted.fits(value)
            words = wanted.words
        case _:
            ok = (
                value is not _MISSING and type(value) is type(wanted) and value == wanted or _same_number(value, wanted)
            )
            words = shortened(wanted)
    return "" if ok else f"{path} {shown}; wanted: {words}"


def shortened(value: Any, most: int = 120) -> str:
    """Returns a value as JSON on one line, cut to a length."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def resolved(value: Any, kept: dict[str, Any]) -> Any:
    """Returns ``value`` with every text ``$name`` replaced by what was kept under that name."""
    match value:
        case str() if value.startswith("$"):
            return kept.get(value[1:], value)
        case dict():
            return {name: resolved(inner, kept) for name, inner in value.items()}
        case list():
            return [resolved(inner, kept) for inner in value]
    return value


def _same_number(value: Any, wanted: Any) -> bool:
    numbers = (int, float)
    return (
        isinstance(value, numbers)
        and isinstance(wanted, numbers)
        and not isinstance(value, bool)
        and not isinstance(wanted, bool)
        and value == wanted
    )
