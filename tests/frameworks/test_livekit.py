"""``livekit-agents`` with its openai plugin: an agent's session, told nothing but the base URL."""

from tests.frameworks.conftest import Run

# LiveKit cancels also what the turn detection has ended already, and the real service says the same of it.
_TOO_LATE = "response_cancel_not_active"
_COUNTING_S = 10.0  # and more, to count to thirty


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


async def test_its_live_client_talks_calls_a_function_and_is_interrupted(run: Run) -> None:
    """A spoken question calls the function; speech stops an answer; what is to be said is said."""
    async with run("agents", "livekit_live_agent", "session", delegation="responses") as log:
        pass
    assert log.of("error", "sdk.error") == []
    assert [call["given"] for call in log.of("sdk.tool_called")] == [{"city": "Paris"}] * 2
    assert [(item["role"], item["text"].strip()) for item in log.of("sdk.item")] == [
        ("user", "What is the weather in Paris?"),
        ("assistant", "sunny in Paris."),
        ("user", "Please count to 30."),
        ("assistant", ", ".join(map(str, range(1, 31))) + "."),  # its words had come, most of its sound never did
        ("user", "What is the weather in Paris?"),
        ("assistant", "sunny in Paris."),
        ("assistant", "Good morning."),
    ]
    played = [stretch["seconds"] for stretch in log.of("sdk.played")]
    assert len(played) == 4
    assert played[1] < _COUNTING_S / 2
    (closed,) = log.of("session.closed")
    assert closed["reason"] == "close_requested"


async def test_its_live_client_does_what_is_delegated(run: Run) -> None:
    """The application is given the task, and what it says of it is spoken."""
    async with run("agents", "livekit_live_agent", "session", delegation="client") as log:
        pass
    assert log.of("error", "sdk.error") == []
    (delegation,) = log.of("sdk.delegation")
    assert delegation["pending_transcript"].strip() == "Please delegate the task of booking a table."
    assert log.of("session.delegation.created")[0]["delegation"]["target"] == "client"
    (_, answer) = log.of("sdk.item")
    assert (answer["role"], answer["text"].strip()) == ("assistant", "The table is booked.")
