"""Text as a voice needs it: in pieces that it can say in one breath, and without what has no sound."""

import re
import unicodedata

__all__ = ["can_speak", "sentences", "spoken"]

_LONGEST = 200  # characters at a time: more takes memory that is never given back
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|\n+")
_CLAUSE_END = re.compile(r"(?<=[,;:–—])\s+")
_LONG_NUMBER = re.compile(r"\d{16,}")  # is read digit by digit
_SPACE = re.compile(r"\s+")
_SOUNDLESS = frozenset({"So", "Sk", "Cf", "Cc", "Co", "Cn", "Cs", "Mn", "Me"})


def can_speak(text: str) -> bool:
    """Whether the text has something that can be heard, and no word in another script."""
    letters = [character for character in text if character.isalpha()]
    is_latin = all(unicodedata.name(letter, "").startswith(("LATIN", "FEMININE", "MASCULINE")) for letter in letters)
    return is_latin and any(character.isalnum() for character in spoken(text))


def sentences(text: str) -> list[str]:
    """The text in pieces to be spoken one after the other; together they are the text."""
    pieces = []
    for sentence in _split(text, _SENTENCE_END):
        pieces += _shortened(sentence)
    return pieces


def spoken(text: str) -> str:
    """The text without characters that have no sound: pictures, signs, and those that only join or colour others."""
    plain = _LONG_NUMBER.sub(lambda match: " ".join(match[0]), unicodedata.normalize("NFKC", text))
    return "".join(" " if unicodedata.category(sign) in _SOUNDLESS else sign for sign in plain).strip()


def _shortened(text: str) -> list[str]:
    """``text`` as it is, or in parts that are short enough, cut where a speaker would take breath."""
    parts = [text]
    for boundary in (_CLAUSE_END, _SPACE):
        parts = [joined for part in parts for joined in _packed(_split(part, boundary))]
    return [part[at : at + _LONGEST] for part in parts for at in range(0, len(part), _LONGEST)]


def _packed(parts: list[str]) -> list[str]:
    """Joins neighbours while they fit together."""
    packed: list[str] = []
    for part in parts:
        if packed and len(packed[-1]) + len(part) <= _LONGEST:
            packed[-1] += part
        else:
            packed.append(part)
    return packed


def _split(text: str, boundary: re.Pattern[str]) -> list[str]:
    """Splits the text; each part keeps the space behind it."""
    ends = [match.end() for match in boundary.finditer(text)]
    return [part for start, end in zip([0, *ends], [*ends, len(text)], strict=True) if (part := text[start:end])]
