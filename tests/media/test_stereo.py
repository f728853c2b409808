"""Two sides of a call on one timeline: where sound lies is where it was heard."""

import numpy as np

from bridge.media.stereo import StereoTimeline

RATE_HZ = 1000  # a sample is a millisecond


def tone(value: int, length_ms: int) -> bytes:
    return np.full(length_ms, value, "<i2").tobytes()


class Tape:
    """A timeline, and all that came out of it."""

    def __init__(self) -> None:
        self.timeline = StereoTimeline(RATE_HZ)
        self.sides = [b"", b""]

    def take(self, now: float) -> None:
        self._add(self.timeline.take_final(now))

    def finish(self, now: float) -> list[list[tuple[int, int]]]:
        """Both sides as runs: a value, and how long it is there."""
        for pieces in self.timeline.finish(now):
            self._add(pieces)
        assert len(self.sides[0]) == len(self.sides[1])
        return [_runs(side) for side in self.sides]

    def _add(self, pieces: tuple[bytes, bytes]) -> None:
        self.sides = [side + piece for side, piece in zip(self.sides, pieces, strict=True)]


def _runs(pcm: bytes) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for value in np.frombuffer(pcm, "<i2").tolist():
        if runs and runs[-1][0] == value:
            runs[-1] = value, runs[-1][1] + 1
        else:
            runs.append((value, 1))
    return runs


def speak_for(tape: Tape, seconds: float, *, start: float = 0.0, timestamp: int = 0) -> None:
    """The caller's frames of 20 ms, each there when it has been spoken."""
    for number in range(round(seconds * 50)):
        tape.timeline.add_caller_sound(tone(1, 20), timestamp + 20 * number, start + 0.020 * (number + 1))


def test_the_caller_lies_where_it_spoke() -> None:
    """From its first sound on, without a gap, however the frames come."""
    tape = Tape()
    tape.timeline.add_caller_sound(tone(1, 20), 0, 0.520)
    tape.timeline.add_caller_sound(tone(2, 20), 20, 0.700)  # late in the network, not later spoken
    tape.timeline.add_caller_sound(tone(3, 20), 40, 0.701)
    assert tape.finish(1.0)[0] == [(0, 500), (1, 20), (2, 20), (3, 20)]


def test_a_silent_microphone_leaves_a_gap() -> None:
    """When nothing came for a while, what comes then lies where the clock is."""
    tape = Tape()
    speak_for(tape, 0.1)
    tape.timeline.add_caller_sound(tone(2, 20), 100, 2.020)
    assert tape.finish(3.0)[0] == [(1, 100), (0, 1900), (2, 20)]


def test_lost_sound_is_silence() -> None:
    """Where the recorder itself missed something, all that follows stays in its place, on both sides."""
    tape = Tape()
    tape.timeline.add_caller_sound(tone(1, 20), 0, 0.020)
    tape.timeline.add_caller_sound(tone(2, 20), 60, 0.080)
    tape.timeline.add_answer_sound(tone(3, 100), 0, 0.1)
    tape.timeline.add_answer_sound(tone(4, 100), 150, 0.1)
    left, right = tape.finish(1.0)
    assert left[:3] == [(1, 20), (0, 40), (2, 20)]
    assert right == [(0, 100), (3, 100), (0, 50), (4, 100)]


def test_an_answer_lies_where_it_is_played() -> None:
    """It comes all at once, and follows itself; the next one waits until it is over, or begins at once."""
    tape = Tape()
    for number in range(5):
        tape.timeline.add_answer_sound(tone(1, 200), 200 * number, 1.0)
    tape.timeline.add_answer_sound(tone(2, 100), 1000, 1.5)
    tape.timeline.add_answer_sound(tone(3, 100), 1100, 3.0)
    assert tape.finish(4.0)[1] == [(0, 1000), (1, 1000), (2, 100), (0, 900), (3, 100)]


def test_an_answer_that_is_cut_ends_there() -> None:
    """At an interruption and at the end of the call nothing stays of what was not heard."""
    tape = Tape()
    tape.timeline.add_answer_sound(tone(1, 2000), 0, 0.5)
    tape.timeline.cut(1.25)
    tape.timeline.add_answer_sound(tone(2, 2000), 2000, 2.0)
    assert tape.finish(2.5)[1] == [(0, 500), (1, 750), (0, 750), (2, 500)]


def test_both_sides_are_aligned() -> None:
    """The same moment is the same sample on either side, and it makes no difference when it was taken."""
    tapes = Tape(), Tape()
    for number in range(500):
        now = 0.020 * (number + 1)
        for tape in tapes:
            tape.timeline.add_caller_sound(tone(1 + number % 7, 20), 20 * number, now)
            if number == 99:
                tape.timeline.add_answer_sound(tone(9, 3000), 0, now)
            if number == 199:
                tape.timeline.cut(now)
        if number % 13 == 0:
            tapes[0].take(now)
    taken, whole = (tape.finish(10.0) for tape in tapes)
    assert taken == whole
    assert whole[1] == [(0, 2000), (9, 2000), (0, 6000)]


def test_what_is_final_comes_out_with_the_clock() -> None:
    """A second behind it, also while nobody says anything; so nothing piles up."""
    tape = Tape()
    for second in range(1, 61):
        tape.take(float(second))
        assert len(tape.sides[0]) == len(tape.sides[1]) == 2 * RATE_HZ * (second - 1)
    assert tape.timeline.waiting_s == 0


def test_sound_faster_than_the_clock() -> None:
    """A caller that appends a file at once keeps its own time; what is far ahead is final."""
    tape = Tape()
    for number in range(100):
        tape.timeline.add_caller_sound(tone(1, 1000), 1000 * number, 0.1)
        tape.take(0.1)
        assert tape.timeline.waiting_s <= 31
    assert tape.finish(0.1)[0] == [(1, 100_000)]


def test_no_end_of_an_answer_is_kept() -> None:
    """More than ten minutes that wait to be played are left out."""
    tape = Tape()
    for number in range(700):
        tape.timeline.add_answer_sound(tone(1, 1000), 1000 * number, 0.0)
    for second in range(700):
        tape.take(float(second))
    assert sum(length for value, length in tape.finish(700.0)[1] if value) == 601_000
