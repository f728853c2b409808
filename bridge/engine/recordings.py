"""What was heard and said in one conversation, by item: the sound, and the words that were understood in it."""

from collections import OrderedDict
from collections.abc import Sequence

from bridge.session.budget import Budget
from bridge.wire.audio import SESSION_HZ

__all__ = ["BYTES_PER_MS", "Recordings"]

BYTES_PER_MS = 2 * SESSION_HZ // 1000
"""The bytes of a millisecond of all sound inside the engine: PCM16 24 kHz mono."""


class Recordings:
    """Keeps so many milliseconds of sound, and drops the oldest first.

    Words and durations stay as long as their items.
    """

    def __init__(self, max_ms: int, budget: Budget | None = None) -> None:
        """If ``budget`` is used up, the oldest sound is dropped as well."""
        self._budget = budget or Budget()
        self._max_bytes = max_ms * BYTES_PER_MS
        self._kept_bytes = 0
        self._sounds: OrderedDict[str, bytes] = OrderedDict()
        self._durations_ms: dict[str, int] = {}
        self._words: dict[str, str] = {}
        self._spoken: dict[str, list[tuple[int, int, str]]] = {}
        """Of the engine's own items: from where to where each piece of their words sounds, in bytes."""

    def keep(self, item_id: str, sound: bytes) -> None:
        """Remembers the whole sound of an item."""
        self._drop(item_id)
        self._sounds[item_id] = sound
        self._count(len(sound))
        self._durations_ms[item_id] = len(sound) // BYTES_PER_MS
        while self._sounds and (self._kept_bytes > self._max_bytes or self._budget.refusal(0) is not None):
            self._drop(next(iter(self._sounds)))

    def cut(self, item_id: str, size: int) -> None:
        """Cuts an item's sound to ``size`` bytes, because the rest was never heard."""
        if item_id in self._durations_ms:
            self._hear(item_id, size)
            self._durations_ms[item_id] = min(self._durations_ms[item_id], size // BYTES_PER_MS)
        if item_id in self._sounds:
            kept = self._sounds[item_id][:size]
            self._count(len(kept) - len(self._sounds[item_id]))
            self._sounds[item_id] = kept

    def clear(self) -> None:
        """Forgets everything, because the conversation is over."""
        self._count(-self._kept_bytes)
        self._sounds.clear()

    def forget(self, item_id: str) -> None:
        """Forgets an item."""
        self._drop(item_id)
        self._durations_ms.pop(item_id, None)
        self._words.pop(item_id, None)
        self._spoken.pop(item_id, None)

    def sound(self, item_id: object) -> bytes:
        """The sound of an item; empty if it is not kept any more."""
        return self._sounds.get(str(item_id), b"")

    def duration_ms(self, item_id: object) -> int:
        """How long the sound of an item is or was, in milliseconds."""
        return self._durations_ms.get(str(item_id), 0)

    def understand(self, item_id: str, words: str) -> None:
        """Remembers what was understood in an item's sound."""
        if item_id in self._durations_ms:
            self._words[item_id] = words

    def speak(
        self, item_id: str, spoken: Sequence[tuple[int, str]], size: int, *, heard_bytes: int | None = None
    ) -> None:
        """Remembers where in an item's sound of ``size`` bytes each piece of its words begins.

        Of these, only what is before ``heard_bytes`` was heard.
        """
        ends = [*(start for start, _ in spoken[1:]), size]
        self._spoken[item_id] = [(start, end, words) for (start, words), end in zip(spoken, ends, strict=True)]
        if heard_bytes is not None:
            self._hear(item_id, heard_bytes)

    def _hear(self, item_id: str, size: int) -> None:
        """Of an item's words those count that were heard: of a piece that was cut, as many as of its sound."""
        if item_id not in self._spoken:
            return
        heard = ""
        for start, end, words in self._spoken[item_id]:
            if size >= end:
                heard += words
            elif size > start:
                length = len(words) * (size - start) // (end - start)
                heard += words[: length + 1].rpartition(" ")[0]  # a word ends with the space behind it
        self._words[item_id] = heard.strip()

    def words(self, item_id: object) -> str:
        """The words that were understood of a caller's item, or heard of an answer that was cut."""
        return self._words.get(str(item_id), "")

    def _drop(self, item_id: str) -> None:
        self._count(-len(self._sounds.pop(item_id, b"")))

    def _count(self, size: int) -> None:
        self._kept_bytes += size
        self._budget.charge(size)
