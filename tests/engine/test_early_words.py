"""Words that are told while the caller still speaks: a transcription service gets the sound as it comes."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bridge.engine.local import Local
from bridge.engine.realtime_hearing import RealtimeHearing
from bridge.engine.rule_responder import RuleResponder
from tests.engine.talk import MS, Talk, silence
from tests.engine.test_rules import Bridge
from tests.fakes import JsonEvent
from tests.machine import scaled
from tests.upstream.service import Service, Visit

_LIMIT_S = scaled(30.0)
_TRANSCRIPTION = "conversation.item.input_audio_transcription."
_SENTENCE = "What is the weather in Paris?"
_FIRST, _REST = "What is", " the weather in Paris?"
_EARLY_BYTES = 300 * MS


class Streaming:
    """A service that tells its first words as soon as it has heard a little; ``sounds`` is what each commit ended."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.breaks = breaks
        """Whether the first connection breaks behind its first words."""
        self.sounds: list[bytes] = []
        self.committed = asyncio.Event()

    async def __call__(self, visit: Visit) -> None:
        await visit.greet()
        sound = b""
        while True:
            event = json.loads(await visit.socket.recv())
            if event["type"] == "input_audio_buffer.append":
                before, sound = len(sound), sound + b64decode(event["audio"])
                if before < _EARLY_BYTES <= len(sound):
                    await visit.say(f"{_TRANSCRIPTION}delta", item_id="item_1", delta=_FIRST)
                    if self.breaks:
                        self.breaks = False
                        await visit.cut()
            elif event["type"] == "input_audio_buffer.commit":
                self.sounds.append(sound)
                self.committed.set()
                sound = b""
                await visit.say(f"{_TRANSCRIPTION}delta", item_id="item_1", delta=_REST)
                await visit.say(f"{_TRANSCRIPTION}completed", item_id="item_1", transcript=_FIRST + _REST)


@asynccontextmanager
async def _meeting(service: Streaming, models: Local) -> AsyncIterator[Talk]:
    """A conversation whose ears are this service, and that answers nothing."""
    async with (
        Service.serving(service) as serving,
        RealtimeHearing(serving.url, timeout_s=_LIMIT_S) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        turns = {"type": "server_vad", "create_response": False}
        audio = {"input": {"transcription": {"model": "whisper-1"}, "turn_detection": turns}}
        talk = Talk(RuleResponder(ears, models, Bridge(), seed=0), audio=audio)
        yield talk
        await talk.engine.aclose()


def _deltas(talk: Talk) -> list[JsonEvent]:
    return talk.said.of_type(f"{_TRANSCRIPTION}delta")


@pytest.fixture
def halves(say: Callable[[str], bytes]) -> tuple[bytes, bytes]:
    """A sentence, cut in its middle."""
    sentence = say(_SENTENCE)
    middle = len(sentence) // 4 * 2
    return sentence[:middle], sentence[middle:]


async def test_words_are_told_before_the_turn_ends(models: Local, halves: tuple[bytes, bytes]) -> None:
    """Under the id of the item that the turn is going to be; what follows at its end adds to them."""
    async with _meeting(service := Streaming(), models) as talk:
        talk.speak(silence(300) + halves[0])
        early = await talk.said.until(f"{_TRANSCRIPTION}delta")
        [started] = talk.said.of_type("input_audio_buffer.speech_started")
        assert (early["item_id"], early["delta"]) == (started["item_id"], _FIRST)
        assert talk.said.of_type("input_audio_buffer.committed") == []
        talk.speak(halves[1] + silence(900))
        completed = await talk.said.until(f"{_TRANSCRIPTION}completed")
        assert (completed["item_id"], completed["transcript"]) == (started["item_id"], _SENTENCE)
        assert [event["delta"] for event in _deltas(talk)] == [_FIRST, _REST]
        assert _starts(talk, service.sounds)


async def test_nothing_is_lost_with_a_connection(models: Local, halves: tuple[bytes, bytes]) -> None:
    """If it breaks while the caller speaks, all of the turn is sent again at its end, and no word is told twice."""
    async with _meeting(service := Streaming(breaks=True), models) as talk:
        talk.speak(silence(300) + halves[0])
        await talk.said.until(f"{_TRANSCRIPTION}delta")
        talk.speak(halves[1] + silence(900))
        completed = await talk.said.until(f"{_TRANSCRIPTION}completed")
        assert completed["transcript"] == _SENTENCE
        assert [event["delta"] for event in _deltas(talk)] == [_FIRST, _REST]
        assert _starts(talk, service.sounds)


async def test_a_pause_that_was_not_the_end_is_told_of_by_nobody(models: Local, halves: tuple[bytes, bytes]) -> None:
    """The whole turn is recognised in the end, and its words are told once."""
    async with _meeting(service := Streaming(), models) as talk:
        talk.speak(silence(300) + halves[0])
        await talk.said.until(f"{_TRANSCRIPTION}delta")
        talk.speak(halves[1] + silence(100))
        await service.committed.wait()
        talk.speak(halves[0] + halves[1] + silence(900))
        await talk.said.until(f"{_TRANSCRIPTION}completed")
        assert [event["delta"] for event in _deltas(talk)] == [_FIRST, _REST]
        assert len(talk.said.of_type("input_audio_buffer.committed")) == 1
        assert _starts(talk, service.sounds[-1:])
        assert service.sounds[-1].startswith(service.sounds[0][: -100 * MS])


async def test_what_a_client_clears_is_told_no_further(models: Local, halves: tuple[bytes, bytes]) -> None:
    """The next turn has words of its own, under its own id."""
    async with _meeting(Streaming(), models) as talk:
        talk.speak(silence(300) + halves[0])
        await talk.said.until(f"{_TRANSCRIPTION}delta")
        talk.send("input_audio_buffer.clear")
        talk.speak(silence(300) + halves[0] + halves[1] + silence(900))
        completed = await talk.said.until(f"{_TRANSCRIPTION}completed")
        cleared, *told = _deltas(talk)
        assert cleared["item_id"] != completed["item_id"]
        assert {event["item_id"] for event in told} == {completed["item_id"]}
        assert "".join(event["delta"] for event in told) == _SENTENCE


def _starts(talk: Talk, sounds: list[bytes]) -> bool:
    """Whether one sound was committed, and the item has the same one, with the rest of its silence behind it."""
    [sound] = sounds
    [committed] = talk.said.of_type("input_audio_buffer.committed")
    item = talk.sound_of(committed["item_id"])
    assert item is not None
    return item.startswith(sound[: -100 * MS]) and 0 <= len(item) - len(sound) <= 600 * MS
