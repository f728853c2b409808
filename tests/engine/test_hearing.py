"""The recognition of one turn, with a listener that says what it was given."""

import asyncio

import numpy as np

from bridge.engine.hearing import LONGEST_S, HeardTurn, Hearing, OpenStretch, cut
from bridge.engine.told_words import ToldWords
from tests.engine.talk import Recorder

SECOND = 2 * 24_000


class Listener:
    """Has understood at once how long a stretch was."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def __call__(self, pcm: bytes) -> "asyncio.Future[HeardTurn]":
        self.given.append(len(pcm))
        future: asyncio.Future[HeardTurn] = asyncio.get_running_loop().create_future()
        future.set_result(HeardTurn(str(len(pcm)), is_speech=True))
        return future


def noise(seconds: int, *, pause_at_s: int | None = None) -> bytes:
    samples = np.random.default_rng(0).normal(0, 3000, seconds * 24_000).astype("<i2")
    if pause_at_s is not None:
        samples[pause_at_s * 24_000 : pause_at_s * 24_000 + 2400] = 0
    return samples.tobytes()


def test_short_sound_is_one_stretch() -> None:
    """What can be recognised at once is not divided."""
    assert cut(noise(LONGEST_S)) == [(0, LONGEST_S * SECOND)]
    assert cut(b"") == [(0, 0)]


def test_long_sound_is_cut_where_it_is_quietest() -> None:
    """Every sample is in one stretch, none is too long, and the cut is in a pause."""
    (_, first), (second, end) = cut(noise(40, pause_at_s=23))
    assert first == second
    assert 23 * SECOND <= first <= 23.1 * SECOND
    assert end == 40 * SECOND
    stretches = cut(noise(300))
    assert stretches[0][0] == 0
    assert all(before[1] == after[0] for before, after in zip(stretches, stretches[1:], strict=False))
    assert all(stop - start <= LONGEST_S * SECOND for start, stop in stretches)


def test_cuts_do_not_depend_on_what_follows() -> None:
    """The stretches of a turn so far are those of the whole turn, but for the last."""
    sound = noise(120)
    assert cut(sound[: 90 * SECOND])[:-1] == cut(sound)[: len(cut(sound[: 90 * SECOND])) - 1]


async def test_what_was_guessed_is_not_recognised_again() -> None:
    """A pause that turns out to be the end has been recognised already."""
    listen = Listener()
    hearing = Hearing(listen)
    guess = hearing.guess(noise(5))
    assert hearing.finish(noise(6)) == [guess]
    assert listen.given == [5 * SECOND]


async def test_a_wrong_guess_is_thrown_away() -> None:
    """When speech goes on, the whole is recognised in the end; of a long turn only what is new."""
    listen = Listener()
    hearing = Hearing(listen)
    sound = noise(70)
    hearing.guess(sound[: 60 * SECOND])
    hearing.resume()
    futures = hearing.finish(sound)
    stretches = cut(sound)
    assert [future.result().text for future in futures] == [str(end - start) for start, end in stretches]
    assert len(listen.given) == len(stretches) + 1


async def test_nothing_is_recognised_for_nobody() -> None:
    """A hearing that is given up cancels what is under way."""
    waiting: list[asyncio.Future[HeardTurn]] = []

    def listen(pcm: bytes) -> "asyncio.Future[HeardTurn]":
        waiting.append(asyncio.get_running_loop().create_future())
        return waiting[-1]

    hearing = Hearing(listen)
    hearing.guess(noise(60))
    hearing.cancel()
    assert len(waiting) > 1
    assert all(future.cancelled() for future in waiting)


class Ears:
    """They hear stretches while they are spoken, if they are not busy; and whole ones as ``Listener`` does."""

    def __init__(self) -> None:
        self.listener = Listener()
        self.opened: list[OpenStretch] = []
        self.asked: list[asyncio.Future[HeardTurn]] = []
        self.recorder = Recorder()
        self.is_busy = False

    def begin(self) -> OpenStretch | None:
        if self.is_busy:
            return None
        self.opened.append(OpenStretch())
        return self.opened[-1]

    def hearing(self) -> Hearing:
        told = ToldWords("item_1", self.recorder)
        return Hearing(self.listener, begin=self.begin, ask=self.asked.append, told=told)

    @property
    def deltas(self) -> list[str]:
        return [event["delta"] for event in self.recorder.events]


async def test_sound_is_passed_on_while_it_is_spoken() -> None:
    """At the end of the turn little is left, and nothing is recognised as a whole."""
    ears, sound = Ears(), noise(5)
    hearing = ears.hearing()
    for end in range(SECOND // 50, 4 * SECOND, SECOND // 50):
        hearing.feed(sound[:end])
    [stretch] = ears.opened
    assert sound.startswith(stretch.sound)
    assert len(stretch.sound) > 3.8 * SECOND
    assert stretch.has_ended is False
    assert ears.asked == []
    assert hearing.guess(sound) is stretch
    assert stretch.sound == sound
    assert stretch.has_ended is True
    assert hearing.finish(sound + bytes(SECOND)) == [stretch] == ears.asked
    assert ears.listener.given == []


async def test_words_are_told_before_a_pause_and_not_in_it() -> None:
    """What is said in a pause counts if the turn ends there, and then whoever waits for it is told all."""
    ears, sound = Ears(), noise(5)
    hearing = ears.hearing()
    hearing.feed(sound)
    [stretch] = ears.opened
    stretch.say("What")
    stretch.say(" is")
    hearing.guess(sound)
    stretch.say(" it.")
    assert ears.deltas == ["What", " is"]
    said: list[str] = []
    stretch.follow(said.append)
    assert said == ["What is it."]


async def test_all_is_passed_on_again_when_speech_goes_on() -> None:
    """A pause that was not the end: the stretch from its beginning, in a new recognition."""
    ears, sound = Ears(), noise(5)
    hearing = ears.hearing()
    hearing.feed(sound[:SECOND])
    hearing.guess(sound[: 2 * SECOND])
    hearing.feed(sound[: 3 * SECOND])
    hearing.resume()
    hearing.feed(sound[: 4 * SECOND])
    first, second = ears.opened
    assert first.cancelled()
    assert second.sound == sound[: 4 * SECOND]
    assert hearing.finish(sound) == [second]
    assert second.sound == sound


async def test_a_long_turn_is_divided_while_it_is_spoken() -> None:
    """Its beginning is recognised as a whole, and the rest is passed on; the words of both are told in order."""
    ears, sound = Ears(), noise(40)
    hearing = ears.hearing()
    for end in range(SECOND, 40 * SECOND, SECOND):
        hearing.feed(sound[:end])
    first, second = ears.opened
    [(_, cut_bytes), _] = cut(sound)
    assert first.cancelled()
    assert ears.listener.given == [cut_bytes]
    assert second.sound == sound[cut_bytes : 39 * SECOND]
    second.say(" And")
    assert ears.deltas == [f"{cut_bytes} And"]
    settled, last = hearing.finish(sound)
    assert settled.result().text == str(cut_bytes)
    assert last is second


async def test_busy_ears_hear_the_whole_at_the_end() -> None:
    """And so do those to which more was passed on than the turn has in the end."""
    ears, sound = Ears(), noise(5)
    ears.is_busy = True
    hearing = ears.hearing()
    hearing.feed(sound)
    hearing.finish(sound)
    assert ears.listener.given == [5 * SECOND]
    ears.is_busy = False
    hearing = ears.hearing()
    hearing.feed(sound)
    hearing.finish(sound[: 4 * SECOND])
    assert ears.opened[0].cancelled()
    assert ears.listener.given == [5 * SECOND, 4 * SECOND]


async def test_an_open_stretch_is_given_up_with_its_turn() -> None:
    """Nobody wants it."""
    ears = Ears()
    hearing = ears.hearing()
    hearing.feed(noise(1))
    hearing.cancel()
    assert ears.opened[0].cancelled()
