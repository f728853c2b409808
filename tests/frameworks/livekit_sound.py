"""A microphone and a loudspeaker for an ``AgentSession`` of ``livekit-agents`` that has no room."""

import asyncio

from livekit import rtc
from livekit.agents.voice import io

from tests.frameworks.telling import Told

__all__ = ["OpenMicrophone", "Loudspeaker", "Microphone"]

_RATE_HZ = 24_000
_PIECE_BYTES = 960
_PIECE_S = 0.02
_HEARD_S = 0.5


def _frame(pcm: bytes) -> rtc.AudioFrame:
    return rtc.AudioFrame(pcm, _RATE_HZ, 1, _PIECE_BYTES // 2)


def _pieces(pcm: bytes) -> list[bytes]:
    return [pcm[at : at + _PIECE_BYTES] for at in range(0, len(pcm) - _PIECE_BYTES + 1, _PIECE_BYTES)]


class Microphone(io.AudioInput):
    """What is spoken, at once, and nothing otherwise."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    def speak(self, pcm: bytes) -> None:
        for piece in _pieces(pcm):
            self._frames.put_nowait(_frame(piece))

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()


class OpenMicrophone(io.AudioInput):
    """What is spoken, and silence otherwise, in real time."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._next_s = asyncio.get_running_loop().time()

    def speak(self, pcm: bytes) -> None:
        for piece in _pieces(pcm):
            self._pieces.put_nowait(piece)

    async def __anext__(self) -> rtc.AudioFrame:
        self._next_s += _PIECE_S
        await asyncio.sleep(self._next_s - asyncio.get_running_loop().time())
        return _frame(bytes(_PIECE_BYTES) if self._pieces.empty() else self._pieces.get_nowait())


class Loudspeaker(io.AudioOutput):
    """Plays at once what it gets; while it is ``slow``, it never comes to the end by itself."""

    def __init__(self, told: Told) -> None:
        super().__init__(
            label="loudspeaker", capabilities=io.AudioOutputCapabilities(pause=False), sample_rate=_RATE_HZ
        )
        self.slow = False
        self._told = told
        self._seconds = 0.0
        self._is_capturing = False

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._is_capturing:
            self._is_capturing = True
            self._told.tell("sdk.playing")
        self._seconds += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._is_capturing and not self.slow:
            self._finish(self._seconds, interrupted=False)

    def clear_buffer(self) -> None:
        if self._is_capturing:
            self._finish(min(_HEARD_S, self._seconds), interrupted=True)

    def _finish(self, position_s: float, *, interrupted: bool) -> None:
        self._told.tell("sdk.played", seconds=self._seconds, interrupted=interrupted)
        self._is_capturing, self._seconds = False, 0.0
        self.on_playback_finished(playback_position=position_s, interrupted=interrupted)
