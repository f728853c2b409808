"""``ag2``: its live agent, told nothing but the base URL."""

from collections.abc import Callable

import pytest

from tests.frameworks.conftest import Run

_SECOND_BYTES = 2 * 24_000

pytestmark = pytest.mark.frameworks


async def test_it_talks_calls_a_function_and_is_interrupted(run: Run, say: Callable[[str], bytes]) -> None:
    """A spoken question calls the function; speech cuts an answer short, and is answered in its place."""
    async with run("ag2", "ag2_agent", "session") as log:
        pass
    assert [call["given"] for call in log.of("sdk.tool_called")] == [{"city": "Paris"}] * 2
    assert [heard["text"] for heard in log.of("sdk.heard")] == [
        "What is the weather in Paris?",
        "Please count to 30.",
        "What is the weather in Paris?",
    ]
    called, answer, counted, called_again, last = (said["text"] for said in log.of("sdk.said"))
    assert (called, called_again) == (None, None)
    assert (answer, last) == ("sunny in Paris.", "sunny in Paris.")
    sizes = [0]
    for event in log.of("sdk.sound", "sdk.said"):
        if event["type"] == "sdk.said":
            sizes.append(0)
        else:
            sizes[-1] += event["size"]
    assert sizes[1] > _SECOND_BYTES / 2
    assert 0 < sizes[2] < 0.9 * len(say(counted))
