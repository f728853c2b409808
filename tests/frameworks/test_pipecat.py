"""``pipecat-ai``: a pipeline around its realtime service, told nothing but the base URL."""

import pytest

from tests.frameworks.conftest import Run

pytestmark = pytest.mark.frameworks

_COUNTING_S = 10.0  # and more, to count to thirty


async def test_it_talks_calls_a_function_and_is_interrupted(run: Run) -> None:
    """What is written is answered; a spoken question calls the function; speech stops an answer that plays."""
    async with run("pipecat", "pipecat_agent", "session") as log:
        pass
    assert log.of("sdk.error") == []
    assert [call["given"] for call in log.of("sdk.tool_called")] == [{"city": "Paris"}] * 2
    assert len(log.of("sdk.interrupted")) == 1
    asked = [
        ("user", "What is the weather in Paris?"),
        ("assistant", ["get_weather"]),
        ("tool", '"sunny in Paris"'),
        ("assistant", "sunny in Paris."),
    ]
    assert [(item["role"], item["calls"] or item["content"]) for item in log.of("sdk.item")] == [
        ("user", "Say good morning."),
        ("assistant", "Good morning."),
        *asked,
        ("user", "Please count to 30."),
        ("assistant", ", ".join(map(str, range(1, 31))) + "."),  # its text had come, most of its sound had not
        *asked,
    ]


async def test_its_live_client_talks_calls_a_function_and_is_interrupted(run: Run) -> None:
    """It opens the conversation; a spoken question calls the function; speech stops an answer that plays."""
    async with run("pipecat", "pipecat_live_agent", "session") as log:
        pass
    assert log.of("sdk.error") == []
    assert [delegation["target"] for delegation in log.of("sdk.delegation")] == ["responses"] * 2
    assert [call["given"] for call in log.of("sdk.tool_called")] == [{"city": "Paris"}] * 2
    played = [stretch["seconds"] for stretch in log.of("sdk.played")]
    assert len(played) == 4
    assert played[2] < _COUNTING_S / 2
    items = [(item["role"], item["calls"] or item["content"]) for item in log.of("sdk.item")]
    assert [item for item in items if item[0] == "assistant"] == [
        ("assistant", "Good morning."),
        ("assistant", ["get_weather"]),
        ("assistant", "sunny in Paris."),
        ("assistant", ", ".join(map(str, range(1, 31))) + "."),  # its words had come, most of its sound never did
        ("assistant", ["get_weather"]),
        ("assistant", "sunny in Paris."),
    ]
    assert [said for role, said in items if role == "user"] == [
        "What is the weather in Paris?",
        "Please count to 30.",
        "What is the weather in Paris?",
    ]
    assert [said for role, said in items if role == "tool"] == ['"sunny in Paris"'] * 2
