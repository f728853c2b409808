"""What was heard and said in one conversation, by item: the sound, and the words that were understood in it."""

from collections import Counter, OrderedDict
from collections.abc import Sequence

from bridge.session.budget import Budget
from bridge.wire.audio import SESSION_HZ

__all__ = ["BYTES_PER_MS", "PIECE_BYTES", "Recordings", "first_of", "in_pieces"]

BYTES_PER_MS = 2 * SESSION_HZ // 1000
"""The bytes of a millisecond of all sound inside the engine: PCM16 24 kHz mono."""
PIECE_BYTES = 200 * BYTES_PER_MS
"""The bytes of the longest piece in which the engine keeps sound and delivers it."""

_NOTHING: Sequence[bytes] = ()


def in_pieces(pcm: bytes) -> Sequence[bytes]:
    """Cuts sound into pieces of ``PIECE_BYTES`` at most; a short one is itself its only piece."""
    return [pcm[at : at + PIECE_BYTES] for at in range(0, len(pcm), PIECE_BYTES)]


def first_of(pieces: Sequence[bytes], size: int) -> Sequence[bytes]:
    """Returns the first ``size`` bytes of sound in pieces; of these only the last one may have to be copied."""
    first = []
    for piece in pieces:
        if size <= 0:
            break
        first.append(piece[:size])
        size -= len(piece)
    return first


class Recordings:
    """Keeps so many milliseconds of sound, and drops the oldest first.

    Words and durations stay as long as their items. Sound is kept in the very pieces in which it was delivered, so that
    it is in memory once, however many items have it and whoever else still holds it: the listeners' replay, or what
    waits to be heard.
    """

    def __init__(self, max_ms: int, budget: Budget | None = None, *, past_ms: int | None = None) -> None:
        """With ``past_ms`` sound goes so long after it came, when another item comes that does not repeat it.

        If ``budget`` is used up, the oldest sound is dropped as well.
        """
        self._budget = budget or Budget()
        self._max_bytes = max_ms * BYTES_PER_MS
        self._past_ms = past_ms
        self._kept_bytes = 0
        self._came_ms: dict[str, int] = {}
        """When the sound of each item came that is kept."""
        self._sounds: OrderedDict[str, Sequence[bytes]] = OrderedDict()
        self._holders: Counter[int] = Counter()
        """The number of items that have a piece, by the piece's identity."""
        self._durations_ms: dict[str, int] = {}
        self._words: dict[str, str] = {}
        self._spoken: dict[str, list[tuple[int, int, str]]] = {}
        """Of the engine's own items: from where to where each piece of their words sounds, in bytes."""

    def keep(self, item_id: str, pieces: Sequence[bytes], *, now_ms: int = 0) -> None:
        """Remembers the whole sound of an item; ``now_ms`` is the time by the caller's sound."""
        self._drop(item_id)
        self._came_ms[item_id] = now_ms
        self._sounds[item_id] = pieces
        self._hold(pieces)
        self._durations_ms[item_id] = sum(map(len, pieces)) // BYTES_PER_MS
        if self._past_ms is not None:
            self._drop_before(now_ms - self._past_ms, set(map(id, pieces)))
        while self._sounds and (self._kept_bytes > self._max_bytes or self._budget.refusal(0) is not None):
            self._drop(next(iter(self._sounds)))

    def cut(self, item_id: str, size: int) -> None:
        """Cuts an item's sound to ``size`` bytes, because the rest was never heard."""
        if item_id in self._durations_ms:
            self._hear(item_id, size)
            self._durations_ms[item_id] = min(self._durations_ms[item_id], size // BYTES_PER_MS)
        if item_id in self._sounds:
            whole = self._sounds[item_id]
            self._sounds[item_id] = first_of(whole, size)
            self._hold(self._sounds[item_id])
            self._release(whole)

    def clear(self) -> None:
        """Forgets everything, because the conversation is over."""
        self._count(-self._kept_bytes)
        self._sounds.clear()
        self._came_ms.clear()
        self._holders.clear()

    def forget(self, item_id: str) -> None:
        """Forgets an item."""
        self._drop(item_id)
        self._durations_ms.pop(item_id, None)
        self._words.pop(item_id, None)
        self._spoken.pop(item_id, None)

    def pieces(self, item_id: object) -> Sequence[bytes]:
        """The sound of an item in pieces; none if it is not kept any more."""
        return self._sounds.get(str(item_id), _NOTHING)

    def sound(self, item_id: object) -> bytes:
        """The sound of an item; empty if it is not kept any more."""
        return b"".join(self.pieces(item_id))

    def duration_ms(self, item_id: object) -> int:
        """How long the sound of an item is or was, in milliseconds."""
        return self._durations_ms.get(str(item_id), 0)

    def understand(self, item_id: str, words: str) -> None:
        """Remembers what was understood in an item's sound."""
        if item_id in self._durations_ms:
            self._words[item_id] = words

    def note_spoken(
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

    def _hold(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self._holders[id(piece)] += 1
            if self._holders[id(piece)] == 1:
                self._count(len(piece))

    def _drop_before(self, oldest_ms: int, repeated: set[int]) -> None:
        """Drops what came before a time; pieces that are ``repeated`` take no memory of their own, and stay."""
        for item_id, pieces in tuple(self._sounds.items()):
            if self._came_ms[item_id] < oldest_ms and not repeated.issuperset(map(id, pieces)):
                self._drop(item_id)

    def _drop(self, item_id: str) -> None:
        self._came_ms.pop(item_id, None)
        self._release(self._sounds.pop(item_id, _NOTHING))

    def _release(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self._holders[id(piece)] -= 1
            if not self._holders[id(piece)]:
                del self._holders[id(piece)]
                self._count(-len(piece))

    def _count(self, size: int) -> None:
        self._kept_bytes += size
        self._budget.charge(size)
