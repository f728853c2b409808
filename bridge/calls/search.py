"""Finding a call by whatever somebody has of it: a part of an id, an address, a telephone number as it is written."""

import re
from collections.abc import Iterable

__all__ = ["matches"]

_NUMBER = re.compile(r"\+?\d[\d ().-]*\d")


def matches(query: str, texts: Iterable[str]) -> bool:
    """Whether ``query`` is part of one of the texts, in upper or lower case.

    A telephone number is found however it is written: with spaces, with or without a leading plus or zeros.
    """
    wanted = query.strip().casefold()
    texts = tuple(texts)
    if any(wanted in text.casefold() for text in texts):
        return True
    number = _NUMBER.fullmatch(wanted)
    if number is None:
        return False
    digits = _digits(number[0]).lstrip("0")
    return bool(digits) and any(digits in _digits(found) for text in texts for found in _NUMBER.findall(text))


def _digits(number: str) -> str:
    return "".join(filter(str.isdecimal, number))
