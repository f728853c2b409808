"""What the likeness of played sound tells apart, whatever a busy machine has done to it."""

import numpy as np

from tests.end_to_end.sound import PLAYED_LIKENESS, Samples, samples_of, stretched_likeness

_MS = 24
_WORDS_MS = 2200


def _words(speech_pcm: bytes, start_ms: int) -> Samples:
    return samples_of(speech_pcm)[start_ms * _MS : (start_ms + _WORDS_MS) * _MS]


def test_words_that_were_played_with_gaps_and_stretches(speech_pcm: bytes) -> None:
    """Silence of 60 ms in each 500 ms, and every second piece 40 ms later than the one before: the words are there."""
    words = _words(speech_pcm, 0)
    pieces: list[Samples] = [np.zeros(300 * _MS)]
    for number, at in enumerate(range(0, len(words), 500 * _MS)):
        piece = words[at : at + 500 * _MS].copy()
        piece[200 * _MS : 260 * _MS] = 0
        pieces += [piece, np.zeros(40 * _MS * (number % 2))]
    assert stretched_likeness(np.concatenate(pieces), words) > PLAYED_LIKENESS + 0.2


def test_noise_in_the_pauses_leads_nobody_astray(speech_pcm: bytes) -> None:
    """Where the words pause there is noise, which lies as well anywhere: what follows is found all the same."""
    words = _words(speech_pcm, 0)
    noise = np.random.default_rng(1).normal(0, 20, 3000 * _MS)
    source = np.concatenate([noise[: 900 * _MS], words, noise[900 * _MS :]])
    assert stretched_likeness(words, source) > 0.9


def test_other_words_of_the_speaker(speech_pcm: bytes) -> None:
    """They are not taken for these, nor are these when they are played backwards."""
    words = _words(speech_pcm, 0)
    length_ms = len(samples_of(speech_pcm)) // _MS
    for other in (_words(speech_pcm, length_ms - _WORDS_MS), words[::-1]):
        assert stretched_likeness(other, words) < PLAYED_LIKENESS - 0.1
