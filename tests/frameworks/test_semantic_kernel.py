"""``semantic-kernel``: its realtime client with a plugin, told nothing but the base URL."""

import pytest

from tests.frameworks.conftest import Run

pytestmark = pytest.mark.frameworks


async def test_it_talks_calls_a_function_and_is_interrupted(run: Run) -> None:
    """A spoken question calls the plugin; speech stops an answer, which is truncated; what is written is answered."""
    async with run("semantic_kernel", "semantic_kernel_agent", "session") as log:
        pass
    assert log.of("error") == []
    assert [call["given"] for call in log.of("sdk.tool_called")] == [{"city": "Paris"}] * 2
    assert [call["name"] for call in log.of("sdk.function_call")] == ["desk-get_weather"] * 2
    assert [result["result"] for result in log.of("sdk.function_result")] == ["sunny in Paris"] * 2
    assert [heard["transcript"] for heard in log.of("conversation.item.input_audio_transcription.completed")] == [
        "What is the weather in Paris?",
        "Please count to 30.",
        "What is the weather in Paris?",
    ]
    said = [event["transcript"] for event in log.of("response.output_audio_transcript.done")]
    assert [said[0], *said[-2:]] == ["sunny in Paris.", "sunny in Paris.", "Good morning."]
    assert "".join(event["text"] for event in log.of("sdk.text")) == "".join(said)
    assert len(log.of("conversation.item.truncated")) == 1
