"""Arguments made from a JSON schema alone."""

import json
from typing import Any

import pytest

from bridge.engine.arguments import example_arguments


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether ``value`` fits the few words of JSON Schema that the tests below use."""
    kinds = {
        "string": str, "integer": int, "number": int | float, "boolean": bool, "object": dict, "array": list,
        "null": type(None),
    }  # fmt: skip
    wanted = schema.get("type", [])
    wanted = wanted if isinstance(wanted, list) else [wanted]
    checks = [
        not wanted or any(isinstance(value, kinds[kind]) for kind in wanted),
        value in schema.get("enum", [value]),
        value == schema.get("const", value),
        all(name in value for name in schema.get("required", [])),
        all(fits(value[name], inner) for name, inner in schema.get("properties", {}).items() if name in value),
        all(fits(item, schema.get("items", {})) for item in (value if isinstance(value, list) else [])),
        not isinstance(value, list) or schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 99),
        not isinstance(value, str) or schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 99),
    ]
    if isinstance(value, int | float) and not isinstance(value, bool):
        checks += [
            schema.get("minimum", value) <= value <= schema.get("maximum", value),
            schema.get("exclusiveMinimum", value - 1) < value < schema.get("exclusiveMaximum", value + 1),
        ]
    return all(checks)


def parameters(**properties: object) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "string", "enum": ["b", "a"]},
        {"type": "string", "maxLength": 3},
        {"type": "string", "minLength": 12},
        {"type": "integer"},
        {"type": "integer", "minimum": 5},
        {"type": "integer", "maximum": -5},
        {"type": "integer", "exclusiveMinimum": 5, "maximum": 6},
        {"type": "integer", "minimum": 0.5},
        {"type": "integer", "minimum": 1.5},
        {"type": "number", "minimum": 0.2, "maximum": 0.5},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "boolean"},
        {"type": "null"},
        {"type": ["null", "integer"]},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "array", "items": {"type": "string"}, "minItems": 3},
        {"type": "array", "maxItems": 0},
        {"type": "array"},
        {"type": "object"},
        {"const": 7},
        {"default": "now", "type": "string"},
        {"examples": [3], "type": "integer"},
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        {"properties": {"inner": {"type": "array", "items": {"type": "boolean"}}}, "required": ["inner"]},
        {"type": "object", "required": ["undescribed"]},
        {},
    ],
    ids=json.dumps,
)
def test_what_is_made_fits(schema: dict[str, Any]) -> None:
    """The argument has the type and keeps the bounds that its schema asks for, alone and inside an array."""
    whole = parameters(x=schema, xs={"type": "array", "items": schema})
    arguments = example_arguments(whole)
    assert fits(arguments, whole), arguments


def test_the_schemas_own_word_comes_first() -> None:
    """A constant, a default, an example or the first choice is taken where there is one."""
    schema = parameters(
        a={"const": 1}, b={"default": "d"}, c={"examples": ["e", "f"]}, d={"enum": ["g", "h"]}, e={"default": None}
    )
    assert example_arguments(schema) == {"a": 1, "b": "d", "c": "e", "d": "g", "e": None}


def test_references_are_followed() -> None:
    """A local ``$ref`` is what it points to; one that leads nowhere does no harm."""
    schema = parameters(here={"$ref": "#/$defs/unit"}, nowhere={"$ref": "#/$defs/none"}, far={"$ref": "http://x/y"})
    schema["$defs"] = {"unit": {"enum": ["celsius"]}}
    arguments = example_arguments(schema)
    assert arguments["here"] == "celsius"
    assert arguments.keys() == {"here", "nowhere", "far"}


@pytest.mark.parametrize("schema", [None, {}, [], "x", 5, {"type": "object"}, {"properties": []}, {"type": []}, True])
def test_a_schema_that_says_nothing(schema: object) -> None:
    """Without parameters there are no arguments: an empty object, which is what functions take."""
    assert example_arguments(schema) in ({}, None)
    if not isinstance(schema, dict) or "type" not in schema:
        assert example_arguments(schema) == {}


@pytest.mark.parametrize(
    "node",
    [
        parameters(child={"$ref": "#/$defs/node"}),
        parameters(**{name: {"$ref": "#/$defs/node"} for name in "abcd"}),
        {"type": "array", "minItems": 4, "items": {"$ref": "#/$defs/node"}},
        {"anyOf": [{"$ref": "#/$defs/node"}]},
        {"$ref": "#/$defs/node"},
    ],
    ids=["chain", "tree", "arrays", "choice", "itself"],
)
def test_a_schema_of_itself_makes_something_small(node: dict[str, Any]) -> None:
    """A recursive schema, which a client may send, costs neither time nor memory without bound."""
    schema = {"$defs": {"node": node}, "type": "object", "properties": {"root": {"$ref": "#/$defs/node"}}}
    assert len(json.dumps(example_arguments(schema))) < 10_000
