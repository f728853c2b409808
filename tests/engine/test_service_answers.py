"""What the embedded engine does with items, answers and settings."""

import asyncio
import base64
import json
from typing import Any

import pytest

from bridge.media import g711
from bridge.media.resample import Resampler
from tests.engine.talk import (
    AUDIO,
    MS,
    SPOKEN_ANSWER,
    WRITTEN_ANSWER,
    Talk,
    silence,
    turns,
    without_repeats,
)
from tests.fakes import likeness

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 2, "maximum": 7},
            "unit": {"enum": ["celsius", "kelvin"]},
        },
        "required": ["city", "days"],
    },
}
CALLING = [
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]


@pytest.fixture
def sentence(speech_pcm: bytes) -> bytes:
    return speech_pcm[: 1800 * MS]


def said_by_hand(sentence: bytes, **session: object) -> Talk:
    """A talk in which the sentence is committed and nothing was answered yet."""
    talk = Talk(audio={"input": {"turn_detection": None}}, **session)
    talk.speak(sentence)
    talk.send("input_audio_buffer.commit")
    return talk


def text_of(response: dict[str, Any]) -> str:
    [item] = response["output"]
    [part] = item["content"]
    return str(part["text"])


# Text


async def test_a_typed_message_is_read_back() -> None:
    """Text is answered by text, whatever the session's modality, and every line of it comes in its delta."""
    talk = Talk()
    item_id = talk.type("first line\nsecond line")
    assert talk.said.types[1:] == ["conversation.item.added", "conversation.item.done"]
    talk.send("response.create")
    response = await talk.answer()
    assert without_repeats(talk.said.types)[3:] == WRITTEN_ANSWER
    assert text_of(response) == "You wrote: first line\nsecond line"
    assert "".join(event["delta"] for event in talk.said.of_type("response.output_text.delta")) == text_of(response)
    assert talk.said.of_type("response.output_text.done")[0]["text"] == text_of(response)
    assert talk.said.of_type("response.content_part.done")[0]["part"] == {"type": "text", "text": text_of(response)}
    assert talk.said.of_type("conversation.item.added")[1]["previous_item_id"] == item_id


async def test_the_last_word_is_answered(sentence: bytes) -> None:
    """Typed after spoken, it is the text that is answered; spoken after typed, the sound."""
    talk = said_by_hand(sentence)
    talk.type("hello")
    talk.send("response.create")
    assert text_of(await talk.answer()) == "You wrote: hello"
    talk.speak(sentence)
    talk.send("input_audio_buffer.commit")
    talk.send("response.create")
    response = await talk.answer(2)
    assert talk.said.sounds == {response["output"][0]["id"]: sentence}


async def test_nothing_to_answer() -> None:
    """Asked to speak first, the engine says what it is for."""
    talk = Talk()
    talk.send("response.create")
    assert "hear your own words" in text_of(await talk.answer())


async def test_a_response_beside_the_conversation() -> None:
    """With its own input and conversation none, nothing is added to the conversation."""
    talk = Talk()
    talk.type("not this")
    content = [{"type": "input_text", "text": "but this"}]
    talk.send(
        "response.create",
        response={
            "conversation": "none",
            "input": [{"type": "message", "role": "user", "content": content}],
            "metadata": {"topic": "test"},
            "output_modalities": ["text"],
        },
    )
    response = await talk.answer()
    assert text_of(response) == "You wrote: but this"
    assert (response["conversation_id"], response["metadata"]) == (None, {"topic": "test"})
    assert talk.said.types.count("conversation.item.added") == 1
    assert talk.refusal("conversation.item.retrieve", item_id=response["output"][0]["id"]).param == "item_id"


# Functions


async def test_a_function_is_called_once_and_its_answer_is_told() -> None:
    """The first tool is called with arguments that fit its schema; what it returns is written, and that was it."""
    talk = Talk(tools=[WEATHER, {"type": "function", "name": "other"}])
    talk.type("weather?")
    talk.send("response.create")
    [call] = (await talk.answer())["output"]
    assert talk.said.types[4:] == CALLING
    assert call.items() >= {"type": "function_call", "name": "get_weather", "status": "completed"}.items()
    arguments = json.loads(call["arguments"])
    assert isinstance(arguments["city"], str)
    assert 2 <= arguments["days"] <= 7
    assert arguments["unit"] in ("celsius", "kelvin")
    [delta] = talk.said.of_type("response.function_call_arguments.delta")
    [done] = talk.said.of_type("response.function_call_arguments.done")
    assert delta["delta"] == done["arguments"] == call["arguments"]
    assert delta["call_id"] == done["call_id"] == call["call_id"]
    assert done["name"] == "get_weather"

    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    talk.send("conversation.item.create", item=output)
    talk.send("response.create")
    assert text_of(await talk.answer(2)) == "The function answered: sunny"
    talk.type("thanks")
    talk.send("response.create")
    assert text_of(await talk.answer(3)) == "You wrote: thanks"


@pytest.mark.parametrize("session", [{}, {"tools": [WEATHER], "tool_choice": "none"}, {"tools": []}])
async def test_no_function_is_called_unasked(session: dict[str, object]) -> None:
    """Without tools, or with tool_choice none, the answer is words."""
    talk = Talk(**session)
    talk.type("hi")
    talk.send("response.create")
    assert text_of(await talk.answer()) == "You wrote: hi"


async def test_a_response_may_bring_its_own_tools() -> None:
    """Tools of one response.create hold for that response."""
    talk = Talk()
    talk.type("hi")
    talk.send("response.create", response={"tools": [{"type": "function", "name": "f", "parameters": None}]})
    [call] = (await talk.answer())["output"]
    assert (call["name"], call["arguments"]) == ("f", "{}")


# One answer at a time


async def test_a_second_response_is_refused(sentence: bytes) -> None:
    """While one is in progress, another is an error, and the first goes on."""
    talk = said_by_hand(sentence)
    talk.send("response.create")
    await talk.said.until(AUDIO, 2)
    assert talk.refusal("response.create").code == "conversation_already_has_active_response"
    response = await talk.answer()
    assert response["status"] == "completed"
    assert talk.said.types.count("response.created") == 1


async def test_cancel(sentence: bytes) -> None:
    """In the middle of an answer: all its ends are told at once, and no sound comes after."""
    talk = said_by_hand(sentence)
    talk.send("response.create")
    response_id = (await talk.said.until("response.created"))["response"]["id"]
    await talk.said.until(AUDIO, 3)
    assert talk.refusal("response.cancel", response_id="resp_other").code == "response_cancel_not_active"
    talk.send("response.cancel", response_id=response_id)
    assert without_repeats(talk.said.types)[5:] == SPOKEN_ANSWER
    response = await talk.answer()
    assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert (response["status"], response["output"][0]["status"]) == ("cancelled", "incomplete")
    assert sentence.startswith(talk.said.sounds[response["output"][0]["id"]])
    talk.send("response.create")
    assert (await talk.answer(2))["status"] == "completed"
    assert {event["response_id"] for event in talk.said.of_type(AUDIO)[3:]} != {response_id}


async def test_nothing_to_cancel(sentence: bytes) -> None:
    """Before an answer and after it, cancel is an error."""
    talk = said_by_hand(sentence)
    assert talk.refusal("response.cancel").code == "response_cancel_not_active"
    talk.send("response.create")
    await talk.answer()
    assert talk.refusal("response.cancel").code == "response_cancel_not_active"


async def test_an_answer_of_text_or_a_call_can_be_cancelled() -> None:
    """A cancel finds something to cancel in these too."""
    for session in ({}, {"tools": [WEATHER]}):
        talk = Talk(**session)
        talk.type("hi\n" * 100)
        talk.send("response.create")
        talk.send("response.cancel")
        assert (await talk.answer())["status"] == "cancelled"
        assert talk.said.types.count("response.done") == 1


async def test_sound_comes_faster_than_it_plays(sentence: bytes) -> None:
    """A long answer is delivered in a fraction of its time, in pieces."""
    talk = said_by_hand(sentence * 10)
    started = asyncio.get_running_loop().time()
    talk.send("response.create")
    await talk.answer()
    took_s = asyncio.get_running_loop().time() - started
    assert took_s < len(sentence) * 10 / MS / 1000 / 4
    assert talk.said.types.count(AUDIO) == 90


# Truncate, retrieve, delete


async def test_truncate(sentence: bytes) -> None:
    """An answer is cut to what was heard; its text, which says more, is taken out."""
    talk = said_by_hand(sentence)
    talk.send("response.create")
    item_id = (await talk.answer())["output"][0]["id"]
    talk.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=700)
    assert (
        talk.said.events[-1].items()
        >= {
            "type": "conversation.item.truncated",
            "item_id": item_id,
            "content_index": 0,
            "audio_end_ms": 700,
        }.items()
    )
    assert talk.sound_of(item_id) == sentence[: 700 * MS]
    assert talk.retrieve(item_id)["content"][0]["transcript"] == ""
    assert talk.refusal(
        "conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=701
    ).message.startswith("Audio content of 700ms is already shorter")
    talk.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=700)


async def test_truncate_what_is_still_being_said(sentence: bytes) -> None:
    """The answer may be cut up to what was delivered, and goes on or is cancelled; the cut stays."""
    talk = said_by_hand(sentence)
    talk.send("response.create")
    item_id = (await talk.said.until(AUDIO, 2))["item_id"]
    beyond = talk.refusal("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=1801)
    assert beyond.param == "audio_end_ms"
    talk.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=130)
    talk.send("response.cancel")
    await talk.answer()
    assert talk.sound_of(item_id) == sentence[: 130 * MS]


async def test_what_cannot_be_truncated(sentence: bytes) -> None:
    """The caller's sound, text, a part that is not there, an item that is not there."""
    talk = said_by_hand(sentence)
    user_id = talk.said.events[-1]["item"]["id"]
    text_id = talk.type("hi")
    talk.send("response.create")
    answer_id = (await talk.answer())["output"][0]["id"]
    for item_id, index in ((user_id, 0), (text_id, 0), (answer_id, 0), (answer_id, 1), ("item_none", 0)):
        error = talk.refusal("conversation.item.truncate", item_id=item_id, content_index=index, audio_end_ms=0)
        assert (error.code, error.param) == ("invalid_value", "item_id")
    assert talk.sound_of(user_id) == sentence


async def test_retrieve(sentence: bytes) -> None:
    """An item comes back with its sound, both the caller's and the engine's; one without sound as it is."""
    talk = said_by_hand(sentence)
    user_id = talk.said.events[-1]["item"]["id"]
    talk.send("response.create")
    answer_id = (await talk.answer())["output"][0]["id"]
    encoded = base64.b64encode(sentence).decode()
    assert talk.retrieve(user_id)["content"] == [{"type": "input_audio", "audio": encoded, "transcript": None}]
    [part] = talk.retrieve(answer_id)["content"]
    assert part == {"type": "output_audio", "audio": encoded, "transcript": "(your own words, 1.8 s)"}
    text_id = talk.type("hi")
    assert talk.retrieve(text_id)["content"] == [{"type": "input_text", "text": "hi"}]
    assert talk.refusal("conversation.item.retrieve", item_id="item_none").param == "item_id"
    assert "audio" not in talk.said.of_type("conversation.item.added")[0]["item"]["content"][0]


async def test_delete(sentence: bytes) -> None:
    """A deleted item is gone with its sound: what stood before it is answered."""
    talk = Talk()
    talk.type("first")
    second = talk.type("second")
    talk.send("conversation.item.delete", item_id=second)
    assert talk.said.events[-1].items() >= {"type": "conversation.item.deleted", "item_id": second}.items()
    for name in ("delete", "retrieve"):
        assert talk.refusal(f"conversation.item.{name}", item_id=second).param == "item_id"
    talk.send("response.create")
    assert text_of(await talk.answer()) == "You wrote: first"


async def test_items_stand_where_they_were_put() -> None:
    """previous_item_id places an item, and what is answered is the last one."""
    talk = Talk()
    content = [{"type": "input_text", "text": "early"}]
    last = talk.type("late")
    item = {"type": "message", "role": "user", "content": content, "id": "item_mine"}
    talk.send("conversation.item.create", item=item, previous_item_id="root")
    assert talk.said.events[-1]["previous_item_id"] is None
    assert talk.said.events[-1]["item"]["id"] == "item_mine"
    talk.send("response.create")
    response = await talk.answer()
    assert text_of(response) == "You wrote: late"
    assert talk.said.of_type("conversation.item.added")[2]["previous_item_id"] == last
    assert talk.refusal("conversation.item.create", item=item).param == "item.id"


@pytest.mark.parametrize("law", ["audio/pcm", "audio/pcmu", "audio/pcma"])
async def test_sound_in_an_item(law: str, speech_pcm: bytes) -> None:
    """A message may bring its sound along, in the session's format; it is said back, and not echoed in events."""
    talk = Talk(audio={"input": {"format": {"type": law}}})
    resampler = Resampler(24_000, 8_000)
    narrow = resampler.push(speech_pcm) + resampler.flush()
    sound = {
        "audio/pcm": speech_pcm,
        "audio/pcmu": g711.encode_ulaw(narrow),
        "audio/pcma": g711.encode_alaw(narrow),
    }[law]
    content = [{"type": "input_audio", "audio": base64.b64encode(sound).decode()}]
    talk.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    assert talk.said.events[-1]["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    talk.send("response.create")
    await talk.answer()
    [said_back] = talk.said.sounds.values()
    assert likeness(said_back, speech_pcm)[0] > 0.9
    assert len(said_back) == pytest.approx(len(speech_pcm), abs=2 * MS)


@pytest.mark.parametrize("audio", ["not base64!", "AAA", "ÄÖ"])
async def test_wrong_sound_in_an_item(audio: str) -> None:
    """What is no base64 is refused by its path, and no item is added."""
    talk = Talk()
    content = [{"type": "input_text", "text": "a"}, {"type": "input_audio", "audio": audio}]
    item = {"type": "message", "role": "user", "content": content, "id": "item_mine"}
    error = talk.refusal("conversation.item.create", item=item)
    assert (error.code, error.param) == ("invalid_audio", "item.content[1].audio")
    assert talk.refusal("conversation.item.retrieve", item_id="item_mine").param == "item_id"


# Settings


async def test_session_update_is_answered_with_the_whole() -> None:
    """One session.updated for each, with what was changed and all the rest; what the server sets stays."""
    talk = Talk()
    created = talk.said.events[0]["session"]
    talk.send(
        "session.update",
        session={"instructions": "sing", "id": "sess_other", "model": created["model"], "expires_at": 5},
    )
    assert talk.said.types == ["session.created", "session.updated"]
    assert talk.said.events[1]["session"] == created | {"instructions": "sing"}


async def test_the_voice_is_fixed_once_it_was_heard(sentence: bytes) -> None:
    """Before any sound the voice may change; after it, only to itself."""
    talk = said_by_hand(sentence, instructions="")
    verse, alloy = ({"audio": {"output": {"voice": voice}}} for voice in ("verse", "alloy"))
    talk.send("session.update", session=verse)
    talk.send("response.create")
    await talk.answer()
    talk.send("session.update", session=verse)
    error = talk.refusal("session.update", session=alloy | {"instructions": "no"})
    assert (error.code, error.param) == ("cannot_update_voice", "session.audio.output.voice")
    talk.send("session.update", session={"tools": []})
    session = talk.said.events[-1]["session"]
    assert (session["audio"]["output"]["voice"], session["instructions"]) == ("verse", "")


# Bounds


async def test_a_full_conversation_does_not_end_the_call(sentence: bytes) -> None:
    """When no item fits any more, the caller's speech raises nothing: it came over the network, not from a client."""
    talk = Talk(audio=turns(create_response=False))
    for _ in range(2000):
        talk.type("x")
    talk.speak(sentence + silence(1000))
    assert "input_audio_buffer.speech_started" in talk.said.types


async def test_a_full_conversation_can_be_answered_again() -> None:
    """A response that finds no place for its item is refused as a whole, and the next one may come."""
    talk = Talk()
    item_ids = [talk.type("x") for _ in range(2000)]
    talk.refusal("response.create")
    talk.send("conversation.item.delete", item_id=item_ids[0])
    talk.send("response.create")
    assert (await talk.answer())["status"] == "completed"
