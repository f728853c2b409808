"""The schedule of clocks: absolute, catching up after a short delay, leaving a gap after a long one."""

import pytest

from bridge.media.pacer import Pacer


@pytest.mark.parametrize("slots", [1, 10])
def test_steps_are_due_at_absolute_times(slots: int) -> None:
    """However late each step begins, the next is due where it would have been: no delay adds up."""
    pacer = Pacer(slots=slots)
    due = [pacer.start(100.0)]
    for late_s in (0.0, 0.001, 0.007, 0.0) * 50:
        assert pacer.begin(due[-1] + late_s) == 0
        due.append(pacer.end())
    assert due == pytest.approx([100.0 + 0.020 / slots * number for number in range(1, 202)])
    assert pacer.late_ticks == 0


@pytest.mark.parametrize("slots", [1, 10])
def test_a_short_delay_is_made_up_for(slots: int) -> None:
    """After up to 5 ticks every step is still made, at once."""
    pacer = Pacer(slots=slots)
    now = pacer.start(0.0) + 0.119
    made = 0
    while pacer.due <= now:
        assert pacer.begin(now) == 0
        pacer.end()
        made += 1
    assert made == 6 * slots


@pytest.mark.parametrize("slots", [1, 10])
def test_a_long_delay_is_a_gap(slots: int) -> None:
    """Whole ticks are left out and counted, so that the schedule keeps its place and the slots their order."""
    pacer = Pacer(slots=slots)
    first = pacer.start(0.0)
    assert pacer.begin(first + 1.001) == 50
    assert pacer.end() == pytest.approx(first + 1.0 + 0.020 / slots)
    assert pacer.begin(pacer.due) == 0
    assert pacer.late_ticks == 50
