"""Compares what two calls were told: the words, the order of the events, and how soon answers came."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from bridge.client.replay.recording import TimedEvent

__all__ = ["Difference", "differences"]

_LEFT_OUT = ("rate_limits.updated", "session.created", "conversation.created")
_BESIDE = ("bridge.", "output_audio_buffer.", "conversation.item.input_audio_transcription.")
"""Beginnings of kinds that are not in the order: they come beside it, whenever they are ready."""
_MOST_PLACES = 20
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is different; ``words`` says so in one sentence for a person."""

    about: Literal["words", "order", "timing"]
    words: str
    before: str
    now: str


def differences(
    before: Sequence[TimedEvent], now: Sequence[TimedEvent], *, tolerance_ms: float, min_similarity: float = 1.0
) -> list[Difference]:
    """Returns what is different in ``now``.

    An answer may come ``tolerance_ms`` later than it did. Words are alike if at least ``min_similarity`` of them, from
    0 to 1, are the same; case and punctuation do not count. If the caller hung up in an answer, the calls are compared
    up to the answer before.
    """
    done = sum(each.kind == "response.done" for each in before)
    if done < sum(each.kind == "response.created" for each in before):
        before, now = _until_answer(before, done), _until_answer(now, done)
    return [
        *_words(before, now, min_similarity),
        *_order(before, now),
        *_timing(before, now, tolerance_ms),
    ]


def _until_answer(events: Sequence[TimedEvent], number: int) -> Sequence[TimedEvent]:
    """Returns the events up to the end of so many answers."""
    for place, each in enumerate(events):
        if number == 0:
            return events[:place]
        number -= each.kind == "response.done"
    return events


def _words(before: Sequence[TimedEvent], now: Sequence[TimedEvent], least: float) -> Iterator[Difference]:
    for name, said in (("the caller", _heard), ("the answer", _answered)):
        ours, theirs = list(said(before)), list(said(now))
        for number in range(max(len(ours), len(theirs))):
            one = ours[number] if number < len(ours) else ""
            two = theirs[number] if number < len(theirs) else ""
            if (alike := _similarity(one, two)) < least:
                missing = not two and "is missing" or not one and "is new" or f"is to {round(100 * alike)} % the same"
                yield Difference("words", f"{name}'s text {number + 1} {missing}", one, two)


def _similarity(one: str, two: str) -> float:
    words = [_WORD.findall(text.lower()) for text in (one, two)]
    if not any(words):
        return 1.0 if one == two else 0.0
    return SequenceMatcher(None, words[0], words[1], autojunk=False).ratio()


def _heard(events: Sequence[TimedEvent]) -> Iterator[str]:
    for each in events:
        if each.kind == "conversation.item.input_audio_transcription.completed":
            yield str(each.event.get("transcript") or "")


def _answered(events: Sequence[TimedEvent]) -> Iterator[str]:
    """Yields the words of each item of each answer; a call of a function counts as its name and arguments."""
    for each in events:
        response = each.event.get("response")
        if each.kind == "response.done" and isinstance(response, dict):
            for item in response.get("output") or []:
                yield _said(item)


def _said(item: dict[str, Any]) -> str:
    if item.get("type") == "function_call":
        return f"{item.get('name')} {item.get('arguments')}"
    parts = item.get("content") or []
    return " ".join(str(part.get("transcript") or part.get("text") or "") for part in parts)


def _order(before: Sequence[TimedEvent], now: Sequence[TimedEvent]) -> Iterator[Difference]:
    ours, theirs = _kinds(before), _kinds(now)
    places = SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
    changed = [place for place in places if place[0] != "equal"]
    for tag, start, end, other_start, other_end in changed[:_MOST_PLACES]:
        behind = f"behind {ours[start - 1]}" if start else "at the beginning"
        words = {"delete": "did not come", "insert": "came as well", "replace": "came as others"}[tag]
        one, two = ", ".join(ours[start:end]), ", ".join(theirs[other_start:other_end])
        yield Difference("order", f"{one or two}, {behind}, {words}", one, two)
    if len(changed) > _MOST_PLACES:
        yield Difference("order", f"and {len(changed) - _MOST_PLACES} more places", "", "")


def _kinds(events: Sequence[TimedEvent]) -> list[str]:
    """Returns the kinds of events in their order, without those that tell of nothing, and repetitions as one."""
    kinds: list[str] = []
    for each in events:
        kind = each.kind
        is_left_out = kind in _LEFT_OUT or kind.startswith(_BESIDE) or kind.endswith(".delta")
        if not is_left_out and (not kinds or kinds[-1] != kind):
            kinds.append(kind)
    return kinds


def _timing(before: Sequence[TimedEvent], now: Sequence[TimedEvent], tolerance_ms: float) -> Iterator[Difference]:
    for number, (one, two) in enumerate(zip(_delays(before), _delays(now), strict=False), 1):
        for name, old, new in (("begins", one[0], two[0]), ("is done", one[1], two[1])):
            if old is not None and new is not None and new - old > tolerance_ms:
                words = f"answer {number} {name} {new - old} ms later"
                yield Difference("timing", words, f"{old} ms", f"{new} ms")


def _delays(events: Sequence[TimedEvent]) -> Iterator[tuple[int | None, int | None]]:
    """Yields for each answer the times from the last request to its beginning and to its end, in milliseconds."""
    asked_at: int | None = None
    began: int | None = None
    for each in events:
        match each.kind:
            case "input_audio_buffer.speech_stopped" | "input_audio_buffer.committed" | "conversation.item.added":
                asked_at = each.at_ms if began is None else asked_at
            case "response.created":
                began = each.at_ms
            case "response.done":
                if asked_at is None or began is None:
                    yield None, None
                else:
                    yield began - asked_at, each.at_ms - asked_at
                began = None
