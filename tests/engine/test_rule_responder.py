"""The engine that hears and speaks, spoken to in real speech."""

import asyncio
from collections.abc import AsyncIterator, Callable
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import pytest

from bridge.engine.local import Local
from bridge.engine.rule_responder import RuleResponder
from tests.engine.talk import AUDIO, MS, SPOKEN_ANSWER, Talk, silence, turns, without_repeats
from tests.engine.test_rules import Bridge

TRANSCRIBED = {"transcription": {"model": "whisper-1"}}
MANUAL: dict[str, Any] = {"input": {**TRANSCRIBED, "turn_detection": None}}
PAUSE = silence(900)
STORY = [
    "On a cold morning in November, an old man walked down to the river.",
    "He carried a small wooden box under his arm, and he looked very tired.",
    "Nobody in the village knew what was inside, but everybody wanted to know.",
    "When he came to the bridge, he stopped and looked at the dark water.",
    "Two children who had followed him were hiding behind a large stone.",
    "He opened the box, took out a silver flute, and began to play.",
    "The music was so beautiful that even the birds in the trees were quiet.",
    "After a while he closed the box again and went home without a word.",
]

Say = Callable[[str], bytes]
Meet = Callable[..., Talk]


@pytest.fixture
async def meet(models: Local) -> AsyncIterator[Meet]:
    """Begins a conversation: ``meet(instructions="…")``."""
    talks = []

    def begin(**session: object) -> Talk:
        talks.append(Talk(RuleResponder(models, models, Bridge(), seed=models.seed), **session))
        return talks[-1]

    yield begin
    for talk in talks:
        await talk.engine.aclose()


def transcribed(**settings: object) -> dict[str, object]:
    """A session's ``audio`` with ``server_vad`` so set, and transcripts asked for."""
    return {"input": {**TRANSCRIBED, "turn_detection": {"type": "server_vad", **settings}}}


def heard(talk: Talk) -> list[str]:
    return [event["transcript"] for event in talk.said.of_type("conversation.item.input_audio_transcription.completed")]


def answers(talk: Talk) -> list[str]:
    return [event["transcript"] for event in talk.said.of_type("response.output_audio_transcript.done")]


async def test_a_question_is_understood_and_answered(meet: Meet, say: Say) -> None:
    """Speech becomes words and the words an answer, which is spoken; every event comes where the protocol has it."""
    talk = meet(audio={"input": TRANSCRIBED})
    talk.speak(silence(300) + say("Repeat after me, the sky is blue.") + PAUSE)
    response = await talk.answer()
    assert heard(talk) == ["Repeat after me, the sky is blue."]
    assert answers(talk) == ["The sky is blue."]
    assert response["output"][0]["content"] == [{"type": "output_audio", "transcript": "The sky is blue."}]
    types = [name for name in talk.said.types if not name.startswith("conversation.item.input_audio_transcription")]
    assert without_repeats(types)[-len(SPOKEN_ANSWER) :] == SPOKEN_ANSWER
    [words] = talk.said.of_type("conversation.item.input_audio_transcription.delta")
    assert words["delta"] == heard(talk)[0]


async def test_the_answer_can_be_heard(meet: Meet, say: Say, models: Local) -> None:
    """What it says is what its transcript says: its own ears understand it."""
    talk = meet()
    talk.speak(say("What can you do for me?") + PAUSE)
    response = await talk.answer()
    sound = talk.said.sounds[response["output"][0]["id"]]
    first, *_ = answers(talk)[0].partition(",")
    assert (await models.listen(sound[: 12_000 * MS])).text.startswith(first)
    assert talk.sound_of(response["output"][0]["id"]) == sound


async def test_long_answers_come_sentence_by_sentence(meet: Meet) -> None:
    """The sound of a sentence is there before the next one is made; the deltas together are the transcript."""
    talk = meet()
    talk.type("Who are you?")
    talk.send("response.create")
    await talk.answer()
    deltas = [event["delta"] for event in talk.said.of_type("response.output_audio_transcript.delta")]
    assert len(deltas) == 2
    assert "".join(deltas) == answers(talk)[0]
    kinds = [name for name in talk.said.types if name in (AUDIO, "response.output_audio_transcript.delta")]
    assert without_repeats(kinds) == ["response.output_audio_transcript.delta", AUDIO] * 2


async def test_the_same_words_sound_the_same(meet: Meet) -> None:
    """With a seed an answer can be compared bit by bit."""
    sounds = []
    for _ in range(2):
        talk = meet()
        talk.type("Hello!")
        talk.send("response.create")
        response = await talk.answer()
        sounds.append(talk.said.sounds[response["output"][0]["id"]])
    assert sounds[0] == sounds[1] != b""


@pytest.mark.parametrize(("speed", "share"), [(0.5, 2.0), (1.5, 1 / 1.5)])
async def test_speed_is_honoured(meet: Meet, speed: float, share: float) -> None:
    """Half the speed takes twice the time."""
    lengths = []
    for one in (1.0, speed):
        talk = meet(audio={"output": {"speed": one}})
        talk.type("Repeat after me: this sentence takes a while.")
        talk.send("response.create")
        response = await talk.answer()
        lengths.append(len(talk.said.sounds[response["output"][0]["id"]]))
    assert lengths[1] / lengths[0] == pytest.approx(share, rel=0.1)


async def test_answers_are_written_where_text_is_wanted(meet: Meet, say: Say) -> None:
    """A text session hears speech and answers in text."""
    talk = meet(output_modalities=["text"])
    talk.speak(say("Please count to five.") + PAUSE)
    response = await talk.answer()
    assert response["output"][0]["content"] == [{"type": "output_text", "text": "1, 2, 3, 4, 5."}]
    assert AUDIO not in talk.said.types


async def test_what_cannot_be_spoken_is_written(meet: Meet) -> None:
    """Words of another script come as text, with a note."""
    talk = meet()
    talk.type("Say привет")
    talk.send("response.create")
    response = await talk.answer()
    [part] = response["output"][0]["content"]
    assert part["type"] == "output_text"
    assert part["text"].startswith("Привет")
    assert "cannot speak this" in part["text"]


async def test_pictures_are_not_spoken(meet: Meet) -> None:
    """What has no sound stays in the transcript and out of the sound."""
    talk = meet()
    talk.type("Say hello 🎉")
    talk.send("response.create")
    response = await talk.answer()
    [part] = response["output"][0]["content"]
    assert (part["type"], part["transcript"]) == ("output_audio", "Hello 🎉")
    assert len(talk.said.sounds[response["output"][0]["id"]]) < 2000 * MS


@pytest.mark.parametrize("loudness", [0, 300, 3000])
async def test_no_words_are_invented(meet: Meet, loudness: int) -> None:
    """Silence and noise have an empty transcript, and are answered with an apology."""
    noise = np.random.default_rng(0).normal(0, loudness, 2 * 24_000).astype("<i2").tobytes()
    talk = meet(audio=MANUAL)
    talk.speak(noise)
    talk.send("input_audio_buffer.commit")
    talk.send("response.create")
    await talk.answer()
    assert heard(talk) == [""]
    assert "Sorry" in answers(talk)[0]


async def test_sixty_seconds_of_noise_are_no_turn(meet: Meet) -> None:
    """Nobody speaks, nothing happens."""
    noise = np.random.default_rng(1).normal(0, 1500, 60 * 24_000).astype("<i2").tobytes()
    talk = meet(audio={"input": TRANSCRIBED})
    before = len(talk.said.types)
    talk.speak(noise)
    await asyncio.sleep(0)
    assert talk.said.types[before:] == []


async def test_words_are_there_when_the_turn_ends(meet: Meet, say: Say) -> None:
    """Recognition begins in the silence: the end of the turn only waits for what is left of it."""
    talk = meet(audio=transcribed(silence_duration_ms=900))
    talk.speak(say("What time is it?") + silence(400))
    await until_understood(talk)
    talk.speak(silence(700))
    assert talk.said.types[-2:] == ["response.created", "rate_limits.updated"]
    await asyncio.sleep(0)  # what is known already is told in the next round of the loop
    await asyncio.sleep(0)
    assert heard(talk) == ["What time is it?"]


async def until_understood(talk: Talk) -> None:
    """Waits for the recognition that a pause has begun."""
    await talk.mind.listen(b"", language=None)  # which is done behind it


async def test_a_pause_inside_a_turn_changes_nothing(meet: Meet, say: Say) -> None:
    """What was understood too early is thrown away; the turn is understood as a whole."""
    talk = meet(audio=transcribed(silence_duration_ms=1500))
    talk.speak(say("Repeat after me,") + silence(400))
    await until_understood(talk)
    talk.speak(say("the sky is blue.") + silence(1800))
    await talk.answer()
    assert len(heard(talk)) == 1
    assert answers(talk)[0].lower().startswith("the sky is blue")


async def test_semantic_vad_waits_for_the_rest_of_a_sentence(meet: Meet, say: Say) -> None:
    """Half a sentence is waited for longer than a whole one."""
    audio = {"input": {**TRANSCRIBED, "turn_detection": {"type": "semantic_vad", "eagerness": "medium"}}}
    whole, half = meet(audio=audio), meet(audio=audio)
    for talk, words in ((whole, "What time is it?"), (half, "I would like to book a table for")):
        talk.speak(say(words) + silence(500))
        await until_understood(talk)
        talk.speak(silence(1000))
    assert "input_audio_buffer.speech_stopped" in whole.said.types
    assert "input_audio_buffer.speech_stopped" not in half.said.types
    half.speak(say("four people at eight.") + silence(500))
    await until_understood(half)
    half.speak(silence(1000))
    await half.answer()
    assert len(heard(half)) == 1
    assert heard(half)[0].lower().endswith("people at eight.")


async def test_it_is_interrupted_while_it_thinks(meet: Meet, say: Say) -> None:
    """Who goes on speaking before the answer has begun gets an answer to the whole, after an empty cancelled one."""
    talk = meet(audio=transcribed(silence_duration_ms=200))
    talk.speak(say("Please count to five.") + silence(400) + say("What time is it?") + silence(600))
    assert (await talk.answer(1))["status"] == "cancelled"
    second = await talk.answer(2)
    assert second["status"] == "completed"
    assert talk.said.of_type("response.done")[0]["response"]["output"] == []
    assert answers(talk)[-1] == "It is 2:05 PM."


async def ask(talk: Talk, sound: bytes) -> None:
    """Says something, and waits until its turn is over, whichever detection finds its end."""
    before = len(talk.said.of_type("input_audio_buffer.committed"))
    talk.speak(sound + silence(150))
    await until_understood(talk)
    talk.speak(silence(1000))
    await talk.said.until("input_audio_buffer.committed", before + 1)


def detecting(kind: str, **settings: bool) -> dict[str, Any]:
    """A session's ``audio`` with this turn detection, and transcripts asked for."""
    return {"input": {**TRANSCRIBED, "turn_detection": {"type": kind, **settings}}}


TRANSCRIPT = "conversation.item.input_audio_transcription.completed"


@pytest.mark.parametrize("kind", ["server_vad", "semantic_vad"])
async def test_without_interrupt_response_nothing_is_cut(meet: Meet, say: Say, kind: str) -> None:
    """A caller who speaks over an answer is understood; the answer goes on to its end, and none is begun beside it."""
    talk = meet(audio=detecting(kind, interrupt_response=False))
    await ask(talk, say("Please count to five."))
    await talk.said.until(AUDIO)
    talk.speak(say("What time is it?") + silence(5000))  # at once, and longer than either waits for its end
    response = await talk.answer()
    assert response["status"] == "completed"
    assert answers(talk) == ["1, 2, 3, 4, 5."]
    await talk.said.until(TRANSCRIPT, 2)
    assert heard(talk) == ["Please count to five.", "What time is it?"]
    assert talk.said.types[: talk.said.types.index("response.done")].count("input_audio_buffer.committed") == 2
    assert talk.said.types.count("response.created") == 1


@pytest.mark.parametrize("kind", ["server_vad", "semantic_vad"])
async def test_without_create_response_turns_are_only_understood(meet: Meet, say: Say, kind: str) -> None:
    """Each becomes an item with a transcript; an answer comes when it is asked for."""
    talk = meet(audio=detecting(kind, create_response=False))
    for number, words in enumerate(("What time is it?", "Please count to five."), 1):
        await ask(talk, say(words))
        await talk.said.until(TRANSCRIPT, number)
    assert heard(talk) == ["What time is it?", "Please count to five."]
    assert not [name for name in talk.said.types if name.startswith("response.")]
    talk.send("response.create")
    await talk.answer()
    assert answers(talk) == ["1, 2, 3, 4, 5."]


@pytest.mark.parametrize("kind", ["server_vad", "semantic_vad"])
async def test_speech_cuts_an_answer_that_it_does_not_ask_for(meet: Meet, say: Say, kind: str) -> None:
    """With ``create_response`` false alone, a caller still interrupts what the client has asked for."""
    talk = meet(audio=detecting(kind, create_response=False))
    await ask(talk, say("Please count to five."))
    talk.send("response.create")
    await talk.said.until(AUDIO)
    await ask(talk, say("What time is it?"))
    response = await talk.answer()
    assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    await talk.said.until(TRANSCRIPT, 2)
    assert talk.said.types.count("response.created") == 1


@pytest.mark.parametrize("kind", ["server_vad", "semantic_vad"])
async def test_with_neither_the_client_alone_decides(meet: Meet, say: Say, kind: str) -> None:
    """Speech is found and understood, cuts nothing, and is answered when the client asks."""
    talk = meet(audio=detecting(kind, create_response=False, interrupt_response=False))
    await ask(talk, say("Please count to five."))
    talk.send("response.create")
    await talk.said.until(AUDIO)
    await ask(talk, say("What time is it?"))
    assert (await talk.answer())["status"] == "completed"
    await talk.said.until(TRANSCRIPT, 2)
    assert talk.said.types.count("response.created") == 1
    talk.send("response.create")
    await talk.answer(2)
    assert answers(talk) == ["1, 2, 3, 4, 5.", "It is 2:05 PM."]


@pytest.mark.slow
async def test_silence_after_an_answer_is_asked_about(meet: Meet) -> None:
    """With ``idle_timeout_ms`` the engine asks, once the caller has been silent for so long since the answer's end."""
    talk = meet(audio=turns(idle_timeout_ms=5000))
    talk.type("Hello!")
    talk.send("response.create")
    response = await talk.answer()
    loop = asyncio.get_running_loop()
    began = loop.time()
    talk.speak(silence(3000))
    triggered = await talk.said.until("input_audio_buffer.timeout_triggered")
    answered_ms = len(talk.said.sounds[response["output"][0]["id"]]) / MS
    assert loop.time() - began == pytest.approx(5 + answered_ms / 1000, abs=0.5)
    assert triggered["audio_end_ms"] == 3000
    await talk.answer(2)
    assert answers(talk)[-1] == "Are you still there?"
    [committed] = talk.said.of_type("input_audio_buffer.committed")
    assert committed["item_id"] == triggered["item_id"]


async def test_long_speech_is_understood_to_its_end(meet: Meet, say: Say) -> None:
    """More than Whisper hears at a time is understood in stretches, each with its delta."""
    talk = meet(audio=MANUAL)
    talk.speak(b"".join(say(sentence) + silence(200) for sentence in STORY), piece_ms=200)
    assert len(talk.spoken) > 30_000 * MS
    talk.send("input_audio_buffer.commit")
    done = await talk.said.until("conversation.item.input_audio_transcription.completed")
    deltas = [event["delta"] for event in talk.said.of_type("conversation.item.input_audio_transcription.delta")]
    assert len(deltas) > 1
    assert "".join(deltas) == done["transcript"]
    told = " ".join(STORY).split()
    assert SequenceMatcher(None, done["transcript"].split(), told).ratio() > 0.97
    assert done["usage"] == {"type": "duration", "seconds": pytest.approx(len(talk.spoken) / MS / 1000, abs=0.01)}


async def test_a_call_by_voice(meet: Meet, say: Say) -> None:
    """Spoken words call a function, with their own arguments; its result is spoken."""
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"type": "function", "name": "get_weather", "description": "The weather in a city.", "parameters": city}
    talk = meet(tools=[tool])
    talk.speak(say("What is the weather in Paris?") + PAUSE)
    [call] = (await talk.answer())["output"]
    assert (call["name"], call["arguments"]) == ("get_weather", '{"city":"Paris"}')
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": '{"sky": "sunny"}'}
    talk.send("conversation.item.create", item=output)
    talk.send("response.create")
    await talk.answer(2)
    assert answers(talk) == ["sky is sunny."]


async def test_a_busy_engine_says_so(models: Local, meet: Meet, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many wait for ears or voice, a transcript and a response fail by name, and the session lives on."""
    talk = meet(audio=MANUAL)
    monkeypatch.setattr(models._ears, "_limit", 0)
    talk.speak(say("Hello there."))
    talk.send("input_audio_buffer.commit")
    [failed] = talk.said.of_type("conversation.item.input_audio_transcription.failed")
    assert "busy" in failed["error"]["message"]
    monkeypatch.undo()
    monkeypatch.setattr(models._mouth, "_limit", 0)
    talk.send("response.create")
    response = await talk.answer()
    assert (response["status"], response["output"]) == ("failed", [])
    assert "busy" in response["status_details"]["error"]["message"]
    monkeypatch.undo()
    talk.send("response.create")
    assert (await talk.answer(2))["status"] == "completed"


async def test_a_closed_conversation_is_silent(meet: Meet, say: Say) -> None:
    """At its end nothing more is told, whatever was being understood or said."""
    talk = meet(audio={"input": TRANSCRIBED})
    talk.speak(say("What can you do for me?") + PAUSE)
    await talk.engine.aclose()
    before = list(talk.said.types)
    await talk.mind.listen(b"", language=None)  # behind whatever was under way
    await asyncio.sleep(0)
    assert talk.said.types == before


async def test_a_failure_inside_ends_one_response_only(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the engine's own is a failed response, and the next one is as good as ever."""
    talk = meet()
    talk.type("Hello!")
    monkeypatch.setattr(Bridge, "now", lambda self: 1 / 0)
    talk.type("What time is it?")
    talk.send("response.create")
    response = await talk.answer()
    assert (response["status"], response["status_details"]["error"]["code"]) == ("failed", "upstream_error")
    monkeypatch.undo()
    talk.send("response.create")
    await talk.answer(2)
    assert answers(talk) == ["It is 2:05 PM."]


async def test_a_turn_that_is_too_long_to_keep_is_answered(
    meet: Meet, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sound cannot be had any more; its words can."""
    monkeypatch.setattr(RuleResponder, "keeps_ms", 500)
    talk = meet(audio={"input": TRANSCRIBED})
    talk.speak(say("What time is it?") + PAUSE)
    await talk.answer()
    assert answers(talk) == ["It is 2:05 PM."]
    assert talk.sound_of(talk.said.of_type("input_audio_buffer.committed")[0]["item_id"]) is None
