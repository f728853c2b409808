"""The playback ledger: tables of what is queued, played, ended and cleared, and what is told in between."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.media.playback import Heard, Marked, Part, Playback, Played, Started, Stopped

RATE_HZ = 24_000
SECOND = RATE_HZ

Said = list[Played]
Step = Callable[[Playback], object]


def part(response: str, content: int = 0, item: str = "") -> Part:
    return Part(response, item or f"item_{response}", 0, content)


def queue(response: str, samples: int, content: int = 0, item: str = "") -> Step:
    return lambda playback: playback.queue(part(response, content, item), samples)


def play(samples: int) -> Step:
    return lambda playback: playback.play(samples)


def end(response: str) -> Step:
    return lambda playback: playback.end(response)


def clear() -> Step:
    return lambda playback: playback.clear()


A, B = Started("a"), Started("b")
NO_A, NO_B = Stopped("a"), Stopped("b")

TABLES: dict[str, list[tuple[Step, object]]] = {
    "one response, ended before it is heard": [
        (queue("a", 100), None),
        (end("a"), []),
        (play(60), [A]),
        (play(40), [NO_A]),
        (play(100), []),
    ],
    "one response, ended after it was heard": [
        (queue("a", 100), None),
        (play(100), [A]),
        (play(100), []),
        (end("a"), [NO_A]),
        (end("a"), []),
    ],
    "all in one go": [
        (queue("a", 100), None),
        (end("a"), []),
        (play(1000), [A, NO_A]),
    ],
    "nothing to hear": [
        (play(100), []),
        (end("a"), []),
        (clear(), None),
    ],
    "sound runs out and comes back": [
        (queue("a", 100), None),
        (play(480), [A]),
        (play(480), []),
        (queue("a", 100), None),
        (play(50), []),
        (end("a"), []),
        (play(50), [NO_A]),
    ],
    "several parts are one response": [
        (queue("a", 100), None),
        (queue("a", 100, content=1), None),
        (queue("a", 100, item="item_other"), None),
        (end("a"), []),
        (play(150), [A]),
        (play(150), [NO_A]),
    ],
    "responses back to back": [
        (queue("a", 100), None),
        (end("a"), []),
        (queue("b", 100), None),
        (end("b"), []),
        (play(50), [A]),
        (play(100), [NO_A, B]),
        (play(50), [NO_B]),
    ],
    "two responses in one tick": [
        (queue("a", 100), None),
        (queue("b", 100), None),
        (end("a"), []),
        (end("b"), []),
        (play(480), [A, NO_A, B, NO_B]),
    ],
    "the next response comes before the first is ended": [
        (queue("a", 100), None),
        (play(100), [A]),
        (queue("b", 100), None),
        (end("a"), [NO_A]),
        (play(100), [B]),
        (end("b"), [NO_B]),
    ],
    "an end that was never heard of": [
        (queue("a", 100), None),
        (end("b"), []),
        (play(100), [A]),
        (end("a"), [NO_A]),
    ],
    "a response without sound": [
        (queue("a", 0), None),
        (end("a"), []),
        (play(100), []),
        (queue("b", 100), None),
        (end("b"), []),
        (play(100), [B, NO_B]),
    ],
    "cleared in the middle": [
        (queue("a", SECOND), None),
        (play(SECOND // 4), [A]),
        (clear(), ("a", [Heard(part("a"), 250)])),
        (play(100), []),
        (end("a"), []),
        (clear(), None),
    ],
    "cleared in the middle of the second part": [
        (queue("a", SECOND), None),
        (queue("a", SECOND, content=1), None),
        (queue("a", SECOND, content=2), None),
        (play(SECOND + 24), [A]),
        (clear(), ("a", [Heard(part("a", 1), 1), Heard(part("a", 2), 0)])),
    ],
    "cleared before the first sample": [
        (queue("a", SECOND), None),
        (clear(), ("a", [Heard(part("a"), 0)])),
        (end("a"), []),
    ],
    "a partly heard millisecond does not count": [
        (queue("a", SECOND), None),
        (play(47), [A]),
        (clear(), ("a", [Heard(part("a"), 1)])),
    ],
    "cleared with the next response behind": [
        (queue("a", SECOND), None),
        (end("a"), []),
        (queue("b", SECOND), None),
        (play(SECOND // 2), [A]),
        (clear(), ("a", [Heard(part("a"), 500), Heard(part("b"), 0)])),
        (play(100), []),
    ],
    "after a clear comes the next response": [
        (queue("a", SECOND), None),
        (play(100), [A]),
        (clear(), ("a", [Heard(part("a"), 4)])),
        (queue("b", 100), None),
        (end("b"), []),
        (play(100), [B, NO_B]),
    ],
    "cleared when all that came has been heard, and more was to come": [
        (queue("a", 100), None),
        (play(100), [A]),
        (clear(), None),
        (end("a"), [NO_A]),
    ],
}


@pytest.mark.parametrize("name", TABLES)
def test_the_ledger(name: str) -> None:
    """Step by step, the ledger says when a response starts and stops being heard, and where it was cut."""
    playback = Playback(RATE_HZ)
    for number, (step, expected) in enumerate(TABLES[name]):
        assert step(playback) == expected, f"step {number}"


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 48_000])
def test_time_is_counted_at_the_rate(rate_hz: int) -> None:
    """A second is a second at any rate."""
    playback = Playback(rate_hz)
    playback.queue(part("a"), 2 * rate_hz)
    assert playback.queued_ms == 2000
    playback.play(rate_hz)
    assert playback.queued_ms == 1000
    assert playback.clear() == ("a", [Heard(part("a"), 1000)])
    assert playback.queued_ms == 0


def test_who_is_heard() -> None:
    """``sounding`` names the response from its first sample to its last."""
    playback = Playback(RATE_HZ)
    playback.queue(part("a"), 100)
    assert playback.sounding is None
    playback.play(1)
    assert playback.sounding == "a"
    playback.play(99)
    assert playback.sounding == "a"
    playback.end("a")
    assert playback.sounding is None


_responses = st.sampled_from("abc")
_steps = st.one_of(
    st.tuples(st.just("queue"), st.integers(0, 500), st.integers(0, 1)),
    st.tuples(st.just("play"), st.integers(0, 700), st.just(0)),
    st.tuples(st.just("end"), st.just(0), st.just(0)),
    st.tuples(st.just("clear"), st.just(0), st.just(0)),
)


@settings(derandomize=True, max_examples=500)
@given(steps=st.lists(_steps, max_size=40))
def test_invariants(steps: list[tuple[str, int, int]]) -> None:
    """Whatever happens: what starts was silent, what stops was heard, each but once, and never more than was queued.

    Responses follow one another, as they do in a conversation: the next one begins when the last one is ended.
    """
    playback = Playback(RATE_HZ)
    number, queued, sounding, cleared = 0, 0, None, False
    started: set[str] = set()
    for kind, amount, content in steps:
        response, said = f"r{number}", []
        if kind == "queue" and not cleared:
            playback.queue(part(response, content), amount)
            queued += amount
        elif kind == "play":
            said = playback.play(amount)
            assert max(queued - amount, 0) * 1000 // RATE_HZ == playback.queued_ms
            queued = max(queued - amount, 0)
        elif kind == "end":
            said = playback.end(response)
            number, cleared = number + 1, False
        elif kind == "clear":
            cut = playback.clear()
            assert (cut is not None) == (queued > 0)
            if cut is not None:
                assert sounding in (None, cut[0])
                assert all(heard.audio_end_ms <= 40 * 500 * 1000 // RATE_HZ for heard in cut[1])
                queued, sounding, cleared = 0, None, True
        for event in said:
            if isinstance(event, Started):
                assert sounding is None
                assert event.response_id not in started
                started.add(event.response_id)
                sounding = event.response_id
            else:
                assert event == Stopped(sounding or "")
                sounding = None
        assert playback.sounding == sounding
    assert playback.queued_ms == queued * 1000 // RATE_HZ


def test_a_mark_is_reached_when_all_before_it_was_played() -> None:
    """To the sample, and before the response is said to have stopped; what is queued behind it does not matter."""
    playback = Playback(RATE_HZ)
    assert playback.mark("nothing before")
    playback.queue(part("resp_1", 0), 100)
    assert not playback.mark("first")
    playback.queue(part("resp_1", 0), 50)
    playback.queue(part("resp_2", 0), 50)
    assert not playback.mark("second")
    playback.end("resp_2")
    assert playback.play(99) == [Started("resp_1")]
    assert playback.play(1) == [Marked("first")]
    assert playback.play(99) == [Stopped("resp_1"), Started("resp_2")]
    assert playback.play(1) == [Marked("second"), Stopped("resp_2")]
    assert playback.mark("nothing left")


def test_a_mark_goes_with_the_sound_that_is_cleared() -> None:
    """It is not reached any more, whatever is played later."""
    playback = Playback(RATE_HZ)
    playback.queue(part("resp_1", 0), 100)
    playback.mark("gone")
    playback.clear()
    playback.queue(part("resp_2", 0), 200)
    assert playback.play(200) == [Started("resp_2")]
