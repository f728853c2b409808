"""Whether a speaker seems to have finished, by the words, and how long to wait for more: ``semantic_vad``."""

import re

__all__ = ["FINISHED_MS", "MOST_MS", "silence_ms"]

MOST_MS = {"low": 8000, "medium": 4000, "high": 2000, "auto": 4000}
"""The silence that ends a turn whatever was said, for each eagerness, as OpenAI documents it."""

FINISHED_MS = {"low": 1000, "medium": 600, "high": 300, "auto": 600}
"""The silence that ends a turn whose speaker seems to have finished, for each eagerness."""

# A sentence does not end in these; Whisper writes a full stop behind them all the same.
_HANGING_WORDS = frozenset(
    "a about an and as at because but by er erm for from hmm i if into is maybe my of or our the their to uh uhm um "
    "when where which while who whose with without would your".split()
)
_ENDS_OF_QUESTIONS = frozenset("about at for from into is of to when where which who with without".split())
_LAST_WORD = re.compile(r"([^\W_]+(?:['’][^\W_]+)?)\W*$")
_HANGING_END = re.compile(r"(?:,|-|–|—|:|…|\.\.\.)\s*$")


def silence_ms(eagerness: str, text: str) -> int:
    """How long the silence behind ``text`` has to last until the turn is over."""
    return MOST_MS[eagerness] if _is_hanging(text) else FINISHED_MS[eagerness]


def _is_hanging(text: str) -> bool:
    last = _LAST_WORD.search(text)
    word = last[1].lower() if last is not None else ""
    is_question = text.rstrip().endswith("?") and word in _ENDS_OF_QUESTIONS
    return bool(_HANGING_END.search(text)) or (word in _HANGING_WORDS and not is_question)
