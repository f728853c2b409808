"""The recognition of one turn, with a listener that says what it was given."""

import asyncio

import numpy as np

from bridge.engine.hearing import LONGEST_S, HeardTurn, Hearing, cut

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
