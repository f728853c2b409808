"""What was asked and not answered: who answers what, what is asked again, and when there is nothing under way."""

from typing import Any

import msgspec
import pytest

from bridge.upstream.pending import Pending
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.relayed import understood
from bridge.wire.server_events import Body, ServerEvent

ITEM = {"id": "item_a", "type": "message", "role": "user", "content": []}
MESSAGE = items.Message(id="item_a", role="user", content=[])


def asked(name: str, event_id: str = "event_1", **fields: Any) -> Body:
    return {"type": name, "event_id": event_id, **fields}


def response(status: Any = "in_progress", response_id: str = "resp_1") -> items.Response:
    return items.Response(id=response_id, status=status, output_modalities=["text"])


def follow(pending: Pending, *events: ServerEvent, answers_turns: bool = False) -> None:
    for event in events:
        pending.follow(event, answers_turns=answers_turns)


def types(bodies: list[Body]) -> list[str]:
    return [body["type"] for body in bodies]


CREATED, DONE = server.ResponseCreated(response=response()), server.ResponseDone(response=response("completed"))
COMMITTED = server.InputAudioBufferCommitted(item_id="item_a")
STARTED = server.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="item_a")
STOPPED = server.InputAudioBufferSpeechStopped(audio_end_ms=9, item_id="item_a")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (asked("session.update", session={}), {"type": "session.updated", "session": {"type": "realtime"}}),
        (asked("conversation.item.create", item=ITEM), server.ConversationItemAdded(item=MESSAGE)),
        (asked("conversation.item.delete", item_id="item_a"), server.ConversationItemDeleted(item_id="item_a")),
        (asked("conversation.item.retrieve", item_id="item_a"), server.ConversationItemRetrieved(item=MESSAGE)),
        (
            asked("conversation.item.truncate", item_id="item_a", content_index=0, audio_end_ms=5),
            server.ConversationItemTruncated(item_id="item_a", content_index=0, audio_end_ms=5),
        ),
        (asked("input_audio_buffer.commit"), COMMITTED),
        (asked("input_audio_buffer.clear"), server.InputAudioBufferCleared()),
        (asked("response.cancel"), DONE),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_each_question_has_its_answer(question: Body, answer: ServerEvent | Body) -> None:
    """Until it comes, the question is asked again; then nothing is under way."""
    pending = Pending()
    assert pending.is_idle
    pending.sent(question, 0.0)
    assert not pending.is_idle
    assert not pending.owes_answer
    follow(pending, answer if isinstance(answer, ServerEvent) else understood(answer))
    assert pending.is_idle
    assert pending.take_requests() == []


def test_an_answer_is_for_the_item_that_it_names() -> None:
    """And for the oldest question where it names none."""
    pending = Pending()
    for number in ("b", "a"):
        pending.sent(asked("conversation.item.create", number, item={**ITEM, "id": f"item_{number}"}), 0.0)
        pending.sent(asked("session.update", f"update_{number}", session={}), 0.0)
    follow(pending, server.ConversationItemAdded(item=MESSAGE))
    follow(
        pending, msgspec.convert({"type": "session.updated", "session": {"type": "realtime"}}, server.SessionUpdated)
    )
    assert [body["event_id"] for body in pending.take_requests()] == ["b", "update_a"]


def test_an_error_answers_what_it_names() -> None:
    """What was refused is not asked again; an error that names nothing is of the response that is owed."""
    pending = Pending()
    for event_id in ("event_1", "event_2"):
        pending.sent(asked("conversation.item.create", event_id, item=ITEM), 0.0)
    pending.sent(asked("response.create", "event_3"), 0.0)
    follow(pending, server.Error(error=server.ErrorDetail(type="t", message="m", event_id="event_1")))
    follow(pending, server.Error(error=server.ErrorDetail(type="t", message="m", event_id="event_of_somebody")))
    follow(pending, server.Error(error=server.ErrorDetail(type="t", message="m", code="session_expired")))
    assert pending.owes_answer
    follow(pending, server.Error(error=server.ErrorDetail(type="t", message="m")))
    assert not pending.owes_answer
    assert [body["event_id"] for body in pending.take_requests()] == ["event_2"]


def test_an_answer_that_is_being_given_is_asked_for_again() -> None:
    """With the event that asked for it, in front of what was asked later."""
    pending = Pending()
    pending.sent(asked("response.create", "event_1", response={"instructions": "sing"}), 0.0)
    follow(pending, CREATED)
    pending.sent(asked("conversation.item.create", "event_2", item=ITEM), 0.0)
    assert pending.owes_answer
    again = pending.take_requests()
    assert [body["event_id"] for body in again] == ["event_1", "event_2"]
    assert again[0]["response"] == {"instructions": "sing"}
    assert pending.is_idle


@pytest.mark.parametrize("answers_turns", [True, False])
def test_a_callers_turn_asks_for_an_answer(answers_turns: bool) -> None:
    """If the service answers turns of itself: from its commit on, until its response is done."""
    pending = Pending()
    follow(pending, STARTED, answers_turns=answers_turns)
    assert not pending.is_idle
    follow(pending, STOPPED, COMMITTED, answers_turns=answers_turns)
    assert pending.owes_answer is answers_turns
    follow(pending, CREATED)
    assert pending.owes_answer
    follow(pending, DONE)
    assert pending.is_idle


def test_a_turn_that_was_not_answered_is_answered_by_the_next() -> None:
    """It is asked for, since nobody will hear the turn itself again."""
    pending = Pending()
    follow(pending, STARTED, STOPPED, COMMITTED, answers_turns=True)
    assert types(pending.take_requests()) == ["response.create"]


@pytest.mark.parametrize("stop", [STARTED, None], ids=["barge-in", "cancel"])
def test_an_answer_that_was_stopped_is_not_asked_for_again(stop: ServerEvent | None) -> None:
    """By the caller's voice or by a client, it is over either way; what else was asked stays asked."""
    pending = Pending()
    follow(pending, CREATED)
    if stop is not None:
        follow(pending, stop)
    else:
        pending.sent(asked("response.cancel"), 0.0)
    pending.sent(asked("conversation.item.delete", item_id="item_a"), 0.0)
    assert types(pending.take_requests()) == ["conversation.item.delete"]


def test_an_answer_beside_the_conversation_is_stopped_by_its_id_only() -> None:
    """The caller's voice and a bare cancel end the conversation's answer; those beside it are asked for again."""
    for stop in (STARTED, asked("response.cancel"), asked("response.cancel", response_id="resp_2")):
        pending = Pending()
        for number, wanted in enumerate(({}, {"conversation": "none"}, {"conversation": "none"}), 1):
            pending.sent(asked("response.create", f"event_{number}", response=wanted), 0.0)
            follow(pending, server.ResponseCreated(response=response(response_id=f"resp_{number}")))
        if isinstance(stop, ServerEvent):
            follow(pending, stop)
        else:
            pending.sent(stop, 0.0)
        named = isinstance(stop, dict) and "response_id" in stop
        expected = ["event_1", "event_3"] if named else ["event_2", "event_3"]
        assert [body["event_id"] for body in pending.take_requests()] == expected


def test_a_turn_is_not_answered_beside_the_conversation() -> None:
    """Whichever response comes first: the turn's is the one in the conversation, and is owed until it comes."""
    ours, beside = response(response_id="resp_1"), response(response_id="resp_2")
    ours.conversation_id = "conv_1"
    for first in (ours, beside):
        pending = Pending()
        pending.sent(asked("response.create", "event_1", response={"conversation": "none"}), 0.0)
        follow(pending, STARTED, STOPPED, COMMITTED, answers_turns=True)
        follow(pending, server.ResponseCreated(response=first), server.ResponseDone(response=first))
        assert pending.owes_answer
        assert [body.get("response") for body in pending.take_requests()] == [
            {"conversation": "none"} if first is ours else None
        ]


def test_what_stays_unanswered_is_forgotten() -> None:
    """Some services do not answer everything; a response may take its time."""
    pending = Pending()
    pending.sent(asked("response.create"), 0.0)
    pending.sent(asked("session.update", session={}), 0.0)
    pending.sent(asked("input_audio_buffer.clear"), 5.0)
    pending.forget(1.0)
    assert types(pending.take_requests()) == ["response.create", "input_audio_buffer.clear"]


def test_there_is_a_bound() -> None:
    """The oldest of too many counts as answered."""
    pending = Pending()
    for number in range(300):
        pending.sent(asked("input_audio_buffer.clear", str(number)), 0.0)
    assert [body["event_id"] for body in pending.take_requests()] == [str(number) for number in range(44, 300)]


@pytest.mark.parametrize(
    "name", ["input_audio_buffer.append_video_frame", "session.close", "output_audio_buffer.clear"]
)
def test_what_nobody_knows_the_answer_of_is_not_waited_for(name: str) -> None:
    """Events of a newer protocol neither keep the line from being replaced, nor are they said again to the next one."""
    pending = Pending()
    pending.sent(asked(name, video_frame="AAAA"), 0.0)
    assert pending.is_idle
    assert pending.take_requests() == []
