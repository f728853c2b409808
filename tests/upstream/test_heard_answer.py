"""A track's sound gets its names back: which part of which answer it is, and when that is over."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.media.playback import Part
from bridge.upstream.heard_answer import HeardAnswer
from bridge.wire.relayed import AudioDelta, decode_relayed
from tests.wire.strange import strange_events

SILENCE, VOICE = bytes(960), b"\x00\x10" * 480
PLACE: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
PART = Part("resp_1", "item_a", 0, 0)
ADDED = {"type": "response.content_part.added", "part": {"type": "audio", "transcript": ""}, **PLACE}
WORDS = {"type": "response.output_audio_transcript.delta", "delta": "hello", **PLACE}
SOUND_DONE = {"type": "response.output_audio.done", **PLACE}
ITEM_DONE = {"type": "conversation.item.done", "item": {"id": "item_a"}}
DONE = {"type": "response.done", "response": {"id": "resp_1"}}
STARTED, STOPPED, CLEARED = (
    {"type": f"output_audio_buffer.{what}", "response_id": "resp_1"} for what in ("started", "stopped", "cleared")
)
OTHER = {"type": "input_audio_buffer.speech_started", "audio_start_ms": 1, "item_id": "item_b"}


class Heard(HeardAnswer):
    """With a clock of its own: 20 ms pass with each piece of the track."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def say(self, *bodies: dict[str, Any]) -> list[str]:
        return [str(due["type"]) for body in bodies for due in self.receive_event(dict(body), self.now)]

    def sound(self, pcm: bytes, times: int = 1) -> list[tuple[Part, bytes]]:
        pieces = []
        for _ in range(times):
            pieces.append(self.receive_audio(pcm, self.now))
            self.now += 0.020
        return [piece for piece in pieces if piece is not None]

    def due(self, after_s: float) -> list[str]:
        self.now += after_s
        return [str(body["type"]) for body in self.poll(self.now)]


def test_only_an_answers_sound_is_heard() -> None:
    """Noise before it is announced is nobody's, silence before it begins is none; then every frame is its own."""
    heard = Heard()
    assert heard.sound(VOICE, 10) == []
    assert heard.say(ADDED) == [ADDED["type"]]
    assert heard.sound(SILENCE, 10) == []
    [(part, first)] = heard.sound(VOICE)
    assert part == PART
    assert first == SILENCE * 3 + VOICE
    assert heard.sound(SILENCE, 2) == [(PART, SILENCE)] * 2


def test_sound_that_overtakes_its_announcement_is_not_lost() -> None:
    """What was played in the moment before the event came is the beginning of the answer."""
    heard = Heard()
    heard.sound(SILENCE, 5)
    heard.sound(VOICE, 2)
    heard.say(ADDED)
    [(_, first)] = heard.sound(VOICE)
    assert first == SILENCE + VOICE * 3


def test_the_end_comes_behind_the_sound() -> None:
    """A service says that it is done long before it has been heard; without its buffer's events, silence tells."""
    heard = Heard()
    heard.say(ADDED, WORDS)
    heard.sound(VOICE, 5)
    assert heard.say(SOUND_DONE, ITEM_DONE, DONE) == []
    assert heard.say(OTHER) == [OTHER["type"]]
    heard.sound(VOICE, 50)
    assert heard.due(0.0) == []
    heard.sound(SILENCE, 25)
    assert heard.due(0.0) == []
    heard.sound(SILENCE, 10)
    assert heard.due(0.0) == [SOUND_DONE["type"], ITEM_DONE["type"], DONE["type"]]
    assert heard.sound(VOICE) == []
    assert heard.due(5.0) == []


def test_a_pause_is_not_the_end() -> None:
    """As long as the service has not said that it is done, it may think."""
    heard = Heard()
    heard.say(ADDED)
    heard.sound(VOICE, 5)
    heard.sound(SILENCE, 100)
    assert heard.due(0.0) == []
    assert len(heard.sound(VOICE, 5)) == 5


def test_a_service_that_tells_of_its_buffer_is_believed() -> None:
    """Its ``stopped`` is the end, however long the pauses are; nobody else is told of its buffer."""
    heard = Heard()
    assert heard.say(ADDED, STARTED) == [ADDED["type"]]
    heard.sound(VOICE, 5)
    heard.say(SOUND_DONE, DONE)
    heard.sound(SILENCE, 200)
    assert heard.due(0.0) == []
    assert heard.say(STOPPED) == []
    assert heard.due(0.1) == []
    assert heard.due(0.15) == [SOUND_DONE["type"], DONE["type"]]


def test_a_service_that_clears_its_buffer() -> None:
    """There is nothing more to wait for; what concerns another response is of no interest."""
    heard = Heard()
    heard.say(ADDED)
    heard.sound(VOICE, 5)
    heard.say(DONE)
    assert heard.say({**CLEARED, "response_id": "resp_x"}) == []
    assert heard.say(CLEARED) == [DONE["type"]]
    assert heard.say(STOPPED) == []


def test_an_answer_that_never_sounds_is_over() -> None:
    """After a while: its service has sent the sound another way, or has none."""
    heard = Heard()
    heard.say(ADDED, DONE)
    assert heard.due(2.9) == []
    assert heard.due(0.2) == [DONE["type"]]


def test_the_next_answer_ends_the_last_one() -> None:
    """Its end comes before the other's beginning, and the sound changes hands."""
    heard = Heard()
    heard.say(ADDED)
    heard.sound(VOICE, 5)
    heard.say(DONE)
    second = {**ADDED, "response_id": "resp_2", "item_id": "item_b"}
    assert heard.say(second) == [DONE["type"], ADDED["type"]]
    [(part, _)] = heard.sound(VOICE)
    assert part == Part("resp_2", "item_b", 0, 0)


def test_a_call_that_ends_says_all() -> None:
    """What was held back is said, even if its sound was not heard to the end."""
    heard = Heard()
    heard.say(ADDED)
    heard.sound(VOICE, 5)
    heard.say(DONE)
    assert [body["type"] for body in heard.end()] == [DONE["type"]]


def test_a_written_answer_waits_for_nothing() -> None:
    """It has no sound."""
    heard = Heard()
    written = {**ADDED, "part": {"type": "text", "text": ""}}
    assert heard.say(written, DONE) == [ADDED["type"], DONE["type"]]


@given(st.lists(strange_events, max_size=8))
def test_a_strange_service_loses_nothing(events: list[dict[str, Any]]) -> None:
    """Whatever its events hold: each one but its buffer's comes out in the end, once."""
    heard = Heard()
    said = [
        body for body in (decode_relayed(json.dumps(event)) for event in events) if not isinstance(body, AudioDelta)
    ]
    told: list[Any] = []
    for body in said:
        told += heard.receive_event(body, heard.now)
        heard.sound(VOICE)
    told += heard.end()
    kept = [body for body in said if not body["type"].startswith("output_audio_buffer.")]
    assert sorted(map(json.dumps, told)) == sorted(map(json.dumps, kept))
