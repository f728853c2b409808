"""The benchmark of words: what it says of a receiver that is known to be good."""

from benchmarks.words import CASES, SENTENCES, Measurement


def test_holding_back_costs_no_words() -> None:
    """Two sentences come over a line that holds packets back with hardly more words wrong than over a perfect one."""
    measurement = Measurement(SENTENCES[3:5])
    perfect, held = (measurement.measure(case, seeds=1) for case in CASES[:2])
    assert perfect.words == held.words > 25
    assert perfect.wrong <= 2
    assert held.wrong <= perfect.wrong + 2
    assert perfect.longer_ms == 0
