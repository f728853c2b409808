"""The benchmark beside NetEq: it runs as people run it, and finds the delay and the words that are known."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.neteq import CASES, delays_ms
from benchmarks.receivers import RATE_HZ
from benchmarks.words import misheard
from tests.machine import scaled
from tests.processes import ran


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop waits for a process is nothing to it."""
    return "asyncio"


def test_a_piece_is_as_late_as_it_came(speech_pcm: bytes) -> None:
    """Sound that comes 90 ms after it was spoken is 90 ms late, also if 60 ms of it are missing; noise is not found."""
    samples = np.frombuffer(speech_pcm, "<i2")
    frame = RATE_HZ // 100
    on_time = [(number / 100 + 0.010 + 0.090, samples[number * frame :][:frame]) for number in range(400)]
    assert np.array(delays_ms(speech_pcm, on_time)) == pytest.approx(90, abs=10)
    cut = on_time[:200] + [(at_s - 0.060, part) for at_s, part in on_time[206:]]
    delays = np.array(delays_ms(speech_pcm, cut))
    assert set(np.round(delays, -1)) <= {20, 30, 40, 90, 100}
    assert min(delays) < 50 < max(delays)
    noise = np.random.default_rng(0).normal(0, 3000, len(samples)).astype(np.int16)
    assert delays_ms(speech_pcm, [(0.0, noise)]) == []


def test_words_that_are_replaced_missing_or_new_are_misheard() -> None:
    """Case and punctuation say nothing."""
    assert misheard("Turn left, please.", "turn LEFT please") == 0
    assert misheard("turn left please", "turn right please now") == 2
    assert misheard("turn left please", "") == 3


@pytest.mark.foreign
@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_quick_run(tmp_path: Path) -> None:
    """One call for each network: both hear most words, the bridge sooner; it writes figures and a picture."""
    file, picture = tmp_path / "neteq.json", tmp_path / "neteq.png"
    options = ["--quick", "--json", str(file), "--png", str(picture)]
    code, out, errors = await ran(sys.executable, "-m", "benchmarks", "neteq", *options, limit_s=scaled(230))
    assert code == 0, errors
    results = json.loads(out)
    assert results == json.loads(file.read_text())
    figures = results["figures"]
    assert [(each["case"], each["receiver"]) for each in figures] == [
        (case.name, receiver) for case in CASES for receiver in ("bridge", "NetEq")
    ]
    assert {each["words"] for each in figures} == {30}
    assert all(each["wrong"] <= 6 for each in figures)
    ours, theirs = figures[:2]
    assert ours["delay_p50_ms"] < theirs["delay_p50_ms"]
    png = picture.read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert min(struct.unpack(">LL", png[16:24])) > 300
