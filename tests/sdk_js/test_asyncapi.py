"""/asyncapi.json by the schema that AsyncAPI's own tools check documents with."""

import json
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator

from bridge.api.describe import asyncapi
from tests.sdk_js.node import FOLDER

pytestmark = pytest.mark.foreign


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    """Of AsyncAPI 3.0."""
    path = FOLDER / "node_modules/@asyncapi/specs/schemas/3.0.0.json"
    return Draft7Validator(json.loads(path.read_text()))


@pytest.fixture
def document() -> Any:
    """As it is served."""
    return json.loads(msgspec.json.encode(asyncapi()))


def test_asyncapi_is_valid(validator: Draft7Validator, document: Any) -> None:
    """Every part of the document has the form that AsyncAPI gives it."""
    assert [error.message for error in validator.iter_errors(document)] == []


@pytest.mark.parametrize("part", ["action", "channel"])
def test_schema_finds_mistakes(validator: Draft7Validator, document: Any, part: str) -> None:
    """The test above could fail."""
    del document["operations"]["clientEvents"][part]
    assert list(validator.iter_errors(document)) != []
