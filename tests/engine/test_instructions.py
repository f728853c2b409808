"""What the engine understands of instructions."""

import pytest

from bridge.engine.instructions import Instructions, read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Greet the caller with "Welcome to Acme!".', Instructions(greeting="Welcome to Acme!")),
        ("Start every call by saying: “Good day.”", Instructions(greeting="Good day.")),
        ('Whatever the user says, answer "No comment."', Instructions(every_answer="No comment.")),
        ("Always speak German.", Instructions(language="German")),
        ("You are helpful. Respond in spanish only!", Instructions(language="Spanish")),
        ("Speak English. Never speak German.", Instructions()),
        ("You are a helpful assistant. Be brief.", Instructions()),
        ("", Instructions()),
    ],
)
def test_a_session_may_fix_words_and_language(text: str, expected: Instructions) -> None:
    """Quoted words and languages are found; what is not understood changes nothing."""
    assert read(text) == expected


def test_a_response_may_be_told_its_words() -> None:
    """``Say …`` is the answer itself; other instructions of a response stand in for the session's."""
    assert read("Always speak German.", 'Say exactly: "Hello."').this_answer == "Hello."
    assert read("Always speak German.", "Be kind.") == Instructions()


def test_the_opening_admits_what_it_cannot() -> None:
    """A language that it has no voice for is refused in its own."""
    assert read("Speak French.").opening() == "I was asked to speak French, but I speak English only."
