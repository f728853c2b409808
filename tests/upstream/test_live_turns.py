"""Turns that are made of a session without turns: where they begin and end, and whose words are whose."""

import json
from typing import Any

import numpy as np

from bridge.upstream.live.turns import LiveTurns
from bridge.wire.audio import G711_ULAW, PCM16
from bridge.wire.server_events import ServerEvent, encode

_MS = 48


class _Followed:
    """Turns, and the events that were made of them."""

    def __init__(self, *, is_endless: bool) -> None:
        self.events: list[dict[str, Any]] = []
        self.turns = LiveTurns(self._take, is_endless=is_endless)

    def _take(self, event: ServerEvent) -> None:
        self.events.append(json.loads(encode(event)))

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


def _loud(ms: int) -> bytes:
    return np.random.default_rng(ms).normal(0, 3000, 24 * ms).clip(-32768, 32767).astype("<i2").tobytes()


def test_an_answer_has_all_events_in_order_and_no_silence_around_it() -> None:
    """It begins 60 ms before its first audible frame, and ends with 0.8 s of silence."""
    call = _Followed(is_endless=False)
    said = b""
    for piece in (bytes(500 * _MS), _loud(300), bytes(700 * _MS), _loud(200), *[bytes(20 * _MS)] * 60):
        for at in range(0, len(piece), 20 * _MS):
            found = call.turns.take_model_sound(piece[at : at + 20 * _MS], PCM16)
            said += found[1] if found is not None else b""
    call.turns.say_words("late")
    assert len(said) // _MS == 60 + 300 + 700 + 200 + 800
    assert call.types == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
        "response.created",  # words without sound are an answer as well
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
    ]
    assert call.turns.answers == 1


def test_an_endless_answer_keeps_its_silence() -> None:
    """For Live clients nothing of the stream is left out: an answer ends when the next one begins."""
    call = _Followed(is_endless=True)
    pieces = [bytes(400 * _MS), _loud(300), bytes(2000 * _MS), _loud(300), bytes(100 * _MS)]
    parts = [call.turns.take_model_sound(piece, PCM16) for piece in pieces]
    assert [len(part[1]) for part in parts if part is not None] == [len(piece) for piece in pieces]
    ids = [part[0].response_id for part in parts if part is not None]
    assert ids[0] == ids[1] == ids[2] != ids[3] == ids[4]
    assert call.types.count("response.done") == 1
    call.turns.end()
    assert call.types.count("response.done") == 2


def test_words_go_to_the_turn_whose_time_they_name() -> None:
    """The caller's words come seconds late, when the next turn has begun already."""
    call = _Followed(is_endless=False)
    for piece in (bytes(1000 * _MS), _loud(1000), bytes(2000 * _MS), _loud(1000), bytes(1000 * _MS)):
        call.turns.hear(piece, PCM16)
    first, second = (event["item_id"] for event in call.of("input_audio_buffer.speech_started"))
    call.turns.hear_words("one ", 1100)
    call.turns.hear_words("three", 4200)
    call.turns.hear_words("two", 1900)
    call.turns.hear(bytes(6000 * _MS), PCM16)
    done = call.of("conversation.item.input_audio_transcription.completed")
    assert [(event["item_id"], event["transcript"]) for event in done] == [(first, "one two"), (second, "three")]
    assert [event["type"] for event in call.events if event.get("item_id") == first] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        *["conversation.item.input_audio_transcription.delta"] * 2,
        "conversation.item.input_audio_transcription.completed",
    ]


def test_words_without_a_turn_make_one_that_nobody_is_told_speaks() -> None:
    """Of G.711 only words tell. They come when an answer may be under way, which must not be interrupted for them."""
    call = _Followed(is_endless=False)
    call.turns.hear(bytes(8 * 4000), G711_ULAW)
    call.turns.hear_words("quiet words", 1000)
    call.turns.end()
    assert "input_audio_buffer.speech_started" not in call.types
    (done,) = call.of("conversation.item.input_audio_transcription.completed")
    assert done["transcript"] == "quiet words"


def test_a_function_call_is_an_answer_of_its_own() -> None:
    """Whatever is being said meanwhile goes on."""
    call = _Followed(is_endless=False)
    call.turns.take_model_sound(_loud(100), PCM16)
    call.turns.call_function({"call_id": "call_1", "name": "weather", "arguments": "{}"})
    (called,) = call.of("response.function_call_arguments.done")
    assert (called["name"], called["call_id"]) == ("weather", "call_1")
    (done,) = call.of("response.done")
    assert done["response"]["output"][0]["type"] == "function_call"
    assert call.turns.answers == 0


def test_words_without_end_are_told_and_not_kept() -> None:
    """A service that never pauses fills no memory: the transcript has the beginning."""
    call = _Followed(is_endless=False)
    for _ in range(100):
        call.turns.say_words("x" * 10_000)
        call.turns.hear_words("y" * 10_000, 0)
    call.turns.end()
    assert len(call.of("response.output_audio_transcript.delta")) == 100
    [done] = call.of("response.output_audio_transcript.done")
    [heard] = call.of("conversation.item.input_audio_transcription.completed")
    assert (done["transcript"], heard["transcript"]) == ("x" * 100_000, "y" * 100_000)
