"""How long a pause has to be, by the words before it."""

import pytest

from bridge.engine.eagerness import MOST_MS, silence_ms

FINISHED = [
    "What time is it?",
    "Hello there.",
    "I would like a table for two.",
    "What is it for?",
    "Turn it on.",
    "Yes",
]
HANGING = [
    "I would like to book a table for.",
    "My name is",
    "Um.",
    "First of all,",
    "And then...",
    "Because",
    "Can you tell me if?",
]


@pytest.mark.parametrize("eagerness", MOST_MS)
@pytest.mark.parametrize("text", FINISHED)
def test_after_a_finished_sentence_it_is_short(text: str, eagerness: str) -> None:
    """Nobody waits long for what is not to come."""
    assert silence_ms(eagerness, text) <= 1000


@pytest.mark.parametrize("eagerness", MOST_MS)
@pytest.mark.parametrize("text", HANGING)
def test_after_half_a_sentence_it_is_long(text: str, eagerness: str) -> None:
    """Who has not finished is waited for, though not for ever."""
    assert silence_ms(eagerness, text) == MOST_MS[eagerness]


def test_eagerness_is_what_it_says() -> None:
    """The more eager, the sooner; ``auto`` is the middle."""
    waits = [silence_ms(eagerness, "Hello there.") for eagerness in ("high", "medium", "low")]
    assert waits == sorted(waits)
    assert len(set(waits)) == 3
    assert silence_ms("auto", "Hello there.") == waits[1]
