"""Where speech begins and ends, as far as loudness tells."""

import numpy as np
import pytest

from bridge.media.loudness import SpeechByLoudness, is_audible

_MS = 48


def _noise(ms: int, rms: float, seed: int = 1) -> bytes:
    samples = np.random.default_rng(seed).normal(0.0, rms, 24 * ms)
    return samples.clip(-32768, 32767).astype("<i2").tobytes()


def _edges(finder: SpeechByLoudness, pcm: bytes, piece: int) -> list[tuple[bool, int]]:
    return [
        (edge.is_start, edge.at_ms) for at in range(0, len(pcm), piece) for edge in finder.push(pcm[at : at + piece])
    ]


@pytest.mark.parametrize("piece", [2, 20 * _MS, 33 * _MS, 10_000 * _MS])
def test_a_turn_is_found_however_the_sound_is_cut(piece: int) -> None:
    """One beginning and one end, each within 100 ms, at the same place for every size of a piece."""
    pcm = bytes(1000 * _MS) + _noise(2000, 3000.0) + bytes(1500 * _MS)
    (began, start_ms), (ended, end_ms) = _edges(SpeechByLoudness(24_000), pcm, piece)
    assert (began, ended) == (True, False)
    assert abs(start_ms - 1000) <= 100
    assert abs(end_ms - 3000) <= 40


def test_a_noisy_line_is_no_speech_and_speech_over_it_is() -> None:
    """The line's own noise is learned; what is 10 dB louder is speech."""
    finder = SpeechByLoudness(24_000)
    assert _edges(finder, _noise(3000, 200.0), 20 * _MS) == []
    assert [is_start for is_start, _ in _edges(finder, _noise(1000, 4000.0) + _noise(1500, 200.0), 20 * _MS)] == [
        True,
        False,
    ]


def test_a_click_and_a_short_pause_are_neither() -> None:
    """40 ms of noise begin nothing, and 300 ms of silence end nothing."""
    finder = SpeechByLoudness(24_000)
    pcm = bytes(500 * _MS) + _noise(40, 8000.0) + bytes(500 * _MS)
    assert _edges(finder, pcm, 20 * _MS) == []
    pcm = _noise(500, 3000.0) + bytes(300 * _MS) + _noise(500, 3000.0)
    assert [is_start for is_start, _ in _edges(finder, pcm, 20 * _MS)] == [True]


def test_what_is_audible() -> None:
    """A decoder's silence is not, nor is nothing at all."""
    assert not is_audible(b"")
    assert not is_audible(_noise(20, 20.0))
    assert is_audible(_noise(20, 500.0))
