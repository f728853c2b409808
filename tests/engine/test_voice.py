"""The voice itself: what it says, when it is heard, and what it takes."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hibari import Hibari

from bridge.engine.voice import Voice
from bridge.errors import ConfigError

_SAMPLES_PER_MS = 24


@pytest.fixture(scope="module")
def voice() -> Voice:
    """A voice of this module's own."""
    return Voice(seed=0)


def audible(pcm: bytes) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.flatnonzero(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)) > 300)


@pytest.mark.parametrize("sentence", ["Hello there.", "Thank you very much.", "What time is it?"])
def test_it_is_heard_at_once(voice: Voice, sentence: str) -> None:
    """No breath is taken before a sentence, and a short one behind it."""
    pcm = voice.say(sentence)
    heard = audible(pcm)
    assert heard[0] <= 80 * _SAMPLES_PER_MS
    assert 100 * _SAMPLES_PER_MS <= len(pcm) // 2 - heard[-1] <= 350 * _SAMPLES_PER_MS


def test_the_same_text_is_the_same_to_the_bit(voice: Voice) -> None:
    """With a seed, in this voice and in another one."""
    assert voice.say("The sky is blue.") == voice.say("The sky is blue.") == Voice(seed=0).say("The sky is blue.")
    assert Voice(seed=1).say("The sky is blue.") != voice.say("The sky is blue.")


def test_another_voice_is_a_file(tmp_path: Path) -> None:
    """It is spoken with the accent of the voice that hibari calls so, or as a voice of its own."""
    own = files("hibari") / "assets" / "hibari.onnx"
    british, other = tmp_path / "bf_emma.int8.onnx", tmp_path / "ours.onnx"
    for file in (british, other):
        file.write_bytes(own.read_bytes())
    usual = Voice(seed=0).say("I cannot dance after half past four.")
    emma, ours = Voice(british, seed=0), Voice(other, seed=0)
    assert (emma.name, ours.name) == ("emma", "ours")
    assert ours.say("I cannot dance after half past four.") == usual
    assert emma.say("I cannot dance after half past four.") != usual


@pytest.mark.parametrize("name", ["vad.onnx", "nowhere.onnx"])
def test_a_file_that_is_no_voice_is_refused(tmp_path: Path, name: str) -> None:
    """The message names the setting and the file."""
    (tmp_path / "vad.onnx").write_bytes(b"no model")
    with pytest.raises(ConfigError, match=f"engine_voice: {tmp_path / name} is not a hibari voice"):
        Voice(tmp_path / name)


@pytest.mark.parametrize("text", ["", " ", "🎉"])
def test_nothing_to_say_is_silence(voice: Voice, text: str) -> None:
    """No sound at all, and no error."""
    assert voice.say(text) == b""


@pytest.mark.parametrize("text", ["1" * 200, "4² is 16, ¹ and ½.", "W" * 200, "$" + "9" * 150, "a" * 200])
def test_strange_text_is_said_in_breaths(voice: Voice, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a piece holds, the model gets so much at a time that it needs no more memory than for a sentence."""
    given: list[int] = []
    make = Hibari.from_ids

    def note(hibari: Hibari, ids: list[int], *rest: Any) -> Any:
        given.append(len(ids))
        return make(hibari, ids, *rest)

    monkeypatch.setattr(Hibari, "from_ids", note)
    assert audible(voice.say(text)).size
    assert max(given) <= 252
