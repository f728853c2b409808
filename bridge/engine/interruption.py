"""Whether sound during an answer is somebody who interrupts, or an echo, or a word like "mhm" that only says: go on.

A start of speech is held back until that is known; the answer goes on meanwhile. By default nothing is held back.

    held ──not an echo, and longer than such a word──▶ released: the caller has interrupted
      ├────other words──────────────────────────────▶ released
      └────an echo to its end, or only such words───▶ dropped: nothing has happened
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from bridge.engine.echo import WINDOW_MS, explained
from bridge.engine.recordings import BYTES_PER_MS
from bridge.engine.turn_model import TurnModel
from bridge.engine.turns import SpeechStopped

__all__ = ["InterruptionGuard", "TurnTaking", "Verdict"]

_ECHO = 0.53  # of the energy: an echo is above it even in a room that rings, a caller over the echo is below it
_FIRST_MS = 400  # with the padding before speech that is enough to compare
_JUDGE_MS = 200
_LONGEST_BACKCHANNEL_MS = 1000


@dataclass(frozen=True, slots=True)
class TurnTaking:
    """How an engine takes turns, beyond what a session's ``turn_detection`` says."""

    has_echo_guard: bool = False
    """Whether an echo of the answer in the caller's microphone does not interrupt it."""
    backchannels: tuple[str, ...] = ()
    """Words that do not cut an answer."""
    model: TurnModel | None = None
    """The model that says whether a turn is complete, for ``semantic_vad``."""


class Verdict(Enum):
    """What becomes of a start of speech."""

    HOLD = "hold"
    RELEASE = "release"
    DROP = "drop"


class InterruptionGuard:
    """See the module; for one conversation. Times are milliseconds of the caller's sound."""

    def __init__(
        self, taking: TurnTaking, *, is_answering: Callable[[], bool], played: Callable[[], bytes], can_hear: bool
    ) -> None:
        """``played`` returns the answer around what is being played now, PCM16 24 kHz mono."""
        self.model = taking.model
        """See ``TurnTaking``."""
        self._has_echo_guard = taking.has_echo_guard
        self._words = frozenset(map(_plain, taking.backchannels)) if can_hear else frozenset[str]()
        self._is_answering = is_answering
        self._played = played
        self._start_ms: int | None = None
        self._onset_ms = 0
        self._judged_ms = 0
        self._is_echo: bool | None = None
        self._awaits_words = False
        self.stop: SpeechStopped | None = None
        """The end of what is held, if it has come."""

    @property
    def is_holding(self) -> bool:
        """Whether a start of speech is held back."""
        return self._start_ms is not None

    def hold(self, start_ms: int, now_ms: int) -> bool:
        """Whether the speech that began at ``start_ms`` is held back, because an answer is given or heard."""
        if not (self._has_echo_guard or self._words) or not self._is_answering():
            return False
        self._start_ms, self._onset_ms, self._judged_ms = start_ms, now_ms, now_ms
        self._is_echo = None if self._has_echo_guard else False
        return True

    def judge(self, buffer: bytearray, now_ms: int) -> Verdict:
        """What becomes of it, now that ``buffer`` has the caller's sound up to ``now_ms``."""
        if self._has_echo_guard and now_ms - self._judged_ms >= (_JUDGE_MS if self._is_echo is not None else _FIRST_MS):
            self._judged_ms = now_ms
            self._is_echo = self._sounds_like_echo(buffer)
        if self._is_echo is None or self._is_echo:
            return Verdict.HOLD
        may_be_word = bool(self._words) and now_ms - self._onset_ms < _LONGEST_BACKCHANNEL_MS
        return Verdict.HOLD if may_be_word or self._awaits_words else Verdict.RELEASE

    def await_words(self) -> None:
        """Notes that ``judge_words`` is going to be asked."""
        self._awaits_words = bool(self._words)

    def judge_words(self, text: str) -> Verdict:
        """What becomes of it, now that the words are known; none, if nobody spoke."""
        self._awaits_words = False
        if self._is_echo or not self._words:
            return Verdict.HOLD
        words = [_plain(word) for word in text.split()]
        is_backchannel = all(word in self._words for word in words if word) or _plain(text) in self._words
        return Verdict.DROP if is_backchannel else Verdict.RELEASE

    def end(self, edge: SpeechStopped, buffer: bytearray) -> Verdict:
        """What becomes of it, now that the speech has stopped."""
        if self._is_echo is None:
            self._is_echo = self._sounds_like_echo(buffer)
        if self._is_echo:
            return Verdict.DROP
        if self._awaits_words:
            self.stop = edge
            return Verdict.HOLD
        return Verdict.RELEASE

    def release(self) -> int:
        """Ends the holding; returns when the speech began."""
        start_ms = self._start_ms
        assert start_ms is not None, "something is held"
        self.forget()
        return start_ms

    def forget(self) -> None:
        """Holds nothing any more."""
        self._start_ms = self.stop = None
        self._awaits_words = False

    def _sounds_like_echo(self, buffer: bytearray) -> bool:
        return explained(bytes(buffer[-WINDOW_MS * BYTES_PER_MS :]), self._played()) >= _ECHO


def _plain(word: str) -> str:
    return "".join(filter(str.isalnum, word.lower()))
