"""The words of one item, told as they are understood, whatever becomes of the recognition."""

import asyncio

import pytest

from bridge.engine.hearing import HeardTurn
from bridge.engine.recordings import Recordings
from bridge.engine.transcription import TurnTranscription
from tests.engine.talk import MS, Recorder
from tests.fakes import CONTEXT

_PREFIX = "conversation.item.input_audio_transcription."


class Item:
    """An item of two seconds in so many stretches, which the test understands in its own time."""

    def __init__(self, stretches: int, *, is_asked: bool = True) -> None:
        self.told = Recorder()
        self.recordings = Recordings(60_000)
        self.recordings.keep("item_1", [bytes(2000 * MS)])
        loop = asyncio.get_running_loop()
        self.futures: list[asyncio.Future[HeardTurn]] = [loop.create_future() for _ in range(stretches)]
        self.transcription = TurnTranscription(
            "item_1",
            self.futures,
            recordings=self.recordings,
            downstream=self.told if is_asked else None,
            log=CONTEXT.logger("engine"),
        )

    async def settle(self) -> list[str]:
        """What has been told once the loop has nothing left to do."""
        for _ in range(5):
            await asyncio.sleep(0)
        return [name.removeprefix(_PREFIX) for name in self.told.types]


async def test_stretches_are_told_in_order() -> None:
    """A later stretch that is understood first waits for its turn."""
    item = Item(2)
    item.futures[1].set_result(HeardTurn("Is it?", is_speech=True))
    assert await item.settle() == []
    item.futures[0].set_result(HeardTurn("It is.", is_speech=True))
    assert await item.settle() == ["delta", "delta", "completed"]
    assert [event["delta"] for event in item.told.events[:2]] == ["It is.", " Is it?"]
    assert item.told.events[2]["transcript"] == item.recordings.words("item_1") == "It is. Is it?"
    assert item.told.events[2]["usage"] == {"type": "duration", "seconds": 2.0}
    assert item.transcription.pending == []


async def test_silence_has_an_empty_transcript() -> None:
    """Where nobody spoke, that is what is told."""
    item = Item(1)
    item.futures[0].set_result(HeardTurn("", is_speech=False))
    assert await item.settle() == ["completed"]
    assert item.told.events[0]["transcript"] == ""


async def test_unintelligible_speech_is_a_failure() -> None:
    """Somebody spoke, and nothing was understood."""
    item = Item(1)
    item.futures[0].set_result(HeardTurn("", is_speech=True))
    assert await item.settle() == ["failed"]
    assert item.told.events[0]["error"]["code"] == "audio_unintelligible"


async def test_what_was_understood_is_told_although_something_was_not() -> None:
    """One stretch that fails does not take the others with it."""
    item = Item(3)
    item.futures[0].set_result(HeardTurn("Before.", is_speech=True))
    item.futures[1].set_exception(RuntimeError("broken"))
    item.futures[2].set_result(HeardTurn("After.", is_speech=True))
    assert await item.settle() == ["delta", "delta", "completed"]
    assert item.told.events[-1]["transcript"] == "Before. After."


async def test_a_broken_recognition_is_a_failure() -> None:
    """An error inside leaves nobody waiting for a transcript."""
    item = Item(1)
    item.futures[0].set_exception(RuntimeError("broken"))
    assert await item.settle() == ["failed"]


async def test_words_are_kept_where_no_transcript_is_asked_for() -> None:
    """The engine understands for itself, and tells nobody."""
    item = Item(1, is_asked=False)
    item.futures[0].set_result(HeardTurn("It is.", is_speech=True))
    assert await item.settle() == []
    assert item.recordings.words("item_1") == "It is."


@pytest.mark.parametrize("understood", [0, 1])
async def test_a_stopped_one_is_silent(understood: int) -> None:
    """At the end of the session nothing more is told, and what is under way is cancelled."""
    item = Item(2)
    for future in item.futures[:understood]:
        future.set_result(HeardTurn("It is.", is_speech=True))
    before = await item.settle()
    item.transcription.stop()
    assert await item.settle() == before
    assert all(future.cancelled() for future in item.futures[understood:])
