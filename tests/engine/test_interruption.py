"""Who interrupts an answer: not an echo of it through a room, and not a word that says go on; a caller does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from bridge.engine.echo import WINDOW_MS, explained
from bridge.engine.interruption import TurnTaking
from bridge.engine.local import Local
from bridge.engine.rule_responder import RuleResponder
from bridge.engine.service import Engine
from bridge.wire.stats import Stage
from tests.engine.talk import AUDIO, MS, Talk, silence
from tests.engine.test_rules import Bridge
from tests.fakes import CONTEXT
from tests.machine import scaled

_LIMIT_S = scaled(30.0)
_ANSWER = "Repeat after me, the quick brown fox jumps over the lazy dog, and then it sleeps in the warm sun all day."

Say = Callable[[str], bytes]


def _pcm(samples: Any) -> bytes:
    pcm: bytes = np.clip(samples, -32_768, 32_767).astype("<i2").tobytes()
    return pcm


def _room(pcm: bytes, *, delay_ms: int, gain: float = 0.3) -> bytes:
    """What a microphone hears of a loudspeaker: the direct way, and 120 ms of a room that fades away."""
    random = np.random.default_rng(1)
    length = 24 * 120
    response = random.normal(0, 0.1, length) * np.exp(-np.arange(length) / (24 * 25))
    response[0] = 1.0
    sound = np.convolve(np.frombuffer(pcm, "<i2").astype(np.float64), response)[: len(pcm) // 2] * gain
    return silence(delay_ms) + _pcm(sound)


def _mixed(one: bytes, other: bytes) -> bytes:
    size = min(len(one), len(other))
    both = np.frombuffer(one[:size], "<i2").astype(np.int32) + np.frombuffer(other[:size], "<i2")
    return _pcm(both)


def _explained(heard: bytes, played: bytes) -> list[float]:
    window = WINDOW_MS * MS
    return [explained(heard[at : at + window], played) for at in range(12_000 * 2, len(heard) - window, window)]


def test_an_echo_is_told_from_a_caller(say: Say, speech_pcm: bytes) -> None:
    """Through a room most of the energy is explained; of another voice, alone or over the echo, less than half is."""
    answer = say(_ANSWER.removeprefix("Repeat after me, "))
    echo = _room(answer, delay_ms=180)
    assert min(_explained(echo[: len(answer)], answer)) > 0.6
    assert max(_explained(speech_pcm[: len(answer)], answer)) < 0.4
    assert np.median(_explained(_mixed(echo, speech_pcm), answer)) < 0.45
    assert explained(b"", b"") == 0.0
    assert explained(silence(WINDOW_MS), answer) == 0.0


@pytest.fixture
async def heard() -> asyncio.Event:
    """Some speech has been understood."""
    return asyncio.Event()


@pytest.fixture
async def talking(models: Local, heard: asyncio.Event) -> AsyncIterator[Callable[..., Talk]]:
    """Conversations with the engine's rules, that take turns as is said."""
    talks: list[Talk] = []

    def observe(stage: Stage, seconds: float) -> None:
        if stage is Stage.EAR:
            heard.set()

    def talking(**taking: Any) -> Talk:
        talk = Talk(RuleResponder(models, models, Bridge(), seed=0))
        mind = RuleResponder(models, models, Bridge(), seed=0)
        talk.engine = Engine(mind, CONTEXT, observe=observe, taking=TurnTaking(**taking))
        talk.engine.start(talk.said, talk.said.state)
        talk.said.events.clear()
        talks.append(talk)
        return talk

    async with asyncio.timeout(_LIMIT_S):
        yield talking
    for talk in talks:
        await talk.engine.aclose()


async def _answering(talk: Talk) -> bytes:
    """Has the engine say its sentence; the sound of it."""
    talk.type(_ANSWER)
    talk.send("response.create")
    await talk.said.until(AUDIO)
    return await _whole(talk)


async def _whole(talk: Talk) -> bytes:
    response = await talk.answer()
    return talk.said.sounds[response["output"][0]["id"]]


async def _hear(talk: Talk, pcm: bytes) -> None:
    """The caller's sound, with turns of the loop for those who think about it."""
    for at in range(0, len(pcm), 20 * MS):
        talk.engine.receive_caller_audio(pcm[at : at + 20 * MS])
        await asyncio.sleep(0)


async def test_a_caller_who_hears_the_answer_does_not_interrupt_it(talking: Callable[..., Talk]) -> None:
    """No turn begins by an echo; without the guard it would."""
    guarded, usual = talking(has_echo_guard=True), talking()
    for talk in (guarded, usual):
        await _hear(talk, _room(await _answering(talk), delay_ms=150))
    assert usual.said.of_type("input_audio_buffer.speech_started") != []
    assert guarded.said.of_type("input_audio_buffer.speech_started") == []
    assert guarded.said.of_type("input_audio_buffer.committed") == []


async def test_a_caller_over_the_echo_interrupts(talking: Callable[..., Talk], speech_pcm: bytes) -> None:
    """Half a second later at most, and the turn has its beginning."""
    talk = talking(has_echo_guard=True)
    echo = _room(await _answering(talk), delay_ms=150)
    await _hear(talk, _mixed(echo, speech_pcm[: 2200 * MS]))
    [started] = talk.said.of_type("input_audio_buffer.speech_started")
    usual = talking()
    await _answering(usual)
    await _hear(usual, speech_pcm[: 2200 * MS])
    assert (
        started["audio_start_ms"] <= usual.said.of_type("input_audio_buffer.speech_started")[0]["audio_start_ms"] + 600
    )


async def test_a_word_that_says_go_on_does_not_cut(
    talking: Callable[..., Talk], say: Say, heard: asyncio.Event
) -> None:
    """It leaves no turn; after the answer, or in longer speech, the same word counts."""
    talk = talking(backchannels=("Okay", "uh-huh"))
    await _answering(talk)
    await _hear(talk, silence(100) + say("Okay.") + silence(1000))
    await heard.wait()
    assert talk.said.of_type("input_audio_buffer.speech_started") == []
    await _hear(talk, say("Okay, please stop it now and tell me the time.") + silence(900))
    await talk.said.until("input_audio_buffer.speech_started")
    await talk.answer(2)


async def test_other_words_cut(talking: Callable[..., Talk], say: Say) -> None:
    """As soon as they are understood; the turn is whole."""
    talk = talking(backchannels=("Okay",))
    await _answering(talk)
    await _hear(talk, silence(100) + say("Stop.") + silence(1000))
    await talk.said.until("input_audio_buffer.speech_started")
    await talk.said.until("input_audio_buffer.committed")
