"""How late a telephone caller's sound came: counted from the times of its messages alone."""

import pytest

from bridge.telephony.lateness import InputLateness
from bridge.wire.audio import G711_ULAW

_FRAME = G711_ULAW.size_of(20)


def _late_ms(arrivals_s: list[float], size: int = _FRAME) -> int:
    lateness = InputLateness(G711_ULAW)
    for now in arrivals_s:
        lateness.add(size, now)
    return lateness.late_ms


def test_sound_at_its_usual_pace_is_not_late() -> None:
    """Also if each message comes up to a frame too early or too late."""
    assert _late_ms([0.02 * number + 0.01 * (number % 3) for number in range(500)]) == 0


def test_a_burst_after_a_pause_is_late() -> None:
    """Half a second stands still, and then comes at once: what was spoken in it is late."""
    steady = [0.02 * number for number in range(50)]
    burst = [1.48] * 25
    after = [1.5 + 0.02 * number for number in range(50)]
    assert _late_ms([*steady, *burst, *after]) == pytest.approx(480, abs=20)
    twice = [*steady, *burst, *after, *([2.98] * 25), *[3.0 + 0.02 * number for number in range(50)]]
    assert _late_ms(twice) == pytest.approx(960, abs=40)


def test_a_pause_of_a_carrier_that_sends_no_silence_is_not_late() -> None:
    """Behind it sound goes on at its usual pace, so nothing was held up."""
    assert _late_ms([*(0.02 * number for number in range(50)), *(5.0 + 0.02 * number for number in range(50))]) == 0


def test_large_messages_are_not_late() -> None:
    """A carrier that sends 200 ms at a time makes no pauses."""
    assert _late_ms([0.2 * number for number in range(50)], G711_ULAW.size_of(200)) == 0


def test_no_more_is_late_than_was_held_up() -> None:
    """Who sends faster than real time after a pause has sent something else than what was spoken in it."""
    assert _late_ms([0.0, 0.02, 0.32, *[0.33] * 200]) <= 300
