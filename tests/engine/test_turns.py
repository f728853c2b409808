"""The edges of turns in real speech, clean and with noise."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.engine.turns import Edge, SpeechPaused, SpeechResumed, SpeechStarted, SpeechStopped, TurnDetector

BYTES_PER_MS = 48
SPEECH_START_MS = 300  # of speech.wav, which ends in 200 ms of silence

DATA = Path(__file__).parents[1] / "data"

Edges = list[Edge]


def read_speech() -> bytes:
    with wave.open(str(DATA / "speech.wav")) as file:
        pcm: bytes = file.readframes(file.getnframes())
    return pcm


SPEECH = read_speech()
SPEECH_END_MS = len(SPEECH) // BYTES_PER_MS - 200


def silence(duration_ms: int) -> bytes:
    return bytes(duration_ms * BYTES_PER_MS)


def with_noise(pcm: bytes, snr_db: float) -> bytes:
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    speech = np.frombuffer(SPEECH, "<i2").astype(np.float64)
    noise = np.random.default_rng(0).standard_normal(len(samples)) * speech.std() * 10 ** (-snr_db / 20)
    noisy: bytes = np.clip(np.rint(samples + noise), -32768, 32767).astype("<i2").tobytes()
    return noisy


def edge_times(edges: Edges) -> list[int]:
    """Their times, after checking that starts and stops alternate."""
    times = []
    for i, edge in enumerate(edges):
        assert isinstance(edge, (SpeechStarted, SpeechStopped)[i % 2])
        times.append(edge.audio_start_ms if isinstance(edge, SpeechStarted) else edge.audio_end_ms)
    return times


@pytest.mark.parametrize("snr_db", [100, 20, 10])
def test_one_sentence_is_one_turn(snr_db: float) -> None:
    """Speech makes one turn: from its padded start to where the silence was long enough."""
    start_ms, end_ms = edge_times(TurnDetector().push(with_noise(silence(1000) + SPEECH + silence(1000), snr_db)))
    speech_start_ms, speech_end_ms = 1000 + SPEECH_START_MS, 1000 + SPEECH_END_MS
    assert speech_start_ms - 300 - 32 <= start_ms <= speech_start_ms - 300 + 130
    assert speech_end_ms + 400 <= end_ms <= speech_end_ms + 660


def test_noise_alone_is_no_turn() -> None:
    """Silence, hiss and clicks open no turn."""
    clicks = np.zeros(5 * 24_000, "<i2")
    clicks[::12_000] = 20_000
    detector = TurnDetector()
    assert detector.push(with_noise(silence(5000), 0) + clicks.tobytes() + silence(1000)) == []
    assert not detector.is_speaking


@given(cuts=st.lists(st.integers(0, len(SPEECH) // 2), max_size=30))
@settings(max_examples=10, deadline=None)
def test_cutting_changes_nothing(cuts: list[int]) -> None:
    """The same edges are found however the stream is cut, empty pushes included."""
    detector = TurnDetector()
    positions = [0, *sorted(cuts), len(SPEECH) // 2]
    edges: Edges = []
    for start, end in zip(positions, positions[1:], strict=False):
        edges += detector.push(SPEECH[2 * start : 2 * end])
    edges += detector.push(silence(1000))
    assert edges == TurnDetector().push(SPEECH + silence(1000))
    assert len(edges) == 2


def test_edges_are_told_when_they_happen() -> None:
    """Pushed in 20 ms frames, a stop names the time of the window just judged, and ``is_speaking`` follows."""
    detector = TurnDetector()
    pcm = SPEECH + silence(1000)
    told: list[tuple[int, bool]] = []
    for start in range(0, len(pcm), 20 * BYTES_PER_MS):
        for edge in detector.push(pcm[start : start + 20 * BYTES_PER_MS]):
            told.append((start // BYTES_PER_MS + 20, isinstance(edge, SpeechStarted)))
            assert detector.is_speaking == isinstance(edge, SpeechStarted)
            if isinstance(edge, SpeechStopped):
                assert 0 <= told[-1][0] - edge.audio_end_ms <= 21
    assert [is_start for _, is_start in told] == [True, False]


def test_padding_reaches_neither_below_zero_nor_into_the_turn_before() -> None:
    """A long padding is cut off at the first sample and at the previous stop."""
    detector = TurnDetector(prefix_padding_ms=5000)
    times = edge_times(detector.push((SPEECH + silence(500)) * 2))
    assert times[0] == 0
    assert times[2] == times[1]


def test_padding_is_what_was_asked() -> None:
    """Without padding the turn starts that much later."""
    padded, bare = (edge_times(TurnDetector(prefix_padding_ms=ms).push(silence(500) + SPEECH)) for ms in (300, 0))
    assert bare[0] - padded[0] == 300


def test_silence_duration() -> None:
    """A shorter silence ends the turn that much sooner; a longer one keeps two sentences in one turn."""
    short, usual = (
        edge_times(TurnDetector(silence_duration_ms=ms).push(SPEECH + silence(1000)))[1] for ms in (320, 500)
    )
    assert usual - short == 192
    assert len(TurnDetector(silence_duration_ms=1500).push(SPEECH * 2 + silence(2000))) == 2
    assert len(TurnDetector(silence_duration_ms=400).push(SPEECH * 2 + silence(2000))) == 4


def test_hysteresis() -> None:
    """A turn goes on through windows less likely than its threshold, until one is 0.15 less likely."""
    probabilities = json.loads((DATA / "silero_reference.json").read_text())
    first = next(i for i, probability in enumerate(probabilities) if probability >= 0.5)
    doubtful = next(i for i, probability in enumerate(probabilities) if i > first and probability < 0.5)
    last = next(i for i, probability in enumerate(probabilities) if i > first and probability < 0.35)
    assert first < doubtful < last
    times = edge_times(TurnDetector(prefix_padding_ms=0, silence_duration_ms=1).push(SPEECH))
    assert times[:2] == [32 * first, 32 * (last + 1)]


def test_threshold() -> None:
    """A threshold that no probability reaches hears nothing; the lowest one still lets a turn end."""
    assert TurnDetector(threshold=1.01).push(SPEECH) == []
    assert len(TurnDetector(threshold=0.1).push(SPEECH + silence(2000))) == 2


def test_configure_in_mid_turn() -> None:
    """New settings hold from the next window on and leave an open turn open."""
    half = len(SPEECH) // 4 * 2
    detector = TurnDetector(silence_duration_ms=5000)
    detector.push(SPEECH[:half])
    detector.configure(threshold=0.5, prefix_padding_ms=300, silence_duration_ms=500)
    assert detector.is_speaking
    [stopped] = detector.push(SPEECH[half:] + silence(1000))
    assert stopped == TurnDetector().push(SPEECH + silence(1000))[1]


def test_reset_in_mid_turn() -> None:
    """A reset closes the turn without a word; if speech goes on, a new turn starts no earlier, on the same clock."""
    detector = TurnDetector()
    half_ms = 2000
    assert len(detector.push(SPEECH[: half_ms * BYTES_PER_MS])) == 1
    detector.reset()
    assert not detector.is_speaking
    start_ms, end_ms = edge_times(detector.push(SPEECH[half_ms * BYTES_PER_MS :] + silence(1000)))
    assert half_ms <= start_ms < half_ms + 200
    assert end_ms == edge_times(TurnDetector().push(SPEECH + silence(1000)))[1]


def test_reset_in_the_silence_of_a_turn() -> None:
    """Silence counted before a reset does not shorten the next turn."""
    spoken = SPEECH + silence(100)
    spoken += silence(32 - len(spoken) // BYTES_PER_MS % 32)
    detector = TurnDetector()
    detector.push(spoken)
    assert detector.is_speaking
    detector.reset()
    assert len(detector.push(SPEECH + silence(1000))) == 2


def paused_detector(lead: bytes) -> tuple[TurnDetector, Edges]:
    detector = TurnDetector(silence_duration_ms=2000, pause_ms=192)
    return detector, detector.push(lead)


def test_pauses_are_told_where_they_are_asked_for() -> None:
    """A short silence is a pause; speech after it resumes the turn, and a long silence ends it."""
    _, edges = paused_detector(SPEECH + silence(400) + SPEECH + silence(2500))
    kinds = [type(edge) for edge in edges]
    assert kinds[0] is SpeechStarted
    assert kinds[-2:] == [SpeechPaused, SpeechStopped]
    inner = kinds[1:-2]
    assert inner == [SpeechPaused, SpeechResumed] * (len(inner) // 2) != []


def test_a_pause_may_be_long_enough() -> None:
    """The detector can be told, in a pause, that it is to end the turn; it does so at once if it has lasted so long."""
    detector, edges = paused_detector(SPEECH + silence(500))
    assert isinstance(edges[-1], SpeechPaused)
    assert detector.end_after(5000) is None
    assert detector.is_speaking
    assert isinstance(detector.end_after(300), SpeechStopped)
    assert not detector.is_speaking
    assert detector.end_after(300) is None


def test_what_is_said_of_one_pause_holds_for_it_alone() -> None:
    """After speech has gone on, the silence has to be as long as configured again."""
    detector, _ = paused_detector(SPEECH + silence(100))
    assert detector.end_after(1000) is None
    edges = detector.push(SPEECH + silence(1200))
    assert SpeechStopped not in [type(edge) for edge in edges]
    assert [type(edge) for edge in detector.push(silence(1000))] == [SpeechStopped]
