"""What the engine does with items and settings that a client made itself, and what it refuses."""

from typing import Any

from tests.engine.talk import Talk

_CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
_OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}


def _typed(text: str, **fields: object) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content, **fields}


async def test_an_item_that_a_client_made_is_complete() -> None:
    """Whatever status it was sent with, it is told as completed, at once."""
    talk = Talk()
    for status in ("in_progress", "incomplete", "completed"):
        talk.send("conversation.item.create", item=_typed("hi", status=status))
        told = talk.said.events[-2:]
        assert [event["type"] for event in told] == ["conversation.item.added", "conversation.item.done"]
        assert [event["item"]["status"] for event in told] == ["completed", "completed"]


async def test_an_output_belongs_to_a_call() -> None:
    """One that nobody called for is refused and leaves nothing behind; a call that the client made counts."""
    talk = Talk()
    error = talk.refusal("conversation.item.create", item=_OUTPUT)
    assert (error.code, error.param) == ("invalid_tool_call_id", "item.call_id")
    for item in (_CALL, _OUTPUT):
        talk.send("conversation.item.create", item=item)
    talk.send("response.create", response={"output_modalities": ["text"]})
    response = await talk.answer()
    assert response["output"][0]["content"][0]["text"] == "The function answered: sunny"


async def test_an_approval_of_nothing_is_refused() -> None:
    """The engine calls no remote tools, so there is no request to approve."""
    talk = Talk()
    item = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    assert talk.refusal("conversation.item.create", item=item).param == "item.approval_request_id"


async def test_an_answer_to_items_by_reference() -> None:
    """A response out of band hears what it refers to, and nothing else of the conversation."""
    talk = Talk()
    first, second = (talk.type(text) for text in ("one", "two"))
    wanted = {"conversation": "none", "output_modalities": ["text"]}
    unknown = {**wanted, "input": [{"type": "item_reference", "id": "item_of_nobody"}]}
    assert talk.refusal("response.create", response=unknown).param == "response.input[0].id"
    for number, (item_id, text) in enumerate(((first, "one"), (second, "two")), 1):
        talk.send("response.create", response={**wanted, "input": [{"type": "item_reference", "id": item_id}]})
        response = await talk.answer(number)
        assert response["output"][0]["content"][0]["text"] == f"You wrote: {text}"


async def test_a_session_cannot_become_another() -> None:
    """Its type is for good, its model from the first update on, and a forced tool is one of its tools."""
    talk = Talk()
    assert talk.refusal("session.update", session={"type": "transcription"}).param == "session.type"
    talk.send("session.update", session={"model": "gpt-realtime-2.1"})
    assert talk.said.events[-1]["session"]["model"] == "gpt-realtime-2.1"
    assert talk.refusal("session.update", session={"model": "other"}).param == "session.model"
    forced = {"type": "function", "name": "leap"}
    assert talk.refusal("session.update", session={"tool_choice": forced}).param == "session.tool_choice.name"
    assert talk.refusal("response.create", response={"tool_choice": forced}).param == "response.tool_choice.name"


async def test_how_much_noise_is_suppressed_is_kept() -> None:
    """An update that leaves out the strength leaves it as it is; null turns all of it off."""
    talk = Talk()
    for noise_reduction, expected in (
        ({"type": "near_field", "strength": 0.5}, {"type": "near_field", "strength": 0.5}),
        ({"type": "far_field"}, {"type": "far_field", "strength": 0.5}),
        ({"strength": 0}, {"type": "far_field", "strength": 0}),
        (None, None),
        ({"type": "near_field"}, {"type": "near_field"}),
    ):
        talk.send("session.update", session={"audio": {"input": {"noise_reduction": noise_reduction}}})
        assert talk.said.events[-1]["session"]["audio"]["input"]["noise_reduction"] == expected
    wrong = {"audio": {"input": {"noise_reduction": {"strength": -1}}}}
    assert talk.refusal("session.update", session=wrong).param == "session.audio.input.noise_reduction.strength"
