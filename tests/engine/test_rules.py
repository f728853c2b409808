"""What the engine answers to which words."""

import json
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.instructions import read
from bridge.engine.rules import Say, Topic, Use, answer
from bridge.wire import items
from bridge.wire.sessions import FunctionTool

SCHEMA_WORDS = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "enum",
        "items",
        "anyOf",
        "$ref",
        "default",
        "const",
        "minimum",
        "city",
        "number",
    ]
)
SENTENCES = st.sampled_from(
    ["What is one plus two?", "Count to five", "Say hello", "Set five minutes for Anna, please."]
)
WEATHER = FunctionTool(
    "get_weather",
    "The weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


class Bridge:
    """A bridge on a Wednesday afternoon."""

    def now(self) -> datetime:
        return datetime(2026, 11, 25, 14, 5)

    def calls(self) -> int:
        return 1

    def listeners(self) -> int:
        return 3

    def settings(self) -> dict[str, str]:
        return {"port": "8080", "max_calls": "200", "engine": "local"}


def said(text: str) -> items.Message:
    return items.Message(role="user", content=[items.InputAudio(transcript=text)])


def answered(text: str) -> items.Message:
    return items.Message(role="assistant", content=[items.OutputAudio(transcript=text)])


def reply(
    *history: items.Item | str,
    instructions: str = "",
    of_response: str = "",
    tools: Sequence[FunctionTool] = (),
    **options: Any,
) -> Say | Use:
    spoken = [said(item) if isinstance(item, str) else item for item in history]
    topic = {"must_call": False, "bridge": Bridge(), "random": Random(0), **options}
    return answer(Topic(history=spoken, instructions=read(instructions, of_response), tools=tools, **topic))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("What time is it?", "It is 2:05 PM."),
        ("Can you tell me the time?", "It is 2:05 PM."),
        ("What's the date today?", "Today is Wednesday, November 25, 2026."),
        ("Please count to five.", "1, 2, 3, 4, 5."),
        ("Count from 5 to 8.", "5, 6, 7, 8."),
        ("Count down from three.", "3, 2, 1."),
        ("Count to a million.", "That is too much for me: I count 100 numbers at most."),
        ("Repeat after me, the sky is blue.", "The sky is blue."),
        ("Say hello world.", "Hello world."),
        ("What is twelve plus 30?", "12 plus 30 is 42."),
        ("How much is ten divided by zero?", "Nothing can be divided by zero."),
        ("Can you speak German?", "I am sorry, I speak English only."),
        ("How many calls are there?", "There is 1 call running on this bridge."),
        ("How many listeners do I have?", "There are 3 listeners attached to this bridge."),
        ("What is the port?", "The setting port is 8080."),
        ("Which settings do you have?", "These are my settings: port is 8080, max calls is 200, engine is local."),
        ("The quick brown fox.", "You said: The quick brown fox."),
        ("How long is a piece of string?", "You said: How long is a piece of string?"),
    ],
)
def test_it_knows_a_little(words: str, expected: str) -> None:
    """Each of the things that it can do is done, and anything else is said back."""
    assert reply(words) == Say(expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Hello there.", "Hello"),
        ("Good morning!", "Hello"),
        ("Thank you very much.", "welcome"),
        ("Goodbye for now.", "Goodbye"),
        ("How are you?", "well"),
        ("Who are you?", "I am no language model"),
        ("What can you do?", "repeat after you"),
    ],
)
def test_it_has_manners(words: str, expected: str) -> None:
    """It greets, thanks, and says what it is."""
    replies = {reply(words, random=Random(seed)) for seed in range(20)}
    assert all(isinstance(one, Say) for one in replies)
    assert any(expected in one.text for one in replies if isinstance(one, Say))


def test_it_remembers_what_was_said() -> None:
    """The last answer and the caller's last words can be had again."""
    assert reply("Hello.", answered("Hi there!"), "Say that again.") == Say("Hi there!")
    assert reply("Hello.", answered("Hi there!"), "What did I say?") == Say("You said: Hello.")
    assert reply("Say it again.") == Say("I have not said anything yet.")


def test_it_admits_what_it_did_not_understand() -> None:
    """Sound without words is answered by an apology, no sound at all by a greeting, a long silence by a question."""
    assert "Sorry" in str(reply(""))
    assert "H" in str(reply())
    assert reply("", is_idle=True) == Say("Are you still there?")


def test_instructions_come_first() -> None:
    """A fixed greeting opens the conversation once, a fixed answer is every answer."""
    welcome = 'Greet the caller with "Welcome to Acme!"'
    assert reply(instructions=welcome) == Say("Welcome to Acme!")
    assert reply("Hello!", instructions=welcome) == Say("Welcome to Acme!")
    assert reply("What time is it?", instructions=welcome) == Say("Welcome to Acme! It is 2:05 PM.")
    assert reply("Hi", answered("Welcome"), "What time is it?", instructions=welcome) == Say("It is 2:05 PM.")
    assert reply("Why?", instructions='Always answer "No comment."') == Say("No comment.")


def test_a_function_is_called_when_the_words_ask_for_it() -> None:
    """Words that match a function call it, others do not."""
    assert reply("What is the weather in Paris?", tools=[WEATHER]) == Use("get_weather", '{"city":"Paris"}')
    assert reply("What time is it?", tools=[WEATHER]) == Say("It is 2:05 PM.")


def test_a_missing_argument_is_asked_for() -> None:
    """The question names it, and the next words are its value; who does not want any more is not pressed."""
    question = reply("What is the weather?", tools=[WEATHER])
    assert question == Say("For that I need the city.")
    so_far: list[items.Item | str] = ["What is the weather?", answered("For that I need the city.")]
    assert reply(*so_far, "Paris, please.", tools=[WEATHER]) == Use("get_weather", '{"city":"Paris"}')
    assert reply(*so_far, "Never mind.", tools=[WEATHER]) == Say("All right.")


def test_a_function_can_be_demanded() -> None:
    """Where a call is required there is one, with what the words have and examples for the rest."""
    assert reply("Hello.", tools=[WEATHER], must_call=True) == Use("get_weather", '{"city":"example"}')


def test_the_words_of_one_answer_come_before_what_was_said_before() -> None:
    """A response that is told its words neither calls again what was asked for, nor tells again what came back."""
    asked, result = "What is the weather in Paris?", items.FunctionCallOutput(call_id="call_1", output="sunny")
    words: Any = {"of_response": "Say to the caller: The light is green.", "tools": [WEATHER]}
    assert reply(asked, **words) == Say("The light is green.")
    assert reply(asked, result, **words) == Say("The light is green.")
    assert isinstance(reply(asked, must_call=True, **words), Use)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("sunny in Paris", "sunny in Paris."),
        ('{"temp_c": 21, "sky": "clear", "is_windy": false}', "temp c is 21, sky is clear, is windy is no."),
        ('["one", 2, null]', "one, 2, nothing."),
        ("", "The function gave nothing back."),
    ],
)
def test_a_result_is_said(output: str, expected: str) -> None:
    """What a function returned is told in words, and does not lead to another call."""
    call = items.FunctionCall(name="get_weather", arguments="{}", call_id="call_1")
    result = items.FunctionCallOutput(call_id="call_1", output=output)
    assert reply("What is the weather in Paris?", call, result, tools=[WEATHER]) == Say(expected)


def test_a_result_may_be_nested_as_deeply_as_it_likes() -> None:
    """No output of a function is too strange to be told of."""
    for output in ("[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, "[" * 50 + "]" * 50):
        said = reply("x", items.FunctionCallOutput(call_id="call_1", output=output))
        assert isinstance(said, Say)
        assert 0 < len(said.text) <= 601


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCHEMA_WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(words=st.text(max_size=200) | SENTENCES, schema=json_values, name=st.text(max_size=20))
def test_nothing_that_is_said_or_offered_breaks_it(words: str, schema: Any, name: str) -> None:
    """Whatever the words and whatever a function's schema, there is an answer; a call's arguments are a JSON object."""
    parameters = schema if isinstance(schema, dict) else {}
    tool = FunctionTool(name, words, {"type": "object", "properties": schema, **parameters})
    for must_call in (False, True):
        said = reply(words, tools=[tool], must_call=must_call)
        if isinstance(said, Use):
            assert isinstance(json.loads(said.arguments), dict)
        else:
            assert said.text


@given(st.text(max_size=300))
def test_no_instructions_break_it(text: str) -> None:
    """Whatever they are, there is an answer."""
    assert reply("Hello.", instructions=text) is not None
