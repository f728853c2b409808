"""The bounds of a JSON text, which are judged by the text alone, before anything is made of it.

What a message costs depends on the number of its values (objects, arrays, strings, numbers), far more than on its
length: each value becomes an object that is judged, counted and sent on. So the number of values is bounded for every
sender, and the length is bounded for all messages but those that carry sound or pictures.
"""

from typing import AnyStr

from bridge.errors import BadEvent

__all__ = ["MAX_EVENT_BYTES", "MAX_VALUES", "require_few_values", "too_large", "values_in"]

MAX_VALUES = 32_768
"""The most values that one message may have: enough for some 600 kB of tools with their schemas."""
MAX_EVENT_BYTES = 2 * 1024 * 1024
"""The most bytes that a message without sound or pictures may have."""

_ESCAPES_PER_VALUE = 32
_PIECE_BYTES = 256 * 1024
_IN_TEXT = (",", "[", "{", '"', "\\", "\\\\", '\\"', "")
_IN_BYTES = (b",", b"[", b"{", b'"', b"\\", b"\\\\", b'\\"', b"")


def require_few_values(text: bytes | str) -> None:
    """Raises ``BadEvent`` with the code ``event_too_large`` if a JSON text has more than 32,768 values.

    In a text over 2 MiB, what looks like a value inside of a string counts as one, and so do 32 backslashes. Base64 has
    no commas and brackets, and hardly any escapes.
    """
    if len(text) > MAX_VALUES and values_in(text) > MAX_VALUES:
        raise BadEvent(f"The message has more than {MAX_VALUES} values.", code="event_too_large")


def values_in(text: bytes | str) -> int:
    """Returns how many values a JSON text has at most.

    The number is exact only if there might be too many, and counting stops as soon as there are too many.
    """
    if isinstance(text, bytes):
        return _values_in(text, _IN_BYTES)
    return _values_in(text, _IN_TEXT)


def too_large(size: int) -> BadEvent:
    """Returns the error for a message over 2 MiB that carries neither sound nor pictures."""
    limit = MAX_EVENT_BYTES // (1024 * 1024)
    return BadEvent(f"An event of {size} bytes is over the limit of {limit} MiB.", code="event_too_large")


def _values_in(text: AnyStr, signs: tuple[AnyStr, ...]) -> int:
    comma, array, object_, quote, escape, escaped_escape, escaped_quote, nothing = signs
    is_long = len(text) > MAX_EVENT_BYTES
    count = escapes = 0
    for start in range(0, len(text), _PIECE_BYTES):
        end = start + _PIECE_BYTES
        count += text.count(comma, start, end) + text.count(array, start, end) + text.count(object_, start, end)
        escapes += text.count(escape, start, end) if is_long else 0
        if count + escapes // _ESCAPES_PER_VALUE > MAX_VALUES:
            break
    count += 1 + escapes // _ESCAPES_PER_VALUE
    if count <= MAX_VALUES or is_long:
        return count
    bare = text.replace(escaped_escape, nothing).replace(escaped_quote, nothing)
    if bare.count(quote) > 4 * MAX_VALUES:  # a value is at most one string, and its name is another
        return count
    outside = nothing.join(bare.split(quote)[::2])
    return 1 + outside.count(comma) + outside.count(array) + outside.count(object_)
