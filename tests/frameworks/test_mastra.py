"""npm ``@mastra/voice-openai-realtime``, told nothing but its ``url``."""

import pytest

from tests.frameworks.conftest import RunInNode

pytestmark = pytest.mark.frameworks


async def test_it_talks_calls_a_function_and_is_interrupted(run_in_node: RunInNode) -> None:
    """A spoken question calls the tool; speech stops an answer; what is written is answered."""
    async with run_in_node("mastra.mjs", "session") as log:
        pass
    assert log.refusals == []
    assert [call["given"] for call in log.of("sdk.tool_called")] == [{"city": "Paris"}] * 2
    assert [heard["transcript"] for heard in log.of("conversation.item.input_audio_transcription.completed")] == [
        "What is the weather in Paris?",
        "Please count to 30.",
        "What is the weather in Paris?",
    ]
    statuses = [done["response"]["status"] for done in log.of("response.done")]
    assert statuses == ["completed", "completed", "cancelled", "completed", "completed", "completed"]
    written = "".join(piece["text"] for piece in log.of("sdk.writing") if piece["role"] == "assistant").split("\n")
    assert written == [
        "sunny in Paris.",
        ", ".join(map(str, range(1, 31))) + ".",  # its text had come, most of its sound had not
        "sunny in Paris.",
        "Good morning.",
        "",
    ]
    assert sum(piece["size"] for piece in log.of("sdk.speaking")) > 2 * 24_000
