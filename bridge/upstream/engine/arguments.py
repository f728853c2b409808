"""Arguments for a function call, made from the function's JSON schema alone."""

from collections.abc import Mapping
from typing import Any

__all__ = ["example_arguments"]

_MAX_DEPTH = 8
_BY_TYPE: dict[str, Any] = {"string": "example", "boolean": True, "null": None}


def example_arguments(schema: Any) -> Any:
    """A value that fits ``schema``: its own example, default or first choice where it has one, else the smallest."""
    return _example(schema, root=schema, depth=0)


def _example(schema: Any, *, root: Any, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return {} if depth == 0 else "example"
    schema = _resolved(schema, root)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if isinstance(schema.get(key), list) and schema[key]:
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return _example(schema[key][0], root=root, depth=depth + 1)
    kind = schema.get("type", "object" if "properties" in schema or depth == 0 else "string")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if kind == "object":
        properties = schema.get("properties")
        if not isinstance(properties, Mapping):
            return {}
        return {name: _example(value, root=root, depth=depth + 1) for name, value in properties.items()}
    if kind == "array":
        items = max(1, _number(schema.get("minItems"), 1))
        return [_example(schema.get("items", {}), root=root, depth=depth + 1)] * min(items, 16)
    if kind in ("integer", "number"):
        return _within(schema)
    return _BY_TYPE.get(str(kind), "example")


def _resolved(schema: Mapping[str, Any], root: Any) -> Mapping[str, Any]:
    """What a local ``$ref`` points to."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return schema
    found = root
    for step in reference[2:].split("/"):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _within(schema: Mapping[str, Any]) -> Any:
    """1, moved inside the schema's bounds."""
    value: Any = 1
    if isinstance(schema.get("minimum"), int | float):
        value = max(value, schema["minimum"])
    if isinstance(schema.get("exclusiveMinimum"), int | float) and value <= schema["exclusiveMinimum"]:
        value = schema["exclusiveMinimum"] + 1
    if isinstance(schema.get("maximum"), int | float):
        value = min(value, schema["maximum"])
    if isinstance(schema.get("exclusiveMaximum"), int | float) and value >= schema["exclusiveMaximum"]:
        value = schema["exclusiveMaximum"] - 1
    return value


def _number(value: Any, default: int) -> int:
    return value if isinstance(value, int) else default
