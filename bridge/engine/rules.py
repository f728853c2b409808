"""What the engine answers to which words: a few dozen rules, and honest about it.

It sees the conversation as a session keeps it, decides, and touches nothing. First come the functions of the session,
then what the instructions fix, then what it knows by itself: manners, repeating, the time, counting, sums, and the
bridge that it runs in. Whatever else is said, it says back.
"""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Protocol

import msgspec

from bridge.engine.functions import chosen, filled
from bridge.engine.instructions import Instructions
from bridge.engine.words import numbers, tokens
from bridge.wire import items
from bridge.wire.sessions import FunctionTool

__all__ = ["Say", "BridgeStatus", "Topic", "Use", "answer"]

_MISSING = "For that I need the {}."
_ASKED = re.compile(r"^For that I need the (.+)\.$")
_NEVER_MIND = re.compile(r"^\W*(?:never ?mind|no|nothing|cancel|stop|forget it)\b", re.IGNORECASE)
_HIGHEST_COUNT = 100
_LONGEST_WORDS = 1000  # characters of what is said that are looked at, and said back
_DEEPEST = 5  # values inside values
_LONGEST_RESULT = 600  # characters of a function's output that are spoken


@dataclass(frozen=True, slots=True)
class Say:
    """An answer: words to be said."""

    text: str


@dataclass(frozen=True, slots=True)
class Use:
    """An answer: a function to be called; ``arguments`` is JSON text."""

    name: str
    arguments: str


class BridgeStatus(Protocol):
    """What the engine can tell about the bridge that it runs in."""

    def now(self) -> datetime:
        """The local time."""
        ...

    def calls(self) -> int:
        """How many calls are running."""
        ...

    def listeners(self) -> int:
        """How many sockets listen to them."""
        ...

    def settings(self) -> dict[str, str]:
        """The settings that are no secret, by name."""
        ...


@dataclass(frozen=True, slots=True)
class Topic:
    """What is to be answered, and what may be used for it."""

    history: Sequence[items.Item]
    instructions: Instructions
    tools: Sequence[FunctionTool]
    must_call: bool
    """True if a function has to be called, whatever was said."""
    bridge: BridgeStatus
    random: Random
    is_idle: bool = False
    """True if the caller has been silent for so long that the engine asks."""


def answer(topic: Topic) -> Say | Use:
    """The answer to the last that was said or returned by a function, unless its own words were asked for."""
    if topic.instructions.this_answer and not topic.must_call:
        return Say(topic.instructions.this_answer)
    last = next((item for item in reversed(topic.history) if not _is_ours(item)), None)
    if isinstance(last, items.FunctionCallOutput):
        return Say(_result(last.output))
    words = _text(last)[:_LONGEST_WORDS] if isinstance(last, items.Message) else ""
    call = _function(topic, words)
    if call is not None:
        return call
    fixed = topic.instructions.every_answer
    if fixed:
        return Say(fixed)
    is_first = not any(isinstance(item, items.Message) and item.role == "assistant" for item in topic.history)
    opening = topic.instructions.opening() if is_first else ""
    if topic.is_idle:
        return Say("Are you still there?")
    if not words:
        said_something = isinstance(last, items.Message) and last.role == "user"
        return Say(_unheard(topic) if said_something else opening or _hello(topic))
    if opening and _is_greeting(words):
        return Say(opening)
    return Say(f"{opening} {_known(topic, words)}".strip())


# Functions


def _function(topic: Topic, words: str) -> Use | Say | None:
    """A call of the function that the words ask for; a question if they lack something that it needs."""
    tool, asked = chosen(topic.tools, words), ""
    if tool is None:
        before, tool = _asked_for(topic)
        if tool is not None and _NEVER_MIND.search(words):
            return Say("All right.")
        if tool is not None:
            words, asked = before, words
    if tool is None and topic.must_call and topic.tools:
        tool = topic.tools[0]
    if tool is None:
        return None
    found = filled(tool, words, answer=asked)
    if found.missing and not topic.must_call and not asked:
        return Say(_MISSING.format(" and the ".join(" ".join(tokens(name)) for name in found.missing)))
    return Use(tool.name, msgspec.json.encode(found.with_examples(tool)).decode())


def _asked_for(topic: Topic) -> tuple[str, FunctionTool | None]:
    """What was said before the engine asked for more, and the function that this was about."""
    texts = [_text(item) for item in topic.history if isinstance(item, items.Message)]
    if len(texts) < 3 or not _ASKED.match(texts[-2]):
        return "", None
    return texts[-3], chosen(topic.tools, texts[-3])


def _result(output: str) -> str:
    try:
        value = msgspec.json.decode(output)
    except (msgspec.DecodeError, RecursionError):
        value = output
    text = _told(value, 0)[:_LONGEST_RESULT].strip() or "The function gave nothing back"
    return text if text[-1] in ".!?" else f"{text}."


def _told(value: object, depth: int) -> str:
    """A value of JSON as one would say it; what lies too deep is left out."""
    if depth > _DEEPEST:
        return "more"
    if isinstance(value, dict):
        return ", ".join(f"{' '.join(tokens(str(name)))} is {_told(one, depth + 1)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_told(one, depth + 1) for one in value)
    if value is None:
        return "nothing"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


# What it knows by itself


def _hello(topic: Topic) -> str:
    return topic.random.choice(
        ["Hello! What can I do for you?", "Hello! How can I help you?", "Hi there! I am listening."]
    )


def _unheard(topic: Topic) -> str:
    return topic.random.choice(["Sorry, I did not understand that.", "Sorry, I did not catch that."])


def _known(topic: Topic, words: str) -> str:
    for pattern, reply in _RULES:
        match = pattern.search(words)
        said = reply(topic, match) if match else None
        if said:
            return said
    return f"You said: {words}"


def _is_greeting(words: str) -> bool:
    return bool(_GREETING.search(words))


def _time(topic: Topic, match: re.Match[str]) -> str:
    return f"It is {topic.bridge.now():%-I:%M %p}."


def _date(topic: Topic, match: re.Match[str]) -> str:
    now = topic.bridge.now()
    return f"Today is {now:%A}, {now:%B} {now.day}, {now.year}."


def _count(topic: Topic, match: re.Match[str]) -> str | None:
    ends = [int(number) for number in numbers(match[0]) if number.is_integer()]
    if not ends:
        return None
    is_down = "down" in match[0].lower()
    first, last = (ends[0], ends[1]) if len(ends) > 1 else (ends[0], 1) if is_down else (1, ends[0])
    if abs(last - first) >= _HIGHEST_COUNT:
        return f"That is too much for me: I count {_HIGHEST_COUNT} numbers at most."
    step = 1 if last >= first else -1
    return ", ".join(str(number) for number in range(first, last + step, step)) + "."


def _sum(topic: Topic, match: re.Match[str]) -> str | None:
    before, after = numbers(match.string[: match.start()]), numbers(match.string[match.end() :])
    if not before or not after:
        return None
    sign = _SPOKEN_SIGNS.get(match[0], match[0].lower())
    left, right = before[-1], after[0]
    if sign == "divided by" and not right:
        return "Nothing can be divided by zero."
    return f"{left:g} {sign} {right:g} is {_SIGNS[sign](left, right):.10g}."


def _again(topic: Topic, match: re.Match[str]) -> str:
    texts = [_text(item) for item in topic.history if isinstance(item, items.Message) and item.role == "assistant"]
    return next((text for text in reversed(texts) if text), "I have not said anything yet.")


def _yours(topic: Topic, match: re.Match[str]) -> str:
    texts = [_text(item) for item in topic.history if isinstance(item, items.Message) and item.role == "user"][:-1]
    return f"You said: {texts[-1]}" if texts and texts[-1] else "You have not said anything before that."


def _repeat(topic: Topic, match: re.Match[str]) -> str:
    text = match["text"].strip(" \"“”'")
    return text[:1].upper() + text[1:] if text else ""


def _calls(topic: Topic, match: re.Match[str]) -> str:
    return f"{_counted(topic.bridge.calls(), 'call')} running on this bridge."


def _listeners(topic: Topic, match: re.Match[str]) -> str:
    return f"{_counted(topic.bridge.listeners(), 'listener')} attached to this bridge."


def _counted(number: int, noun: str) -> str:
    return f"There is 1 {noun}" if number == 1 else f"There are {number or 'no'} {noun}s"


def _setting(topic: Topic, match: re.Match[str]) -> str | None:
    said = set(tokens(match.string))
    settings = topic.bridge.settings()
    named = [name for name in settings if said.issuperset(name.split("_"))]
    if named:
        name = max(named, key=lambda name: name.count("_"))
        return f"The setting {name.replace('_', ' ')} is {settings[name] or 'not set'}."
    if said & {"setting", "settings", "configured", "configuration"}:
        listed = ", ".join(f"{name.replace('_', ' ')} is {value}" for name, value in settings.items())
        return f"These are my settings: {listed}."
    return None


def _fixed(*texts: str) -> "_Reply":
    return lambda topic, match: topic.random.choice(texts)


_Reply = Callable[[Topic, re.Match[str]], str | None]

_SIGNS: dict[str, Callable[[float, float], float]] = {
    "plus": operator.add,
    "minus": operator.sub,
    "times": operator.mul,
    "multiplied by": operator.mul,
    "divided by": operator.truediv,
}
_SPOKEN_SIGNS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}
_LANGUAGES = (
    "arabic|chinese|dutch|french|german|greek|hindi|italian|japanese|korean|polish|portuguese|russian|spanish|turkish"
)
_ABOUT = (
    "I am the embedded engine of this bridge: a small program that hears, speaks, and knows a few dozen rules. "
    "I am no language model."
)
_HELP = (
    "I can repeat after you, tell the time and the date, count, do sums, call the functions of this session, "
    "and answer questions about this bridge: its calls, its listeners, its settings."
)


def _rule(pattern: str, reply: _Reply) -> tuple[re.Pattern[str], _Reply]:
    return re.compile(pattern, re.IGNORECASE), reply


_POLITE = r"^(?:(?:can|could|would) you |please\W+)*"
_GREETING = re.compile(
    r"^(?:hi|hello|hey|good (?:morning|afternoon|evening)|howdy)\b(?:\W+\w+){0,2}\W*$", re.IGNORECASE
)
_RULES = [
    _rule(rf"{_POLITE}(?:repeat after me|say after me)\b[\s,:.]*(?P<text>.+)$", _repeat),
    _rule(rf"{_POLITE}(?:repeat that|say (?:that|it) again|repeat yourself)\b|what did you say", _again),
    _rule(r"what (?:did|have) i (?:just )?sa(?:y|id)", _yours),
    _rule(rf"{_POLITE}(?:say|repeat)\b[\s,:]*(?P<text>.+)$", _repeat),
    _rule(rf"\b(?:speak|talk|answer|switch|say)\b.*\b(?:{_LANGUAGES})\b", _fixed("I am sorry, I speak English only.")),
    _rule(r"\bcount(?:ing)?\b.*$", _count),
    _rule(r"\b(?:plus|minus|times|multiplied by|divided by)\b|(?<=\s)[-+*/](?=\s)", _sum),
    _rule(r"\bwhat(?:'s| is)?(?: the)? time\b|\bthe time\b", _time),
    _rule(r"\b(?:what|which)(?:'s| is)?\b.*\b(?:date|day)\b|\btoday's date\b", _date),
    _rule(r"\bhow many\b.*\bcalls\b|\bcalls\b.*\b(?:running|there|open|active)\b", _calls),
    _rule(r"\bhow many\b.*\blisten|\b(?:is|who)\b.*\blistening\b|\blisteners\b", _listeners),
    _rule(r"\b(?:which|what|how|is|are|tell)\b", _setting),
    _rule(r"\b(?:who|what) are you\b|\byour name\b|\bare you (?:a |an )?(?:human|robot|bot|ai|real)\b", _fixed(_ABOUT)),
    _rule(r"\bhow are you\b", _fixed("I am well, thank you. How can I help you?")),
    _rule(r"\bwhat can you do\b|^help\b|\bhelp me\b|\bcan you help\b", _fixed(_HELP)),
    _rule(r"\b(?:good ?bye|bye|see you)\b", _fixed("Goodbye!", "Goodbye, and thank you for calling.")),
    _rule(r"\bthank(?:s| you)\b", _fixed("You are welcome.", "My pleasure.")),
    (_GREETING, lambda topic, match: _hello(topic)),
]  # fmt: skip


def _text(item: items.Message) -> str:
    """The words of a message, written, spoken or understood."""
    texts = [
        part.text if isinstance(part, items.InputText | items.OutputText) else part.transcript
        for part in item.content
        if not isinstance(part, items.InputImage)
    ]
    return " ".join(text for text in texts if isinstance(text, str)).strip()


def _is_ours(item: items.Item) -> bool:
    return isinstance(item, items.FunctionCall) or (isinstance(item, items.Message) and item.role != "user")
