"""Text as a voice needs it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.prose import can_speak, sentences, spoken


@given(st.text(max_size=2000))
def test_the_pieces_are_the_text(text: str) -> None:
    """Nothing is lost between the pieces, none is empty, and none is too long for one breath."""
    pieces = sentences(text)
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= 200 for piece in pieces)


def test_a_piece_is_a_sentence() -> None:
    """Cuts are at the ends of sentences, else at clauses, else between words."""
    assert sentences("Hi. My name is Bob! Pi is 3.14, you know.") == [
        "Hi. ",
        "My name is Bob! ",
        "Pi is 3.14, you know.",
    ]
    clauses = sentences("one two three four five, " * 12)
    assert len(clauses) == 2
    assert all(piece.endswith(", ") for piece in clauses)
    words = sentences("word " * 100)
    assert all(piece.endswith(" ") for piece in words)


@pytest.mark.parametrize("text", ["Hello ✨", "1 + 1 = 2 °C", "naïve café", "42", "It’s “fine” – really…"])
def test_latin_text_can_be_spoken(text: str) -> None:
    """Accents, numbers and signs are no obstacle, pictures are left out."""
    assert can_speak(text)


@pytest.mark.parametrize("text", ["", "...", "✨🎉", "Привет", "Hello 世界", "שלום"])
def test_other_text_cannot(text: str) -> None:
    """Where nothing can be heard, or a word of another script is in it."""
    assert not can_speak(text)


def test_what_has_no_sound_is_left_out() -> None:
    """Pictures and joiners are gone; the words beside them are not."""
    assert spoken("x² and ½") == "x2 and 1⁄2"
    assert spoken(f"{'1' * 15} {'2' * 16}") == f"{'1' * 15} {'2 ' * 16}".strip()
    assert spoken("Hello 👩\u200d🚀, you!").split() == ["Hello", ",", "you!"]
