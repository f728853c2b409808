"""The loss benchmark as people run it, and what it promises."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks import loss
from benchmarks.kit.network import hold_back, losses
from benchmarks.receivers import BridgeReceiver, Piece


def test_the_benchmark_runs_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quick run prints a line for each network and receiver, writes the same as JSON, and draws a picture."""
    figures, picture = tmp_path / "loss.json", tmp_path / "loss.png"
    monkeypatch.setattr(
        "sys.argv", ["loss", "--quick", "--seconds", "3", "--json", str(figures), "--png", str(picture)]
    )
    loss.main()
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == json.loads(figures.read_text())
    assert len(printed) == 2 * len(loss.cases(is_quick=True))
    png = picture.read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert min(struct.unpack(">LL", png[16:24])) > 400


def test_ten_percent_of_loss_cost_no_time_and_little_quality() -> None:
    """At 10 % random loss all of the time that was sent comes out, soon and well to hear; of aiortc's it does not."""
    ours, theirs = loss.measure(loss.Case(10), seconds=8, seeds=2)
    assert (ours.receiver, theirs.receiver) == ("bridge", "aiortc")
    assert ours.delivered_percent >= 99.9
    assert ours.longest_gap_ms == 0
    assert ours.delay_p99_ms < 150
    assert ours.stoi > 0.9
    assert ours.stoi > theirs.stoi + 0.2


def test_without_loss_both_hear_the_same() -> None:
    """On a good network the two differ in nothing but delay: packets and scores are the same for both."""
    ours, theirs = loss.measure(loss.Case(), seconds=4, seeds=1)
    assert (ours.delivered_percent, theirs.delivered_percent) == (100, 100)
    assert ours.stoi == pytest.approx(theirs.stoi, abs=0.01)
    assert ours.delay_p99_ms < theirs.delay_p99_ms


@pytest.mark.parametrize("is_bursty", [False, True])
def test_the_network_loses_as_much_as_it_says(is_bursty: bool) -> None:
    """Loss is on average what the case says; in bursts three packets go at a time."""
    lost = losses(10, 100_000, np.random.default_rng(0), is_bursty=is_bursty)
    assert lost.mean() == pytest.approx(0.1, abs=0.01)
    bursts = np.count_nonzero(np.diff(lost.astype(int)) == 1)
    assert lost.sum() / bursts == pytest.approx(3 if is_bursty else 1.11, abs=0.1)


def test_half_a_second_is_held_back_and_comes_at_once() -> None:
    """No packet overtakes another, none is early, and those that wait do so until the same moment, 0.5 s at most."""
    sent = np.arange(3000.0) * 0.020
    late = hold_back(sent, np.random.default_rng(0)) - sent
    assert late.min() == 0
    assert late.max() == pytest.approx(0.5, abs=0.021)
    assert np.all(np.diff(sent + late) >= 0)
    assert np.mean(late > 0) == pytest.approx(0.25, abs=0.08)  # 0.5 s of each 2 s


def test_receivers_are_asked_as_often_as_the_daemon_asks_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 20 ms, both at the same times; a seed is a place in the clock's round."""
    polls: dict[int, list[float]] = {}

    class Asked(BridgeReceiver):
        def poll(self, now: float) -> list[Piece]:
            polls.setdefault(id(self), []).append(now)
            kept.append(self)
            return super().poll(now)

    kept: list[Asked] = []
    monkeypatch.setattr(loss, "_RECEIVERS", (Asked, Asked))
    loss.measure(loss.Case(2), seconds=2, seeds=2)
    first, same, second, _ = polls.values()
    assert first == same
    assert np.diff(first) == pytest.approx(0.020)
    assert 0 <= first[0] < 0.020
    assert 0.001 < abs(second[0] - first[0])
