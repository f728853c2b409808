"""Words and numbers out of sentences."""

import pytest

from bridge.engine.words import content_words, numbers, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Count to twenty-five.", [25]),
        ("two hundred and six, then one thousand two hundred", [206, 1200]),
        ("one two three", [1, 2, 3]),
        ("a hundred", [100]),
        ("Add 12 and 1,500.5", [12, 1500.5]),
        ("five and six", [5, 6]),
        ("twenty one, thirty", [21, 30]),
        ("minus -3 degrees", [-3]),
        ("three million", [3_000_000]),
        ("Version 1.2.3, 4²", [1.2, 3, 4]),
        ("Someone is done, and often.", []),
    ],
)
def test_numbers_are_found_in_digits_and_in_words(text: str, expected: list[float]) -> None:
    """Every number of a sentence comes once, in order, however it is written."""
    assert numbers(text) == expected


@pytest.mark.parametrize(
    ("one", "other"), [("lights", "light"), ("cities", "city"), ("rolling", "roll"), ("Anna's", "anna")]
)
def test_forms_of_a_word_are_one(one: str, other: str) -> None:
    """A word means the same in the plural, with an ending or an apostrophe."""
    assert content_words(one) == content_words(other) != set()


def test_words_that_only_look_alike_are_two() -> None:
    """A timer has nothing to do with the time."""
    assert content_words("timer").isdisjoint(content_words("time"))


def test_words_without_a_meaning_are_left_out() -> None:
    """What every sentence has says nothing about it."""
    assert content_words("What is it that you would like me to do for them?") == set()


def test_a_name_is_its_words() -> None:
    """Names of functions are words, in both of the usual spellings."""
    assert tokens("get_weather") == tokens("getWeather") == ["get", "weather"]
