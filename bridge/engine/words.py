"""English words as the engine needs them: which of them carry meaning, and which are numbers."""

import re

__all__ = ["content_words", "numbers", "tokens"]

_TOKEN = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?|[^\W\d_]+(?:['’][^\W\d_]+)?")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VALUES = {word: value for value, word in enumerate(_UNITS)} | {word: 10 * at for at, word in enumerate(_TENS, 2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}

_EMPTY_WORDS = frozenset(
    "a about all am an and any are as at be been by call can could current do does for from function get give given go "
    "had has have he her here him his how i if in into is it its let like make me my need no not now of on one or our "
    "out please return returns run say set she should show so some specified specific tell than that the their them "
    "then there these they this those to up us use used user using value want was we were what when where which who "
    "will with would you your yours it's what's i'd i'm let's".split()
)
_ENDINGS = ("ings", "ing", "ies", "ied", "es", "ed", "s", "y", "e")
_SHORTEST_STEM = 3


def tokens(text: str) -> list[str]:
    """Words and numbers, in lower case; ``get_weather`` and ``getWeather`` are two words each."""
    return [token.lower().replace("’", "'") for token in _TOKEN.findall(_CAMEL.sub(" ", text.replace("_", " ")))]


def content_words(text: str) -> set[str]:
    """The stems of the words that say what it is about."""
    return {_stem(token) for token in tokens(text) if token not in _EMPTY_WORDS and not token[-1].isdecimal()}


def numbers(text: str) -> list[float]:
    """All numbers, written in digits or in words, in order."""
    return [float(token.replace(",", "")) for token in tokens(_with_digits(text)) if token[-1].isdecimal()]


def _with_digits(text: str) -> str:
    """``text`` with digits for numbers in words: "twenty-five" becomes "25", "two hundred and six" "206"."""
    return _NUMBER_WORDS.sub(_to_digits, text)


_NUMBER_WORD = "|".join(sorted([*_VALUES, *_SCALES], key=len, reverse=True))
_NUMBER_WORDS = re.compile(
    rf"\b(?:{'|'.join(_VALUES)}|(?:a )?(?:{'|'.join(_SCALES)}))(?:(?:[- ]|\band\b)*\b(?:{_NUMBER_WORD})\b)*\b",
    re.IGNORECASE,
)


def _to_digits(match: re.Match[str]) -> str:
    """One or more numbers that stand beside each other: "one two three" are three of them."""
    done: list[int] = []
    total, current, last = 0, -1, 0
    for word in re.findall(r"[a-z]+", match[0].lower()):
        value = _VALUES.get(word)
        if value is None:
            if word not in _SCALES:
                continue
            scale = _SCALES[word]
            current = max(current, 1) * scale
            if scale >= 1000:
                total, current = total + current, 0
        elif current < 0 or (current >= 100 and current % 100 == 0) or (current == 0 and total) or _joins(last, value):
            current = max(current, 0) + value
        else:
            done.append(total + current)
            total, current = 0, value
        last = value or 0
    return " ".join(map(str, [*done, total + max(current, 0)]))


def _joins(tens: int, unit: int) -> bool:
    return tens >= 20 and tens % 10 == 0 and 0 < unit < 10


def _stem(word: str) -> str:
    word = word.removesuffix("'s")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word.removesuffix(ending)
    return word
