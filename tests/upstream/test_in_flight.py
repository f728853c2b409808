"""Responses whose upstream is lost: whatever is owed of one is told, in the protocol's order, and no more."""

from typing import Any

import pytest

from bridge.errors import UpstreamError
from bridge.upstream.in_flight import InFlight
from bridge.wire.relayed import understood
from bridge.wire.server_events import ServerEvent

LOST = UpstreamError("The cable broke.", code="upstream_lost")
PLACE: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
MESSAGE = {"id": "item_a", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
CALL = {"id": "item_a", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": ""}

CREATED = {"type": "response.created", "response": {"id": "resp_1"}}
OUTPUT = {"type": "response.output_item.added", "response_id": "resp_1", "output_index": 0, "item": MESSAGE}
ADDED = {"type": "conversation.item.added", "item": MESSAGE}
SPOKEN_PART = {"type": "response.content_part.added", "part": {"type": "audio", "transcript": ""}, **PLACE}
WRITTEN_PART = {"type": "response.content_part.added", "part": {"type": "text", "text": ""}, **PLACE}
WORDS = {"type": "response.output_audio_transcript.delta", "delta": "hel", **PLACE}
TEXT = {"type": "response.output_text.delta", "delta": "hel", **PLACE}
SOUND_DONE = {"type": "response.output_audio.done", **PLACE}
WORDS_DONE = {"type": "response.output_audio_transcript.done", "transcript": "hello", **PLACE}
TEXT_DONE = {"type": "response.output_text.done", "text": "hello", **PLACE}
PART_DONE = {"type": "response.content_part.done", "part": {"type": "audio", "transcript": "hello"}, **PLACE}
OUTPUT_DONE = {**OUTPUT, "type": "response.output_item.done", "item": {**MESSAGE, "status": "completed"}}
DONE = {"type": "conversation.item.done", "item": {**MESSAGE, "status": "completed"}}
RESPONSE_DONE = {"type": "response.done", "response": {"id": "resp_1", "status": "completed"}}

SPOKEN = [
    CREATED, OUTPUT, ADDED, SPOKEN_PART, WORDS, SOUND_DONE, WORDS_DONE, PART_DONE, OUTPUT_DONE, DONE, RESPONSE_DONE,
]  # fmt: skip
WRITTEN = [CREATED, OUTPUT, ADDED, WRITTEN_PART, TEXT, TEXT_DONE, PART_DONE, OUTPUT_DONE, DONE, RESPONSE_DONE]


def ended(*said: dict[str, Any]) -> list[ServerEvent]:
    in_flight = InFlight()
    for body in said:
        in_flight.follow(understood(body))
    events = in_flight.end(LOST)
    assert in_flight.end(LOST) == []
    return events


@pytest.mark.parametrize("whole", [SPOKEN, WRITTEN], ids=["spoken", "written"])
@pytest.mark.parametrize("size", range(11))
def test_wherever_it_breaks_off_it_is_brought_to_its_end(whole: list[dict[str, Any]], size: int) -> None:
    """What was said and what is added to it is the whole answer, each event once; then its items are taken back."""
    said = whole[: min(size, len(whole))]
    names = [event.type for event in ended(*said)]
    if said in ([], whole):
        assert names == []
        return
    deleted = names.pop() if ADDED in said else None
    assert deleted == ("conversation.item.deleted" if ADDED in said else None)
    begun = {str(body["type"]) for body in said}
    expected = [str(body["type"]) for body in whole if not str(body["type"]).endswith("delta")]
    if OUTPUT not in said:
        expected = ["response.created", "response.done"]
    else:
        part = SPOKEN_PART if whole is SPOKEN else WRITTEN_PART
        if part not in said:
            expected = [name for name in expected if "content_part" not in name and "_audio" not in name]
            expected = [name for name in expected if "output_text" not in name]
        if ADDED not in said:
            expected = [name for name in expected if not name.startswith("conversation.")]
    assert names == [name for name in expected if name not in begun]


def test_what_was_said_so_far_is_what_it_says() -> None:
    """The words that came are in all that is told of it; the reason is the upstream's."""
    by_name = {event.type: event for event in ended(CREATED, OUTPUT, ADDED, SPOKEN_PART, WORDS, WORDS)}
    transcript: Any = by_name["response.output_audio_transcript.done"]
    assert transcript.transcript == "helhel"
    part: Any = by_name["response.content_part.done"]
    assert part.part.transcript == "helhel"
    done: Any = by_name["response.done"]
    assert done.response.status == "failed"
    assert done.response.status_details.error["code"] == "upstream_lost"
    assert [item.status for item in done.response.output] == ["incomplete"]


def test_a_function_call_breaks_off() -> None:
    """Its arguments end where they are; no client takes them for complete, since the item is not."""
    output = {**OUTPUT, "item": CALL}
    delta = {"type": "response.function_call_arguments.delta", "delta": '{"a":', "call_id": "call_1", **PLACE}
    arguments, item, done = ended(CREATED, output, delta, delta)
    assert (arguments.type, item.type, done.type) == (
        "response.function_call_arguments.done", "response.output_item.done", "response.done",
    )  # fmt: skip
    told: Any = arguments
    assert (told.name, told.call_id, told.arguments) == ("f", "call_1", '{"a":{"a":')
    unfinished: Any = item
    assert unfinished.item.status == "incomplete"


def test_a_response_beside_the_conversation_takes_nothing_back() -> None:
    """Its items never stood there."""
    assert [event.type for event in ended(CREATED, OUTPUT)] == ["response.output_item.done", "response.done"]


def test_what_belongs_to_no_response_is_passed_over() -> None:
    """Strays of a response, an item or a part that nobody announced."""
    stray = {**TEXT, "item_id": "item_x"}
    other = {**TEXT, "response_id": "resp_x"}
    names = [
        event.type
        for event in ended(TEXT, CREATED, stray, other, OUTPUT, TEXT, {**DONE, "item": {**MESSAGE, "id": "x"}})
    ]
    assert names == ["response.output_item.done", "response.done"]


def test_an_item_that_is_only_done_is_in_the_output() -> None:
    """Some services announce nothing."""
    [done] = ended(CREATED, OUTPUT_DONE)
    response: Any = done
    assert [item.id for item in response.response.output] == ["item_a"]
