"""The embedded engine, spoken to with real speech."""

import asyncio
import gc
import itertools
import weakref

import pytest

from bridge.engine.parrot import Parrot
from tests.engine.talk import (
    AUDIO,
    MS,
    SPOKEN_ANSWER,
    WRITTEN_ANSWER,
    Recorder,
    Talk,
    silence,
    turns,
    without_repeats,
)

MANUAL = {"input": {"turn_detection": None}}
ONLY_LISTEN = turns(create_response=False)

TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
]


@pytest.fixture
def phrase(speech_pcm: bytes) -> bytes:
    """A second and a half of speech, and a pause that ends the turn."""
    return speech_pcm[: 1800 * MS] + silence(1000)


# A turn


async def test_a_turn_is_told_in_the_protocols_order(phrase: bytes) -> None:
    """From the start of speech to the end of the answer, every event comes, once, where the protocol has it."""
    talk = Talk()
    talk.speak(silence(500) + phrase)
    await talk.answer()
    assert without_repeats(talk.said.types) == ["session.created", *TURN, *SPOKEN_ANSWER]
    assert talk.said.types.count(AUDIO) > 3


async def test_the_events_of_a_turn_belong_together(phrase: bytes) -> None:
    """Ids, indexes and the order of items are the same wherever they are told."""
    talk = Talk()
    talk.speak(phrase)
    response = await talk.answer()
    started, stopped, committed, user, user_done = talk.said.events[1:6]
    assert started["item_id"] == stopped["item_id"] == committed["item_id"] == user["item"]["id"]
    assert (committed["previous_item_id"], user["previous_item_id"]) == (None, None)
    assert user["item"] == user_done["item"]
    assert user["item"].items() >= {"type": "message", "role": "user", "status": "completed"}.items()
    assert user["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    for event in talk.said.events[6:]:
        assert event.get("response_id", response["id"]) == response["id"]
        assert event.get("output_index", 0) == event.get("content_index", 0) == 0
    [added] = talk.said.of_type("response.output_item.added")
    assert (added["item"]["status"], added["item"]["content"]) == ("in_progress", [])
    assistant = talk.said.of_type("conversation.item.added")[1]
    assert assistant["previous_item_id"] == user["item"]["id"]
    assert assistant["item"] == added["item"]
    [done] = talk.said.of_type("response.output_item.done")
    assert response["output"] == [done["item"]] == [talk.said.of_type("conversation.item.done")[1]["item"]]
    assert done["item"]["id"] == added["item"]["id"]
    assert done["item"]["status"] == response["status"] == "completed"
    assert response["usage"]["output_token_details"]["audio_tokens"] > 0
    assert response["conversation_id"].startswith("conv_")


async def test_the_parrot_says_what_it_heard(phrase: bytes) -> None:
    """The answer's sound is the committed sound, and that is what was spoken between the told times."""
    talk = Talk()
    talk.speak(silence(700) + phrase)
    response = await talk.answer()
    started, stopped = talk.said.events[1:3]
    committed = talk.spoken[started["audio_start_ms"] * MS : stopped["audio_end_ms"] * MS]
    assert talk.sound_of(started["item_id"]) == committed
    assert talk.said.sounds == {response["output"][0]["id"]: committed}
    assert talk.sound_of(response["output"][0]["id"]) == committed
    words = response["output"][0]["content"][0]["transcript"]
    assert words == f"(your own words, {len(committed) / MS / 1000:.1f} s)"
    [delta] = talk.said.of_type("response.output_audio_transcript.delta")
    [done] = talk.said.of_type("response.output_audio_transcript.done")
    [part] = talk.said.of_type("response.content_part.done")
    assert delta["delta"] == done["transcript"] == part["part"]["transcript"] == words


@pytest.mark.parametrize("prefix_padding_ms", [0, 300])
def test_no_beginning_is_lost(prefix_padding_ms: int, phrase: bytes) -> None:
    """However long it was quiet before, a turn's sound reaches from the start that is told to the end that is told."""
    missing_ms = {}
    for lead_ms in range(1640, 2080, 20):
        talk = Talk(audio=turns(create_response=False, prefix_padding_ms=prefix_padding_ms))
        talk.speak(silence(lead_ms) + phrase)
        started, stopped = talk.said.events[2:4]
        expected = talk.spoken[started["audio_start_ms"] * MS : stopped["audio_end_ms"] * MS]
        sound = talk.sound_of(started["item_id"]) or b""
        assert expected.endswith(sound)
        missing_ms[lead_ms] = (len(expected) - len(sound)) // MS
    assert set(missing_ms.values()) == {0}, missing_ms


async def test_turns_follow_one_another(phrase: bytes) -> None:
    """Several turns have times on one clock, do not overlap, and each is heard whole."""
    talk = Talk(audio=ONLY_LISTEN)
    for _ in range(3):
        talk.speak(phrase)
    starts = talk.said.of_type("input_audio_buffer.speech_started")
    stops = talk.said.of_type("input_audio_buffer.speech_stopped")
    times = [time for a, b in zip(starts, stops, strict=True) for time in (a["audio_start_ms"], b["audio_end_ms"])]
    assert len(times) == 6
    assert times == sorted(times)
    assert times[4] - times[2] == pytest.approx(len(phrase) / MS, abs=100)
    for started, stopped in zip(starts, stops, strict=True):
        sound = talk.spoken[started["audio_start_ms"] * MS : stopped["audio_end_ms"] * MS]
        assert talk.sound_of(started["item_id"]) == sound
    previous = [event["previous_item_id"] for event in talk.said.of_type("input_audio_buffer.committed")]
    assert previous == [None, starts[0]["item_id"], starts[1]["item_id"]]


@pytest.mark.parametrize("piece_ms", [7, 200, 100_000])
async def test_the_size_of_the_pieces_makes_no_difference(piece_ms: int, phrase: bytes) -> None:
    """However the sound is cut when it comes, the same turns are found and the same sound is kept."""
    usual, other = Talk(audio=ONLY_LISTEN), Talk(audio=ONLY_LISTEN)
    usual.speak(silence(1500) + phrase * 2)
    other.speak(silence(1500) + phrase * 2, piece_ms=piece_ms)
    assert usual.said.types == other.said.types
    for ours, theirs in zip(usual.said.events, other.said.events, strict=True):
        assert ours.get("audio_start_ms") == theirs.get("audio_start_ms")
        assert ours.get("audio_end_ms") == theirs.get("audio_end_ms")
        if ours["type"] == "input_audio_buffer.committed":
            assert usual.sound_of(ours["item_id"]) == other.sound_of(theirs["item_id"])


async def test_an_endless_turn_is_bounded(monkeypatch: pytest.MonkeyPatch, speech_pcm: bytes) -> None:
    """Of a turn that does not end, as with music, only so much is kept; the oldest sound goes first."""
    monkeypatch.setattr(Parrot, "turn_ms", 3000)
    talk = Talk(audio=turns(create_response=False, silence_duration_ms=1000))
    talk.speak(speech_pcm * 3 + silence(1500))
    [started] = talk.said.of_type("input_audio_buffer.speech_started")
    [stopped] = talk.said.of_type("input_audio_buffer.speech_stopped")
    sound = talk.sound_of(started["item_id"]) or b""
    assert 3000 * MS <= len(sound) <= 4500 * MS
    assert talk.spoken[: stopped["audio_end_ms"] * MS].endswith(sound)


async def test_silence_is_not_answered() -> None:
    """A minute of nothing makes no event."""
    talk = Talk()
    talk.speak(silence(60_000), piece_ms=1000)
    assert talk.said.types == ["session.created"]


@pytest.mark.parametrize(("eagerness", "pause_ms"), [("high", 300), ("auto", 800), ("low", 1500)])
async def test_semantic_vad_waits_by_its_eagerness(eagerness: str, pause_ms: int, phrase: bytes) -> None:
    """An eager one ends a turn after a short pause, a patient one after a long one."""
    detection = {"type": "semantic_vad", "eagerness": eagerness, "create_response": False}
    talk = Talk(audio={"input": {"turn_detection": detection}})
    talk.speak(phrase + silence(1500))
    [stopped] = talk.said.of_type("input_audio_buffer.speech_stopped")
    assert stopped["audio_end_ms"] == pytest.approx(1800 + pause_ms, abs=200)


async def test_without_create_response_nobody_answers(phrase: bytes) -> None:
    """The turn becomes an item, and an answer comes when it is asked for."""
    talk = Talk(audio=ONLY_LISTEN)
    talk.speak(phrase)
    assert talk.said.types == ["session.created", "session.updated", *TURN]
    talk.send("response.create")
    response = await talk.answer()
    assert talk.said.sounds[response["output"][0]["id"]]


# Barge-in


async def test_speech_interrupts_the_answer(phrase: bytes) -> None:
    """When the caller speaks again, the answer is cancelled behind speech_started, and the new turn is answered."""
    talk = Talk()
    talk.speak(phrase)
    await talk.said.until(AUDIO, 2)
    talk.speak(phrase)
    first, second = await talk.answer(), await talk.answer(2)
    assert first["status"] == first["output"][0]["status"].replace("incomplete", "cancelled") == "cancelled"
    assert first["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert second["status"] == "completed"
    names = talk.said.types
    interrupted = names.index("input_audio_buffer.speech_started", 2)
    ending = names[interrupted + 1 : names.index("response.done") + 1]
    assert ending == SPOKEN_ANSWER[SPOKEN_ANSWER.index(AUDIO) + 1 :]
    assert names[names.index("response.done") + 1 :][:4] == TURN[1:]


async def test_a_cancelled_answer_keeps_what_it_has_said(phrase: bytes) -> None:
    """What was never delivered is no longer part of the item."""
    talk = Talk()
    talk.speak(phrase)
    await talk.said.until(AUDIO, 2)
    talk.speak(phrase)
    response = await talk.answer()
    item_id = response["output"][0]["id"]
    assert talk.sound_of(item_id) == talk.said.sounds[item_id]
    await talk.answer(2)


async def test_without_interrupt_response_the_answer_goes_on(phrase: bytes) -> None:
    """The caller speaks over it, and it is completed; the second turn is not answered on top of it."""
    talk = Talk(audio=turns(interrupt_response=False))
    talk.speak(phrase)
    await talk.said.until(AUDIO)
    talk.speak(phrase)
    assert (await talk.answer())["status"] == "completed"
    assert talk.said.types.count("input_audio_buffer.committed") == 2
    assert talk.said.types.count("response.created") == 1


# Turns by hand


async def test_turns_by_hand(phrase: bytes) -> None:
    """With turn_detection null nothing happens until commit and response.create; then all of it is said back."""
    talk = Talk(audio=MANUAL)
    talk.speak(phrase)
    assert talk.said.types == ["session.created", "session.updated"]
    talk.send("input_audio_buffer.commit")
    assert talk.said.types[2:] == TURN[2:]
    talk.send("response.create")
    response = await talk.answer()
    assert without_repeats(talk.said.types)[5:] == SPOKEN_ANSWER
    assert talk.said.sounds[response["output"][0]["id"]] == phrase


async def test_commits_share_nothing(speech_pcm: bytes) -> None:
    """Sound that does not end on a millisecond is committed once: nothing is left out, nothing comes twice."""
    talk = Talk(audio=MANUAL)
    edges = [0, 5_001 * 2, 10_009 * 2, 15_022 * 2]
    for start, end in itertools.pairwise(edges):
        talk.engine.receive_caller_audio(speech_pcm[start:end])
        talk.send("input_audio_buffer.commit")
    committed = [talk.sound_of(event["item_id"]) or b"" for event in talk.said.of_type("input_audio_buffer.committed")]
    together = b"".join(committed)
    assert 0 <= edges[-1] - len(together) < MS
    assert speech_pcm.startswith(together)
    talk.send("response.create")
    response = await talk.answer()
    assert talk.said.sounds[response["output"][0]["id"]] == committed[-1]
    assert talk.sound_of(response["output"][0]["id"]) == committed[-1]


async def test_too_little_to_commit(speech_pcm: bytes) -> None:
    """Less than 100 ms is refused and stays in the buffer; 100 ms is enough."""
    talk = Talk(audio=MANUAL)
    assert talk.refusal("input_audio_buffer.commit").code == "input_audio_buffer_commit_empty"
    talk.speak(speech_pcm[: 99 * MS])
    assert "99.00ms" in talk.refusal("input_audio_buffer.commit").message
    talk.speak(speech_pcm[99 * MS : 100 * MS])
    talk.send("input_audio_buffer.commit")
    assert talk.sound_of(talk.said.events[-1]["item"]["id"]) == speech_pcm[: 100 * MS]
    assert talk.refusal("input_audio_buffer.commit").code == "input_audio_buffer_commit_empty"


async def test_clear_forgets(speech_pcm: bytes) -> None:
    """After a clear only what came later is committed."""
    talk = Talk(audio=MANUAL)
    talk.speak(speech_pcm[: 500 * MS])
    talk.send("input_audio_buffer.clear")
    assert talk.said.types[-1] == "input_audio_buffer.cleared"
    assert talk.refusal("input_audio_buffer.commit").code == "input_audio_buffer_commit_empty"
    talk.speak(speech_pcm[500 * MS : 700 * MS])
    talk.send("input_audio_buffer.commit")
    assert talk.sound_of(talk.said.events[-1]["item"]["id"]) == speech_pcm[500 * MS : 700 * MS]


async def test_clear_in_mid_turn(phrase: bytes) -> None:
    """The open turn is forgotten without a stop; the next one begins after the clear and is heard whole."""
    talk = Talk(audio=ONLY_LISTEN)
    talk.speak(phrase[: 1000 * MS])
    talk.send("input_audio_buffer.clear")
    talk.speak(silence(1000) + phrase)
    names = talk.said.types[2:]
    assert names == [TURN[0], "input_audio_buffer.cleared", *TURN]
    started, stopped = talk.said.events[-5:-3]
    assert started["audio_start_ms"] >= 1000
    expected = talk.spoken[started["audio_start_ms"] * MS : stopped["audio_end_ms"] * MS]
    assert talk.sound_of(started["item_id"]) == expected


async def test_turn_detection_may_come_and_go(phrase: bytes) -> None:
    """Switched off and on again, it finds turns as before, on the same clock."""
    talk = Talk(audio=ONLY_LISTEN)
    talk.speak(phrase)
    talk.send("session.update", session={"audio": MANUAL})
    talk.speak(phrase)
    talk.send("session.update", session={"audio": ONLY_LISTEN})
    talk.speak(phrase)
    assert [name for name in talk.said.types if name in TURN] == TURN * 2
    started, stopped = talk.said.events[-5:-3]
    assert started["audio_start_ms"] >= 2 * len(phrase) // MS
    expected = talk.spoken[started["audio_start_ms"] * MS : stopped["audio_end_ms"] * MS]
    assert talk.sound_of(started["item_id"]) == expected


# What else is said in a turn


async def test_a_transcript_is_never_invented(phrase: bytes) -> None:
    """Where one is asked for, it is said that there is none; the item says null."""
    talk = Talk(audio=ONLY_LISTEN)
    talk.send("session.update", session={"audio": {"input": {"transcription": {"model": "whisper-1"}}}})
    talk.speak(phrase)
    assert talk.said.types[-1] == "conversation.item.input_audio_transcription.failed"
    failed, added = talk.said.events[-1], talk.said.of_type("conversation.item.added")[0]
    assert (failed["item_id"], failed["content_index"]) == (added["item"]["id"], 0)
    assert failed["error"]["code"] == "transcription_unavailable"
    assert added["item"]["content"][0]["transcript"] is None


async def test_text_only(phrase: bytes) -> None:
    """A session that wants text reads how much was said, and hears nothing."""
    talk = Talk(output_modalities=["text"])
    talk.speak(phrase)
    response = await talk.answer()
    assert without_repeats(talk.said.types)[2:] == TURN + WRITTEN_ANSWER
    assert response["output_modalities"] == ["text"]
    assert response["output"][0]["content"][0]["text"].startswith("(your own words")
    assert talk.said.sounds == {}


# The end


async def test_aclose_leaves_nothing_behind(phrase: bytes) -> None:
    """In the middle of an answer: no word more, no task, no timer that holds on; twice is once."""
    before = asyncio.all_tasks()
    talk = Talk()
    talk.speak(phrase)
    await talk.said.until(AUDIO)
    await talk.engine.aclose()
    await talk.engine.aclose()
    said = len(talk.said.events)
    assert asyncio.all_tasks() == before
    assert talk.said.types[-1] == AUDIO
    recorder = weakref.ref(talk.said)
    assert len(talk.said.events) == said
    del talk
    gc.collect()
    assert recorder() is None


async def test_aclose_of_an_idle_engine() -> None:
    """It may be closed before anything was said."""
    talk = Talk()
    await talk.engine.aclose()
    assert talk.said.types == ["session.created"]


async def test_two_conversations_share_nothing(phrase: bytes) -> None:
    """Each has its own items and hears its own words."""
    one, two = Talk(), Talk()
    one.speak(phrase)
    two.speak(phrase[600 * MS :])
    first, second = await one.answer(), await two.answer()
    assert isinstance(one.said, Recorder)
    assert first["conversation_id"] != second["conversation_id"]
    assert len(*one.said.sounds.values()) - len(*two.said.sounds.values()) == pytest.approx(600 * MS, abs=100 * MS)
