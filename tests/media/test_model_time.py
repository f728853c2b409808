"""Model time: what a Live model hears lasts as long as the time that passes, whatever comes of the caller."""

import pytest

from bridge.media.model_time import ModelTime
from bridge.wire.audio import G711_ULAW, PCM16

_MS = 48
_LOUD = b"\x00\x40"  # of one sample


def _ms(sound: bytes) -> float:
    return len(sound) / _MS


def test_what_comes_in_time_goes_on_at_once() -> None:
    """Nothing is held back, put in or left out."""
    time = ModelTime(PCM16, 10.0)
    sent = b""
    for number in range(100):
        piece = bytes([number]) * 20 * _MS
        now = 10.0 + 0.02 * number
        assert time.push(piece, now) == piece
        assert time.due(now + 0.01) == b""
        sent += piece
    assert (_ms(sent), time.silence_ms, time.dropped_ms) == (2000, 0, 0)


def test_silence_stands_for_what_does_not_come() -> None:
    """It begins when nothing has come for 0.3 s, and keeps just behind real time, for as long as that lasts."""
    time = ModelTime(PCM16, 0.0)
    assert time.due(0.25) == b""
    sent = sum(_ms(time.due(0.04 * tick)) for tick in range(8, 251))
    assert 10_000 - 120 <= sent <= 10_000
    assert time.silence_ms == sent


def test_g711_has_a_silence_of_its_own() -> None:
    """Zeros would be a click."""
    assert set(ModelTime(G711_ULAW, 0.0).due(1.0)) == {0xFF}


def test_sound_that_comes_at_once_is_heard_in_real_time() -> None:
    """A minute may wait; the oldest of more is left out, and counted."""
    time = ModelTime(PCM16, 0.0)
    sent = _ms(time.push(_LOUD * 24 * 15_000, 0.0))
    assert sent == pytest.approx(200, abs=1)
    for tick in range(1, 100):
        sent += _ms(time.due(0.1 * tick))
    assert sent == pytest.approx(9900 + 200, abs=1)
    time.push(_LOUD * 24 * 70_000, 10.0)  # 4.9 s wait already
    assert time.dropped_ms == pytest.approx(14_900, abs=1)


def test_silence_that_late_sound_proves_wrong_is_made_up_for() -> None:
    """A network held half a second back: the pause behind the speech is shorter by what silence was too much."""
    time = ModelTime(PCM16, 0.0)
    sent = 0.0
    for number in range(25):
        sent += _ms(time.push(_LOUD * 24 * 20, 0.02 * number))
    for tick in range(12, 25):  # 0.5 s to 1 s: nothing comes
        sent += _ms(time.due(0.04 * tick + 0.02))
    assert time.silence_ms > 300
    sent += _ms(time.push(_LOUD * 24 * 500, 1.0))  # all that was held back
    for number in range(50, 150):  # then a pause
        sent += _ms(time.push(bytes(20 * _MS), 0.02 * number))
        sent += _ms(time.due(0.02 * number + 0.01))
    assert sent <= 3000 + 200  # no later than real time, and what may be early
    assert sent >= 3000 - 120


def test_sound_that_waits_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller who sends a minute at once behind a gap costs no more than one look at each frame of it."""
    looked = 0

    def is_loud(frame: bytes) -> bool:
        nonlocal looked
        looked += 1
        return True

    monkeypatch.setattr("bridge.media.model_time.is_audible", is_loud)
    time = ModelTime(PCM16, 0.0)
    time.due(1.0)  # silence, which sound that comes now proves wrong
    time.push(_LOUD * (24 * 60_000), 1.0)
    most = 0
    for tick in range(1, 101):
        before = looked
        time.due(1.0 + 0.04 * tick)
        most = max(most, looked - before)
    assert 0 < looked <= 3000
    assert most <= 500
