"""JSON schemas, as the bridge's own descriptions of its API hold them, as tables in Markdown."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["anchor", "cell", "field_table", "type_of"]

Schema = Mapping[str, Any]


def cell(text: str) -> str:
    """``text`` so that it stays in its cell of a table: on one line, with RST's double backticks as Markdown's."""
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`")


def anchor(heading: str) -> str:
    """The anchor that MkDocs and the usual forges give to a heading of letters, digits, dots and underscores."""
    kept = "".join(char for char in heading.lower() if char.isalnum() or char in " -_")
    return kept.replace(" ", "-")


def field_table(schema: Schema, *, column: str = "field") -> list[str]:
    """One row for each property of an object: name, type with its limits, default, meaning; no lines if it has none."""
    properties: Mapping[str, Schema] = schema.get("properties", {})
    if not properties:
        return []
    required = set(schema.get("required", ()))
    has_meanings = any("description" in inner for inner in properties.values())
    head = [column, "type", "default", *(["meaning"] if has_meanings else [])]
    lines = [_row(head), "|---" * len(head) + "|"]
    for name, inner in properties.items():
        default = "required" if name in required else _literal(inner["default"]) if "default" in inner else ""
        meaning = [cell(inner.get("description", ""))] if has_meanings else []
        lines.append(_row([f"`{name}`", type_of(inner), default, *meaning]))
    return lines


def type_of(schema: Schema) -> str:
    """A type for people: names of types as links to their headings, words as they are typed, limits behind."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{anchor(name)})"
    if "anyOf" in schema:
        return _joined(type_of(inner) for inner in schema["anyOf"])
    if "enum" in schema:
        return _joined(_literal(value) for value in schema["enum"])
    if "const" in schema:
        return _literal(schema["const"])
    kind = schema.get("type")
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}))}{_limits(schema, 'minItems', 'maxItems', ' entries')}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object of {type_of(values)}" if isinstance(values, Mapping) and values else "object"
    if kind == "string":
        return f"string{_limits(schema, 'minLength', 'maxLength', ' characters')}"
    if kind in ("integer", "number"):
        above = f" above {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else ""
        return f"{kind}{above}{_limits(schema, 'minimum', 'maximum', '')}"
    return str(kind) if kind else "anything"


def _joined(types: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(types))


def _limits(schema: Schema, least: str, most: str, unit: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if low is not None and low == high:
        return f", {low}{unit}"
    if low is not None and high is not None:
        return f", {low} to {high}{unit}"
    if low is not None:
        return f", at least {low}{unit}"
    return f", at most {high}{unit}" if high is not None else ""


def _literal(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
