"""Which of a session's functions the words ask for, and with which arguments: by words alone, nothing is understood."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from bridge.engine.arguments import example_arguments, resolved
from bridge.engine.words import content_words, numbers, tokens
from bridge.wire.sessions import FunctionTool

__all__ = ["Filled", "chosen", "filled", "schema_of"]

_IN_NAME, _IN_DESCRIPTION = 2, 1
_ENOUGH = 2  # one word of the name, or two of the description
_MAX_DEPTH = 4
_MAX_VALUES = 200  # of one call; a schema may refer to itself
_LONGEST_DESCRIPTION = 1000  # characters that are looked at

_NO = re.compile(r"\b(?:not?|don't|do not|off|without|disable|stop|never|false)\b", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“”«](.+?)[\"“”»]")
_NAME = re.compile(r"(?<![.!?] )(?<!^)\b[A-Z][\w'’-]*(?:\s+(?:(?:of|de|la|van|der)\s+)?[A-Z][\w'’-]*)*")
_POLITE = re.compile(
    r"[\s,]*\b(?:please|thanks?(?: you)?|right now|now|today|tomorrow|tonight)\b[\s.!?]*$", re.IGNORECASE
)
_PREPOSITIONS = "in|at|for|to|from|of|on|with|about|by|named|called|saying|that"
_AFTER_PREPOSITION = re.compile(rf"\b({_PREPOSITIONS})\s+(.+?)(?=\s+(?:{_PREPOSITIONS})\b|[,;.!?]|$)", re.IGNORECASE)
_LIST = re.compile(rf"(?:\b(?:{_PREPOSITIONS})\s+)([^.;!?]*[^.;!?\s,])", re.IGNORECASE)
_PREFERRED = {  # word of a parameter's name -> the prepositions before it
    **dict.fromkeys(("from", "origin", "source", "departure"), ("from",)),
    **dict.fromkeys(("to", "destination", "recipient", "arrival", "target"), ("to",)),
    **dict.fromkeys(("subject", "topic"), ("about",)),
    **dict.fromkeys(("title", "label"), ("called", "named")),
    **dict.fromkeys(("date", "day"), ("on",)),
    "name": ("called", "named", "for"),
    "time": ("at",),
}
_FREE_TEXT = frozenset(
    {"body", "content", "message", "note", "prompt", "q", "query", "question", "reminder", "task", "text"}
)
_FREE_TEXT_AFTER = [  # the surest first
    re.compile(rf"\b(?:{marks})\b[,:]?\s+(.+)", re.IGNORECASE)
    for marks in ("saying|says|that says", "that|text|query", "about|for|to")
]


@dataclass(slots=True)
class Filled:
    """The arguments that were found in the words; ``missing`` names what is required and was not found."""

    arguments: Any
    missing: list[str] = field(default_factory=list)

    def with_examples(self, tool: FunctionTool) -> Any:
        """The arguments, and an example for each that is missing, so that they fit the schema."""
        if not self.missing:
            return self.arguments
        examples = example_arguments(schema_of(tool))
        return {**{name: examples[name] for name in self.missing if name in examples}, **self.arguments}


def schema_of(tool: FunctionTool) -> dict[str, Any]:
    """The function's parameters as a JSON schema."""
    return tool.parameters if isinstance(tool.parameters, dict) else {}


def chosen(tools: Sequence[FunctionTool], words: str) -> FunctionTool | None:
    """The function whose name or description the words match best; None if none matches well."""
    said = content_words(words)
    scores = [_score(tool, said) for tool in tools]
    best = max(scores, default=0)
    return tools[scores.index(best)] if best >= _ENOUGH else None


def filled(tool: FunctionTool, words: str, *, answer: str = "") -> Filled:
    """Arguments for ``tool`` out of the words; ``answer`` is what was said when one was asked for."""
    schema = schema_of(tool)
    return _Filler(schema, tool, words, answer).fill()


def _score(tool: FunctionTool, said: set[str]) -> int:
    in_name = content_words(tool.name)
    described = (
        content_words((tool.description or "")[:_LONGEST_DESCRIPTION]) if tool.description is not UNSET else set[str]()
    )
    return _IN_NAME * len(said & in_name) + _IN_DESCRIPTION * len(said & (described - in_name))


class _Filler:
    """Takes one value after the other out of the words; what has been taken is not taken again."""

    def __init__(self, schema: Mapping[str, Any], tool: FunctionTool, words: str, answer: str) -> None:
        self._root = schema
        self._words = words
        self._answer = _POLITE.sub("", answer).strip(" .,!?")
        self._numbers = numbers(answer or words)
        self._about = content_words(tool.name)
        self._values_left = _MAX_VALUES
        self._missing: list[str] = []
        self._taken: set[str] = set()

    def fill(self) -> Filled:
        arguments = self._object(self._root, 0, is_required=True)
        return Filled(arguments if arguments is not None else {}, self._missing)

    def _object(self, schema: Mapping[str, Any], depth: int, *, is_required: bool) -> dict[str, Any] | None:
        properties, required = schema.get("properties"), schema.get("required")
        wanted = required if isinstance(required, list) else []
        values: dict[str, Any] = {}
        for name, described in (properties if isinstance(properties, Mapping) else {}).items():
            needed = is_required and name in wanted
            value = self._value(str(name), described, depth + 1, is_required=needed)
            if value is not None:
                values[name] = value
            elif needed:
                self._missing.append(str(name))
        return values if values or depth == 0 or is_required else None

    def _value(self, name: str, schema: Any, depth: int, *, is_required: bool) -> Any:
        """The value that the words have for one parameter; None if they have none."""
        self._values_left -= 1
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH or self._values_left < 0:
            return None
        schema = resolved(schema, self._root)
        for key in ("anyOf", "oneOf", "allOf"):  # an optional value is written as a choice between it and null
            if isinstance(schema.get(key), list):
                choices = [
                    choice for choice in schema[key] if isinstance(choice, Mapping) and choice.get("type") != "null"
                ]
                return self._value(name, choices[0], depth + 1, is_required=is_required) if choices else None
        if "const" in schema:
            return schema["const"]
        found = self._of_kind(name, schema, depth, is_required=is_required)
        return found if found is not None else schema.get("default")

    def _of_kind(self, name: str, schema: Mapping[str, Any], depth: int, *, is_required: bool) -> Any:
        if isinstance(schema.get("enum"), list):
            return self._choice(schema["enum"])
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((one for one in kind if one != "null"), "null")
        if kind == "object":
            return self._object(schema, depth, is_required=is_required)
        if kind == "array":
            return self._array(schema)
        if kind == "boolean":
            is_named = bool(content_words(name) & content_words(self._words))
            return not _NO.search(self._words) if is_required or is_named else None
        if kind in ("integer", "number"):
            return self._number(schema, is_whole=kind == "integer")
        return self._text(name, is_required=is_required) if kind == "string" else None

    def _choice(self, values: list[Any]) -> Any:
        """The first value whose words were all said."""
        said = set(tokens(f"{self._words} {self._answer}"))
        return next((value for value in values if (words := tokens(str(value))) and said.issuperset(words)), None)

    def _number(self, schema: Mapping[str, Any], *, is_whole: bool) -> float | int | None:
        low, high = _limit(schema, "minimum", -math.inf), _limit(schema, "maximum", math.inf)
        for at, value in enumerate(self._numbers):
            if low <= value <= high and (value.is_integer() or not is_whole):
                del self._numbers[at]
                return int(value) if value.is_integer() else value
        return None

    def _array(self, schema: Mapping[str, Any]) -> list[Any] | None:
        items = schema.get("items")
        if isinstance(items, Mapping) and items.get("type") in ("integer", "number"):
            values, self._numbers = self._numbers, []
            return [int(value) if value.is_integer() else value for value in values] or None
        listed = _LIST.search(f"for {self._answer}" if self._answer else self._words)
        return re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", listed[1]) if listed else None

    def _text(self, name: str, *, is_required: bool = True) -> str | None:
        for candidate in self._texts(name, is_required=is_required):
            text = _POLITE.sub("", candidate).strip(" .,;!?")
            text = re.sub(r"^(?:the|a|an|my)\s+", "", text, flags=re.IGNORECASE)
            if text and self._is_new(text):
                self._taken.add(text.lower())
                return text
        return None

    def _is_new(self, text: str) -> bool:
        """Whether the words were not taken already, and are not only the function's own name."""
        is_said_before = text.lower() in self._taken
        return not is_said_before and (text == self._answer or not content_words(text) <= self._about)

    def _texts(self, name: str, *, is_required: bool) -> Iterable[str]:
        """The texts that the value may be, the likeliest first."""
        words = tokens(name)
        if self._answer:
            yield self._answer
        yield from _QUOTED.findall(self._words)
        label = r"[\s_-]*".join(map(re.escape, words))
        yield from re.findall(rf"\b{label}\b\s*(?:is|to|=|:)\s*([^,;.!?]+)", self._words, re.IGNORECASE)
        if _FREE_TEXT.intersection(words):
            yield from (text for mark in _FREE_TEXT_AFTER for text in mark.findall(self._words))
            yield self._words
            return
        after = [(preposition.lower(), text) for preposition, text in _AFTER_PREPOSITION.findall(self._words)]
        preferred = [preposition for word in words for preposition in _PREFERRED.get(word, ())]
        yield from (text for preposition, text in after if preposition in preferred)
        yield from _NAME.findall(self._words)
        if is_required:
            yield from (text for preposition, text in after if preposition in ("in", "at", "for", "of"))


def _limit(schema: Mapping[str, Any], name: str, default: float) -> float:
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default
