"""What was heard and said in one conversation, by item: the sound, and the words that were understood in it."""

from collections import OrderedDict

from bridge.wire.audio import SESSION_HZ

__all__ = ["BYTES_PER_MS", "Recordings"]

BYTES_PER_MS = 2 * SESSION_HZ // 1000
"""Of all sound inside the engine: PCM16 24 kHz mono."""

_MAX_KEPT_MS = 1_200_000  # the oldest goes first


class Recordings:
    """Bounded: of a long conversation the oldest sounds are forgotten, and the words with them."""

    def __init__(self) -> None:
        self._sounds: OrderedDict[str, bytes] = OrderedDict()
        self._words: dict[str, str] = {}
        self._kept_bytes = 0

    def keep(self, item_id: str, sound: bytes) -> None:
        """Remembers the whole sound of an item."""
        self._kept_bytes += len(sound) - len(self._sounds.pop(item_id, b""))
        self._sounds[item_id] = sound
        while self._kept_bytes > _MAX_KEPT_MS * BYTES_PER_MS:
            self.forget(next(iter(self._sounds)))

    def cut(self, item_id: str, size: int) -> None:
        """Of an item's sound, what is behind ``size`` bytes was never heard."""
        if item_id in self._sounds:
            kept = self._sounds[item_id][:size]
            self._kept_bytes += len(kept) - len(self._sounds[item_id])
            self._sounds[item_id] = kept

    def forget(self, item_id: str) -> None:
        """The item is gone."""
        self._kept_bytes -= len(self._sounds.pop(item_id, b""))
        self._words.pop(item_id, None)

    def sound(self, item_id: object) -> bytes:
        """An item's sound, empty where there is none."""
        return self._sounds.get(str(item_id), b"")

    def duration_ms(self, item_id: object) -> int:
        """How long that is."""
        return len(self.sound(item_id)) // BYTES_PER_MS

    def understand(self, item_id: str, words: str) -> None:
        """Remembers what was understood in an item's sound."""
        if item_id in self._sounds:
            self._words[item_id] = words

    def words(self, item_id: object) -> str:
        """What was understood, empty where nothing was."""
        return self._words.get(str(item_id), "")
