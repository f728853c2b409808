"""The numpy forward pass against Silero's own."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.engine.vad import WINDOW_SAMPLES, SileroVad
from bridge.media.resample import Resampler

DATA = Path(__file__).parents[1] / "data"


def read_windows() -> NDArray[np.float32]:
    """The test speech as (windows, 512) at 16 kHz."""
    with wave.open(str(DATA / "speech.wav")) as file:
        resampler = Resampler(file.getframerate(), 16_000)
        pcm = resampler.push(file.readframes(file.getnframes())) + resampler.flush()
    samples = np.frombuffer(pcm, "<i2") * np.float32(1 / 32768)
    return samples[: len(samples) // WINDOW_SAMPLES * WINDOW_SAMPLES].reshape(-1, WINDOW_SAMPLES)


def listen(vad: SileroVad, windows: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array([vad.step(window) for window in windows])


def test_equals_the_original() -> None:
    """Every window of speech has the probability that the ONNX model gives, but for the weights' rounding."""
    reference = np.array(json.loads((DATA / "silero_reference.json").read_text()))
    difference = np.abs(listen(SileroVad(), read_windows()) - reference)
    assert len(reference) > 100
    assert np.sort(difference)[-3] < 2e-3
    assert difference.max() < 2e-2


def test_reset_forgets() -> None:
    """After a reset the same windows have the same probabilities again, and without it they have not."""
    vad = SileroVad()
    windows = read_windows()[10:40]
    first = listen(vad, windows)
    assert not np.array_equal(listen(vad, windows), first)
    vad.reset()
    assert np.array_equal(listen(vad, windows), first)


def test_streams_are_apart() -> None:
    """Two detectors fed in turns hear only their own stream."""
    windows = read_windows()[:40]
    apart = listen(SileroVad(), windows)
    vad, other = SileroVad(), SileroVad()
    rng = np.random.default_rng(0)
    mixed = []
    for window in windows:
        mixed.append(vad.step(window))
        other.step(rng.uniform(-1, 1, WINDOW_SAMPLES).astype(np.float32))
    assert np.array_equal(mixed, apart)


@pytest.mark.parametrize("level", [0.0, 0.01, 1.0])
def test_noise_is_not_speech(level: float) -> None:
    """Neither silence nor white noise, faint or at full scale, is taken for speech."""
    windows = np.random.default_rng(1).uniform(-level, level, (60, WINDOW_SAMPLES)).astype(np.float32)
    assert listen(SileroVad(), windows).max() < 0.35


def test_keeps_no_view_of_the_window() -> None:
    """A caller may fill the same array again and again."""
    windows = read_windows()[:40]
    vad = SileroVad()
    reused = np.empty(WINDOW_SAMPLES, np.float32)
    probabilities = []
    for window in windows:
        reused[:] = window
        probabilities.append(vad.step(reused))
        reused[:] = 1.0
    assert np.array_equal(probabilities, listen(SileroVad(), windows))


def test_wrong_length_is_refused() -> None:
    """A window of another length raises instead of being judged wrongly."""
    with pytest.raises(ValueError, match="512"):
        SileroVad().step(np.zeros(480, np.float32))
