"""Arguments for a function call, made from the function's JSON schema alone."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["example_arguments", "resolved"]

_MAX_DEPTH = 8
_MAX_VALUES = 200  # of one example; a schema may refer to itself
_WORD = "example"


def example_arguments(schema: Any) -> Any:
    """A value that fits ``schema``: its own example, default or first choice if it has one, else the smallest."""
    return _Maker(schema).make(schema, 0)


class _Maker:
    """Makes one example; ``$ref`` is looked up in ``root``."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._values_left = _MAX_VALUES

    def make(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return {} if depth == 0 else _WORD
        schema = resolved(schema, self._root)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("examples", "enum"):
            if isinstance(schema.get(key), list) and schema[key]:
                return schema[key][0]
        self._values_left -= 1
        is_spent = depth > _MAX_DEPTH or self._values_left <= 0
        for key in ("anyOf", "oneOf", "allOf"):
            if isinstance(schema.get(key), list) and schema[key] and not is_spent:
                return self.make(schema[key][0], depth + 1)
        kind = schema.get("type", "object" if "properties" in schema or depth == 0 else "string")
        if isinstance(kind, list):
            kind = next((k for k in kind if k != "null"), "null")
        if kind == "object":
            return {} if is_spent else self._object(schema, depth)
        if kind == "array":
            return [] if is_spent else self._array(schema, depth)
        return _scalar(str(kind), schema)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        described = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        undescribed = required if isinstance(required, list) else []
        names = [*described, *(name for name in undescribed if isinstance(name, str) and name not in described)]
        return {str(name): self.make(described.get(name, {"type": "string"}), depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        count = max(1, _whole(schema.get("minItems"), 1))
        count = min(count, _whole(schema.get("maxItems"), count), _MAX_VALUES)
        return [self.make(schema.get("items", {}), depth + 1) for _ in range(count)]


def resolved(schema: Mapping[str, Any], root: Any) -> Mapping[str, Any]:
    """The schema itself, or what its local ``$ref`` points to in ``root``."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return schema
    found = root
    for step in reference[2:].split("/"):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _scalar(kind: str, schema: Mapping[str, Any]) -> Any:
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    if kind in ("integer", "number"):
        return _number(schema, is_whole=kind == "integer")
    least, most = _whole(schema.get("minLength"), 0), _whole(schema.get("maxLength"), 10_000)
    return _WORD.ljust(min(least, 10_000), "e")[:most]


def _number(schema: Mapping[str, Any], *, is_whole: bool) -> Any:
    """1, moved inside the schema's bounds."""
    low, high = _bound(schema, "minimum"), _bound(schema, "maximum")
    above, below = _bound(schema, "exclusiveMinimum"), _bound(schema, "exclusiveMaximum")
    if is_whole:
        low = max(math.ceil(low) if low > -math.inf else low, math.floor(above) + 1 if above > -math.inf else above)
        high = min(math.floor(high) if high < math.inf else high, math.ceil(below) - 1 if below < math.inf else below)
        return int(min(max(1, low), high))
    value = min(max(1, low), high)
    if above < value < below:
        return value
    if above > -math.inf and below < math.inf:
        return (above + below) / 2
    return above + 1 if value <= above else below - 1


def _bound(schema: Mapping[str, Any], name: str) -> float:
    default = -math.inf if name.lower().endswith("minimum") else math.inf
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
