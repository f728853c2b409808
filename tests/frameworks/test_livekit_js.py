"""npm ``@livekit/agents`` with its openai plugin: an agent's session, told nothing but the base URL."""

import pytest

from tests.frameworks.conftest import RunInNode

pytestmark = pytest.mark.frameworks


async def test_it_talks_calls_a_function_and_is_interrupted(run_in_node: RunInNode) -> None:
    """A spoken question calls the function; speech stops an answer that plays; what is written is answered."""
    async with run_in_node("livekit.mjs", "session") as log:
        pass
    assert log.of("sdk.error") == []
    assert [call["given"] for call in log.of("sdk.tool_called")] == [{"city": "Paris"}] * 2
    assert [(item["role"], item["text"], item["interrupted"]) for item in log.of("sdk.item")] == [
        ("user", "What is the weather in Paris?", False),
        ("assistant", "sunny in Paris.", False),
        ("user", "Please count to 30.", False),
        ("assistant", ", ".join(map(str, range(1, 31))) + ".", True),
        ("user", "What is the weather in Paris?", False),
        ("assistant", "sunny in Paris.", False),
        ("user", "Say good morning.", False),
        ("assistant", "Good morning.", False),
    ]
    assert [played["interrupted"] for played in log.of("sdk.played")] == [False, True, False, False]
