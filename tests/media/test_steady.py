"""Silence in the place of sound that does not come."""

import pytest

from bridge.media.steady import SteadySound

_BYTES_PER_S = 48_000
_PIECE = 960  # 20 ms


def _steady() -> SteadySound:
    return SteadySound(0.0, bytes_per_s=_BYTES_PER_S)


def test_sound_that_comes_is_left_alone() -> None:
    """Whether it is early, late or in bursts, nothing is put between it."""
    steady, now = _steady(), 0.0
    for number in range(500):
        now = 0.02 * number + (0.15 if number % 7 < 3 else 0.0)
        assert steady.push(_PIECE, now) == b""
        assert steady.poll(now + 0.3) == b""


def test_nothing_at_all_is_silence_second_for_second() -> None:
    """All of the time but the lag in which sound may still come."""
    steady = _steady()
    silence = b"".join(steady.poll(0.1 * number) for number in range(1, 101))
    assert not any(silence)
    assert len(silence) % 2 == 0
    assert len(silence) / _BYTES_PER_S == pytest.approx(10.0 - 0.7, abs=0.01)


def test_the_first_sound_behind_a_silence_comes_at_its_time() -> None:
    """The lag is made up for before it, so that no time is left out."""
    steady = _steady()
    silence = steady.poll(5.0)
    rest = steady.push(_PIECE, 6.0)
    assert (len(silence) + len(rest) + _PIECE) / _BYTES_PER_S == pytest.approx(6.0, abs=0.001)
    assert steady.push(_PIECE, 6.02) == b""


def test_a_pause_that_somebody_else_fills_is_not_filled_twice() -> None:
    """A peer's own silence comes within the lag, in one piece."""
    steady = _steady()
    steady.push(_PIECE, 1.0)
    assert steady.poll(1.6) == b""
    assert steady.push(round(0.6 * _BYTES_PER_S), 1.6) == b""
    assert steady.poll(1.7) == b""
