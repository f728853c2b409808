"""Sample rate conversion: quality, alignment, and independence of how the input is cut."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bridge.media.resample import Resampler

PAIRS = [
    (24_000, 16_000),
    (24_000, 8_000),
    (16_000, 24_000),
    (8_000, 24_000),
    (48_000, 24_000),
    (24_000, 48_000),
    (44_100, 24_000),
]
LEVEL = 20_000
pairs = pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)


def tone(frequency_hz: float, rate_hz: int, seconds: float = 0.5) -> NDArray[np.float64]:
    return LEVEL * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def convert(samples: NDArray[np.float64], from_hz: int, to_hz: int) -> NDArray[np.float64]:
    resampler = Resampler(from_hz, to_hz)
    pcm = resampler.push(np.rint(samples).astype("<i2").tobytes()) + resampler.flush()
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def middle(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    return samples[len(samples) // 4 : -len(samples) // 4]


def level_db(samples: NDArray[np.float64]) -> float:
    """Power relative to that of the test tone; the floor is one unit of amplitude."""
    return 10 * math.log10((np.mean(samples**2) + 1e-9) / (LEVEL**2 / 2))


@pairs
def test_passband_is_clean_flat_and_aligned(from_hz: int, to_hz: int) -> None:
    """A tone comes out as the same tone at the same time and level, all else 60 dB below it."""
    nyquist_hz = min(from_hz, to_hz) / 2
    for frequency_hz in np.geomspace(50, 0.8 * nyquist_hz, 40):
        converted = convert(tone(frequency_hz, from_hz), from_hz, to_hz)
        error = converted - tone(frequency_hz, to_hz)
        assert level_db(middle(error)) < -60, frequency_hz


def sweep(rate_hz: int, to_hz: float, seconds: float = 2.0) -> NDArray[np.float64]:
    """A sine whose frequency rises from 50 Hz to ``to_hz``, by the same factor in each second."""
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    growth = math.log(to_hz / 50) / seconds
    return LEVEL * np.sin(2 * np.pi * 50 * np.expm1(growth * at) / growth)


def in_chunks(pcm: bytes, rate_hz: int, chunk_ms: int, *path_hz: int) -> bytes:
    """What becomes of a stream that comes in chunks and goes through one rate after the other."""
    resamplers = [Resampler(*pair) for pair in pairwise((rate_hz, *path_hz))]
    size = 2 * rate_hz * chunk_ms // 1000
    out = []
    for at in range(0, len(pcm), size):
        piece = pcm[at : at + size]
        for resampler in resamplers:
            piece = resampler.push(piece)
        out.append(piece)
    return b"".join(out)


@pytest.mark.parametrize("chunk_ms", [10, 20, 60, 100, 200])
@pytest.mark.parametrize(
    ("path_hz", "limit_db"),
    [
        ((48_000, 24_000), -60),
        ((24_000, 16_000), -60),
        ((16_000, 24_000), -60),
        ((24_000, 16_000, 24_000), -60),
        ((24_000, 8_000), -50),
        ((8_000, 24_000), -50),
        ((24_000, 8_000, 24_000), -50),
        ((8_000, 24_000, 8_000), -50),
        ((16_000, 24_000, 8_000), -50),
    ],
)
def test_a_sweep_has_no_seams(path_hz: tuple[int, ...], limit_db: int, chunk_ms: int) -> None:
    """A rising tone through any path, in chunks of any length, comes out as itself: in no 10 ms is there a click."""
    highest_hz = 0.8 * min(path_hz) / 2
    from_hz, *rest, to_hz = path_hz
    pcm = np.rint(sweep(from_hz, highest_hz)).astype("<i2").tobytes()
    heard = np.frombuffer(in_chunks(pcm, from_hz, chunk_ms, *rest, to_hz), "<i2").astype(np.float64)
    assert len(heard) > 1.98 * to_hz
    error = heard - sweep(to_hz, highest_hz)[: len(heard)]
    window = to_hz // 100
    begin = window  # the sweep begins without having been there before
    for at in range(begin, len(error) - window, window):
        assert level_db(error[at : at + window]) < limit_db, at / to_hz
    assert level_db(error[begin:]) < limit_db - 3


@pytest.mark.parametrize(("from_hz", "to_hz"), [pair for pair in PAIRS if pair[0] > pair[1]])
def test_nothing_folds_back(from_hz: int, to_hz: int) -> None:
    """A tone above what the lower rate can hold is 60 dB down."""
    for frequency_hz in np.linspace(1.15 * to_hz / 2, from_hz / 2, 40):
        assert level_db(middle(convert(tone(frequency_hz, from_hz), from_hz, to_hz))) < -60, frequency_hz


@settings(deadline=None)
@given(
    pair=st.sampled_from(PAIRS),
    samples=st.integers(0, 3000),
    seed=st.integers(0, 99),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
)
def test_cutting_changes_nothing(pair: tuple[int, int], samples: int, seed: int, cuts: list[int]) -> None:
    """However a stream is cut into pushes, the very same bytes come out."""
    pcm = np.random.default_rng(seed).integers(-32768, 32768, samples).astype("<i2").tobytes()
    whole, pieces = Resampler(*pair), Resampler(*pair)
    edges = sorted({0, samples, *(min(cut, samples) for cut in cuts)})
    cut_up = b"".join(pieces.push(pcm[2 * start : 2 * end]) for start, end in pairwise(edges))
    assert cut_up == whole.push(pcm)
    assert pieces.flush() == whole.flush()


@pairs
def test_one_by_one_equals_all_at_once(from_hz: int, to_hz: int) -> None:
    """Sums are exact: matrices of one row and of thousands, which BLAS adds up differently, agree to the last bit."""
    pcm = np.random.default_rng(0).integers(-30_000, 30_000, from_hz // 2).astype("<i2").tobytes()
    whole, single = Resampler(from_hz, to_hz), Resampler(from_hz, to_hz)
    assert b"".join(single.push(pcm[i : i + 2]) for i in range(0, len(pcm), 2)) == whole.push(pcm)


@settings(deadline=None)
@given(pair=st.sampled_from(PAIRS), samples=st.integers(0, 2000))
def test_length(pair: tuple[int, int], samples: int) -> None:
    """The output is as long as the input, to the nearest sample."""
    from_hz, to_hz = pair
    assert len(convert(np.zeros(samples), from_hz, to_hz)) == round(samples * to_hz / from_hz)


@pairs
def test_holds_back_the_lookahead_only(from_hz: int, to_hz: int) -> None:
    """Once pushed, sound comes out but for the look-ahead and less than one cycle of the ratio."""
    resampler = Resampler(from_hz, to_hz)
    cycle_ms = 1000 / math.gcd(from_hz, to_hz)
    pushed_ms = converted_ms = 0.0
    for _ in range(50):
        pushed_ms += 20
        converted_ms += len(resampler.push(bytes(2 * from_hz // 50))) / 2 / to_hz * 1000
        assert 0 <= pushed_ms - converted_ms <= resampler.lookahead_ms + cycle_ms
    assert 0 < resampler.lookahead_ms <= 1.5


@pairs
def test_full_scale_clips(from_hz: int, to_hz: int) -> None:
    """The overshoot of a full-scale square wave stays at the limit and does not wrap."""
    square = np.tile(np.repeat([32767.0, -32768.0], from_hz // 100), 20)
    converted = convert(square, from_hz, to_hz).reshape(-1, to_hz // 100)
    edge = math.ceil(to_hz / from_hz)
    assert (converted[::2, edge:-edge] > 20_000).all()
    assert (converted[1::2, edge:-edge] < -20_000).all()
    assert converted.max() == 32767
    assert converted.min() == -32768


@pairs
@pytest.mark.parametrize("level", [1, -1, 100, 32767, -32768])
def test_rounds_to_nearest(from_hz: int, to_hz: int, level: int) -> None:
    """A constant stays exactly what it was, the smallest one too."""
    assert (middle(convert(np.full(2000, float(level)), from_hz, to_hz)) == level).all()


@pairs
def test_flush_starts_afresh(from_hz: int, to_hz: int) -> None:
    """After a flush nothing of the former stream is heard, and there is nothing more to flush."""
    loud = tone(440, from_hz, 0.1)
    reused = Resampler(from_hz, to_hz)
    first = reused.push(loud.astype("<i2").tobytes()) + reused.flush()
    assert reused.flush() == b""
    assert reused.push(loud.astype("<i2").tobytes()) + reused.flush() == first


def test_same_rate_passes_through() -> None:
    """Without a change of rate the bytes are handed on at once."""
    resampler = Resampler(24_000, 24_000)
    assert resampler.push(b"\x01\x02\x03\x04") == b"\x01\x02\x03\x04"
    assert resampler.flush() == b""
    assert resampler.lookahead_ms == 0


def test_half_a_sample_is_refused() -> None:
    """An odd number of bytes raises and leaves the stream as it was."""
    resampler, untouched = Resampler(24_000, 8_000), Resampler(24_000, 8_000)
    with pytest.raises(ValueError, match="multiple"):
        resampler.push(b"\0\0\0")
    noise = np.random.default_rng(0).integers(-9000, 9000, 500).astype("<i2").tobytes()
    assert resampler.push(noise) == untouched.push(noise)
