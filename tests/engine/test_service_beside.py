"""Responses beside the conversation: several at a time, none in the way of the one that the caller waits for."""

import asyncio
from typing import Any

import pytest

from bridge.wire.sessions import AudioConfig, AudioInput, ServerVad, SessionConfig, merged
from tests.engine.talk import AUDIO, MS, Talk, silence, turns

_TOO_MANY = 17


@pytest.fixture
def sentence(speech_pcm: bytes) -> bytes:
    return speech_pcm[: 1800 * MS]


def _beside(text: str, **wanted: object) -> dict[str, Any]:
    """A response of its own input, beside the conversation."""
    content = [{"type": "input_text", "text": text}]
    message = {"type": "message", "role": "user", "content": content}
    return {"conversation": "none", "input": [message], "output_modalities": ["text"], **wanted}


def _in_progress(talk: Talk) -> list[str]:
    done = {event["response"]["id"] for event in talk.said.of_type("response.done")}
    created = (event["response"]["id"] for event in talk.said.of_type("response.created"))
    return [response_id for response_id in created if response_id not in done]


def _speak_by_hand(talk: Talk, sentence: bytes) -> None:
    talk.speak(sentence)
    talk.send("input_audio_buffer.commit")
    talk.send("response.create")


def _by_hand() -> Talk:
    return Talk(audio={"input": {"turn_detection": None}})


def _idle_after(idle_timeout_ms: int) -> SessionConfig:
    """Sooner than a client may ask for."""
    turn_detection = ServerVad(idle_timeout_ms=idle_timeout_ms)
    return SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=turn_detection)))


async def _all_done(talk: Talk, count: int) -> dict[str, dict[str, Any]]:
    """So many responses by their text."""
    await talk.said.until("response.done", count)
    responses = [event["response"] for event in talk.said.of_type("response.done")]
    return {response["output"][0]["content"][0].get("text", AUDIO): response for response in responses}


async def test_three_beside_a_running_answer(sentence: bytes) -> None:
    """All four are in progress at once; each is told whole under its own ids, and the conversation has one of them."""
    talk = _by_hand()
    _speak_by_hand(talk, sentence)
    await talk.said.until(AUDIO, 2)
    for topic in ("one", "two", "three"):
        talk.send("response.create", response=_beside("a line\n" * 9 + topic, metadata={"topic": topic}))
    assert len(_in_progress(talk)) == 4
    done = await _all_done(talk, 4)
    assert {response["status"] for response in done.values()} == {"completed"}
    spoken = done.pop(AUDIO)
    assert talk.said.sounds == {spoken["output"][0]["id"]: sentence}
    for text, response in done.items():
        assert text == "You wrote: " + "a line\n" * 9 + response["metadata"]["topic"]
        assert response["conversation_id"] is None
        events = [event for event in talk.said.events if event.get("response_id") == response["id"]]
        assert {event.get("item_id", event.get("item", {}).get("id")) for event in events} == {
            response["output"][0]["id"]
        }
        assert "".join(event.get("delta", "") for event in events) == text
    added = [event["item"]["id"] for event in talk.said.of_type("conversation.item.added")]
    assert added[1:] == [spoken["output"][0]["id"]]


async def test_an_answer_beside_those_that_nobody_waits_for(sentence: bytes) -> None:
    """The conversation's answer begins while others are in progress, by request and by the caller's turn."""
    talk = Talk(audio=turns())
    talk.send("response.create", response=_beside("x\n" * 200))
    talk.type("hi")
    talk.send("response.create")
    assert len(_in_progress(talk)) == 2
    assert talk.refusal("response.create").code == "conversation_already_has_active_response"
    await talk.said.until("response.done")
    talk.send("response.create", response=_beside("y\n" * 200))
    talk.speak(sentence + silence(1000))
    assert talk.said.types.count("response.created") == 4
    assert talk.said.of_type("response.created")[-1]["response"]["conversation_id"] is not None
    assert talk.said.types.count("response.done") == 1


async def test_a_bare_cancel_is_for_the_conversation(sentence: bytes) -> None:
    """It ends the conversation's answer and no other; without one there is nothing to cancel. An id ends that one."""
    talk = _by_hand()
    talk.send("response.create", response=_beside("x\n" * 500))
    [beside] = _in_progress(talk)
    assert talk.refusal("response.cancel").code == "response_cancel_not_active"
    _speak_by_hand(talk, sentence)
    await talk.said.until(AUDIO)
    talk.send("response.cancel")
    [ended] = talk.said.of_type("response.done")
    assert ended["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert _in_progress(talk) == [beside]
    talk.send("response.cancel", response_id=beside)
    assert [event["response"]["id"] for event in talk.said.of_type("response.done")][1:] == [beside]
    assert talk.refusal("response.cancel", response_id=beside).code == "response_cancel_not_active"


async def test_speech_interrupts_the_conversation_only(sentence: bytes) -> None:
    """What is beside it goes on while the caller speaks."""
    talk = Talk(audio=turns())
    talk.send("response.create", response=_beside("x\n" * 500))
    talk.type("y\n" * 500)
    talk.send("response.create")
    beside, answer = _in_progress(talk)
    talk.speak(sentence)
    [ended] = talk.said.of_type("response.done")
    assert (ended["response"]["id"], ended["response"]["status_details"]["reason"]) == (answer, "turn_detected")
    assert _in_progress(talk) == [beside]


async def test_so_many_beside_it_and_no_more() -> None:
    """One more is refused by its field, and may come when another is done; the conversation's own is not counted."""
    talk = Talk()
    talk.type("hi")
    talk.send("response.create")
    for number in range(_TOO_MANY - 1):
        talk.send("response.create", response=_beside(f"{number}\n" * 100))
    error = talk.refusal("response.create", response=_beside("one more"))
    assert (error.code, error.param) == ("too_many_active_responses", "response.conversation")
    talk.send("response.cancel", response_id=_in_progress(talk)[1])
    talk.send("response.create", response=_beside("one more"))
    assert len(_in_progress(talk)) == _TOO_MANY


async def test_spoken_beside_the_conversation(sentence: bytes) -> None:
    """Two answers in sound come piece by piece beside each other, and nothing of the one beside is kept."""
    talk = _by_hand()
    _speak_by_hand(talk, sentence)
    item_id = talk.said.of_type("input_audio_buffer.committed")[0]["item_id"]
    reference = {"type": "item_reference", "id": item_id}
    talk.send("response.create", response={"conversation": "none", "input": [reference]})
    await talk.said.until("response.done", 2)
    beside, answer = (
        next(event["response"] for event in talk.said.of_type("response.done")
             if (event["response"]["conversation_id"] is None) == is_beside)
        for is_beside in (True, False)
    )  # fmt: skip
    ids = [response["output"][0]["id"] for response in (beside, answer)]
    assert talk.said.sounds == dict.fromkeys(ids, sentence)
    assert talk.refusal("conversation.item.retrieve", item_id=ids[0]).param == "item_id"
    assert talk.sound_of(ids[1]) == sentence


@pytest.mark.parametrize("conversation", ["auto", "conv_of_nobody", "default"])
async def test_any_other_name_means_the_conversation(conversation: str) -> None:
    """A session has one conversation, so whatever is said but ``none`` is it."""
    talk = Talk()
    talk.type("hi")
    talk.send("response.create", response={"conversation": conversation})
    response = await talk.answer()
    assert response["conversation_id"] == talk.said.state.conversation.id
    assert talk.said.types.count("conversation.item.added") == 2


async def test_who_says_nothing_is_asked_all_the_same() -> None:
    """A response beside the conversation does not put off ``idle_timeout_ms``: it ends later than the silence."""
    talk = Talk(audio=turns())
    talk.said.state.config = merged(talk.said.state.config, _idle_after(100))
    talk.type("hi")
    talk.send("response.create")
    await talk.answer()
    talk.send("response.create", response=_beside("x\n" * 200))
    await talk.said.until("input_audio_buffer.timeout_triggered")
    assert talk.said.types.count("response.done") == 1
    await talk.answer(2)


async def test_hanging_up_stops_all_of_them(sentence: bytes) -> None:
    """No event comes after the end."""
    talk = _by_hand()
    _speak_by_hand(talk, sentence)
    for _ in range(3):
        talk.send("response.create", response=_beside("x\n" * 50))
    await talk.engine.aclose()
    before = len(talk.said.events)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(talk.said.events) == before
