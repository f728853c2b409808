"""Silence in the place of sound that does not come."""

import pytest

from bridge.media.silence_filler import SilenceFiller

_BYTES_PER_S = 48_000
_PIECE = 960  # 20 ms


def _filler() -> SilenceFiller:
    return SilenceFiller(0.0, bytes_per_s=_BYTES_PER_S)


def test_sound_that_comes_is_left_alone() -> None:
    """Whether it is early, late or in bursts, nothing is put between it."""
    filler, now = _filler(), 0.0
    for number in range(500):
        now = 0.02 * number + (0.15 if number % 7 < 3 else 0.0)
        assert filler.push(_PIECE, now) == b""
        assert filler.poll(now + 0.3) == b""


def test_nothing_at_all_is_silence_second_for_second() -> None:
    """All of the time but the lag in which sound may still come."""
    filler = _filler()
    silence = b"".join(filler.poll(0.1 * number) for number in range(1, 101))
    assert not any(silence)
    assert len(silence) % 2 == 0
    assert len(silence) / _BYTES_PER_S == pytest.approx(10.0 - 0.7, abs=0.01)


def test_the_first_sound_behind_a_silence_comes_at_its_time() -> None:
    """The lag is made up for before it, so that no time is left out."""
    filler = _filler()
    silence = filler.poll(5.0)
    rest = filler.push(_PIECE, 6.0)
    assert (len(silence) + len(rest) + _PIECE) / _BYTES_PER_S == pytest.approx(6.0, abs=0.001)
    assert filler.push(_PIECE, 6.02) == b""


def test_a_pause_that_somebody_else_fills_is_not_filled_twice() -> None:
    """A peer's own silence comes within the lag, in one piece."""
    filler = _filler()
    filler.push(_PIECE, 1.0)
    assert filler.poll(1.6) == b""
    assert filler.push(round(0.6 * _BYTES_PER_S), 1.6) == b""
    assert filler.poll(1.7) == b""
