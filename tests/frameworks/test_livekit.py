"""``livekit-agents`` with its openai plugin: an agent's session, told nothing but the base URL."""

from tests.frameworks.conftest import Run

# LiveKit cancels also what the turn detection has ended already, and the real service says the same of it.
_TOO_LATE = "response_cancel_not_active"


async def test_it_talks_calls_a_function_and_is_interrupted(run: Run) -> None:
    """A spoken question calls the function; speech stops an answer that plays; what is written is answered."""
    async with run("agents", "livekit_agent", "session") as log:
        pass
    assert {error["error"]["code"] for error in log.of("error")} <= {_TOO_LATE}
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
    assert all(played["seconds"] > 0.5 for played in log.of("sdk.played") if not played["interrupted"])
    (truncated,) = log.of("conversation.item.truncated")
    assert 0 < truncated["audio_end_ms"] <= 500
