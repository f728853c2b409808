"""``pipecat-ai``: a pipeline around its realtime service, told nothing but the base URL."""

import pytest

from tests.frameworks.conftest import Run

pytestmark = pytest.mark.frameworks


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
