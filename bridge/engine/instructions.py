"""The little that the engine understands of a session's instructions: fixed words, and the language to be spoken."""

import re
from dataclasses import dataclass

__all__ = ["Instructions", "read"]

_LONGEST = 8000  # characters that are looked at
_WITHIN = r"[^.\"“]{0,80}?"  # a sentence
_QUOTE = r"[\"“”«]([^\"“”»]+)[\"“”»]"
_EVERY_ANSWER = re.compile(
    rf"\b(?:always|only|whatever|every)\b{_WITHIN}\b(?:say|answer|reply|respond)\b{_WITHIN}{_QUOTE}", re.IGNORECASE
)
_GREETING = re.compile(rf"\b(?:greet(?:ing)?|start|begin|open|welcome|first)\b{_WITHIN}[:\s]{_QUOTE}", re.IGNORECASE)
_SAY = re.compile(
    r"^\W*(?:(?:please|just)\s+)*(?:say|repeat)\b"
    r"(?:\s+(?:exactly|to the (?:user|caller)|the following))*\s*[:,]?\s*(.+)$",
    re.IGNORECASE | re.DOTALL,
)
_LANGUAGE = re.compile(
    rf"\b(?:speak|talk|answer|respond|reply|converse|use)\b{_WITHIN}\b(Arabic|Chinese|Dutch|French|German|Greek|Hindi|"
    r"Italian|Japanese|Korean|Polish|Portuguese|Russian|Spanish|Turkish)\b",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"\b(?:not|never|don't|refuse|decline|no)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Instructions:
    """What the instructions fix."""

    this_answer: str = ""
    """The words of this one answer, if the response was told them: whatever was said or returned before."""
    every_answer: str = ""
    """The words of every answer, if they are fixed."""
    greeting: str = ""
    """Words that are said first."""
    language: str = ""
    """The language that is asked for and that the engine does not speak."""

    def opening(self) -> str:
        """What comes before the first answer."""
        refusal = f"I was asked to speak {self.language}, but I speak English only." if self.language else ""
        return f"{self.greeting} {refusal}".strip()


def read(session: str, response: str = "") -> Instructions:
    """What a session's instructions fix; those of one response, where there are any, are for it alone."""
    direct = _SAY.match(response[:_LONGEST])
    if direct:
        return Instructions(this_answer=direct[1].strip(' "“”'))
    text = (response or session)[:_LONGEST]
    every, greeting = _EVERY_ANSWER.search(text), _GREETING.search(text)
    language = _LANGUAGE.search(text)
    is_wanted = language is not None and not _REFUSED.search(text[max(0, language.start() - 20) : language.end()])
    return Instructions(
        every_answer=every[1].strip() if every else "",
        greeting=greeting[1].strip() if greeting else "",
        language=language[1].capitalize() if language is not None and is_wanted else "",
    )
