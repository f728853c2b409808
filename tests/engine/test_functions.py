"""Which function is meant, and what its arguments are, by the words alone."""

from typing import Any

import pytest

from bridge.engine.functions import chosen, filled
from bridge.wire.sessions import FunctionTool

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}


def function(name: str, description: str, *optional: str, **properties: Any) -> FunctionTool:
    required = [key for key in properties if key not in optional]
    return FunctionTool(name, description, {"type": "object", "properties": properties, "required": required})


FUNCTIONS = [
    function("get_weather", "The weather in a city.", city=TEXT),
    function("set_timer", "Starts a timer.", "label", minutes=WHOLE, label=TEXT),
    function(
        "turn_light",
        "Switches a light on or off.",
        room={"type": "string", "enum": ["kitchen", "living room"]},
        on={"type": "boolean"},
    ),
    function("sendMessage", "Writes to a person.", recipient=TEXT, text=TEXT),
    function("book_flight", "Books a flight.", "passengers", origin=TEXT, destination=TEXT, passengers=WHOLE),
    function("add", "Adds numbers.", numbers={"type": "array", "items": {"type": "number"}}),
    function("shop", "Puts things on a shopping list.", things={"type": "array", "items": TEXT}),
    function("search", "Searches the web.", query=TEXT),
    function("roll_dice", "Rolls a dice.", "sides", sides={"type": "integer", "minimum": 2, "default": 6}),
    function(
        "order_pizza",
        "Orders a pizza.",
        order={
            "type": "object",
            "properties": {"size": {"$ref": "#/$defs/size"}, "address": {"anyOf": [TEXT, {"type": "null"}]}},
            "required": ["size"],
        },
    ),
    FunctionTool("transfer", "Hands the caller over to a human agent."),
]
ORDER = FUNCTIONS[-2].parameters
assert isinstance(ORDER, dict)
ORDER["$defs"] = {"size": {"enum": ["small", "large"]}}


@pytest.mark.parametrize(
    ("words", "name", "arguments"),
    [
        ("What is the weather in Paris?", "get_weather", {"city": "Paris"}),
        ("What's the weather like in New York today?", "get_weather", {"city": "New York"}),
        ("weather in new york please", "get_weather", {"city": "new york"}),
        ("Set a timer for five minutes.", "set_timer", {"minutes": 5}),
        ("Set a timer for 10 minutes called eggs.", "set_timer", {"minutes": 10, "label": "eggs"}),
        ("Turn on the light in the kitchen.", "turn_light", {"room": "kitchen", "on": True}),
        ("Turn the living room light off.", "turn_light", {"room": "living room", "on": False}),
        (
            "Send a message to Anna saying I will be late.",
            "sendMessage",
            {"recipient": "Anna", "text": "I will be late"},
        ),
        (
            "Book a flight from Berlin to New York for two passengers.",
            "book_flight",
            {"origin": "Berlin", "destination": "New York", "passengers": 2},
        ),
        ("Add 5, 7 and twelve and a half.", "add", {"numbers": [5, 7, 12]}),
        ("Shop for milk, eggs and bread.", "shop", {"things": ["milk", "eggs", "bread"]}),
        ("Search for cheap hotels in Rome.", "search", {"query": "cheap hotels in Rome"}),
        ("Please roll a dice.", "roll_dice", {"sides": 6}),
        ("Please roll a dice with 20 sides.", "roll_dice", {"sides": 20}),
        ("Order a large pizza.", "order_pizza", {"order": {"size": "large"}}),
        ("Let me talk to an agent, a human!", "transfer", {}),
    ],
)
def test_the_words_choose_a_function_and_fill_it(words: str, name: str, arguments: dict[str, Any]) -> None:
    """Sentences as people say them lead to the call that they mean."""
    tool = chosen(FUNCTIONS, words)
    assert tool is not None
    found = filled(tool, words)
    assert (tool.name, found.arguments, found.missing) == (name, arguments, [])


@pytest.mark.parametrize("words", ["Hello there.", "Tell me a joke.", "What time is it?", "Thank you.", ""])
def test_other_words_choose_none(words: str) -> None:
    """Where no function is named, none is called."""
    assert chosen(FUNCTIONS, words) is None


def test_what_is_missing_is_named() -> None:
    """A required argument that was not said is told; one that is not required is left out."""
    tool = FUNCTIONS[1]
    found = filled(tool, "Set a timer, please.")
    assert (found.arguments, found.missing) == ({}, ["minutes"])
    assert found.with_examples(tool) == {"minutes": 1}


@pytest.mark.parametrize(
    ("answer", "city"), [("Paris, please.", "Paris"), ("It's raining in 42", "It's raining in 42")]
)
def test_an_answer_is_the_argument(answer: str, city: str) -> None:
    """What is said when an argument was asked for is taken as it is."""
    found = filled(FUNCTIONS[0], "What is the weather?", answer=answer)
    assert (found.arguments, found.missing) == ({"city": city}, [])


def test_a_value_outside_its_bounds_is_not_taken() -> None:
    """A number that the schema forbids is none."""
    assert filled(FUNCTIONS[8], "Roll a dice with one side and 12 corners").arguments == {"sides": 12}


def test_a_schema_that_refers_to_itself_ends() -> None:
    """No schema keeps the engine busy for ever."""
    node: dict[str, Any] = {"type": "object", "properties": {"child": {"$ref": "#"}}, "required": ["child"]}
    assert filled(FunctionTool("grow_tree", "", node), "Grow a tree").arguments is not None
