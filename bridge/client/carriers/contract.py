"""What the other end of a carrier's dialect is: a call with a buffer, marks, flow control and complaints.

Pure, like the dialects: ``speak``, ``press``, ``receive`` and ``play`` return the messages that go to the bridge. What
the bridge does wrong is kept in ``complaints``, by the carrier's own number or name for it. Everything here is written
from the carriers' references, and nothing from the bridge's dialects.
"""

import json
from abc import ABC, abstractmethod
from binascii import a2b_base64, b2a_base64
from collections import deque
from typing import Any, Protocol

from bridge.wire.audio import G711_ALAW, G711_ULAW, AudioFormat

__all__ = [
    "FRAME_MS",
    "Buffer",
    "BufferingCarrier",
    "SimulatedCarrier",
    "in_base64",
    "out_of_base64",
    "silence_of",
    "text_of",
]

FRAME_MS = 20
_SILENCE = {G711_ULAW: b"\xff", G711_ALAW: b"\xd5"}


class SimulatedCarrier(Protocol):
    """A carrier with one call; the caller's sound is in its ``audio_format``, and the bridge's in ``answer_format``."""

    audio_format: AudioFormat
    answer_format: AudioFormat
    complaints: list[str]
    has_hung_up: bool
    """The bridge has ended the call."""

    @property
    def late_frames(self) -> int:
        """Frames that were not there in time, though more of the same answer came."""
        ...

    def start(self) -> list[str | bytes]:
        """What it says when it is connected."""
        ...

    def speak(self, sound: bytes) -> list[str | bytes]:
        """20 ms of the caller's sound."""
        ...

    def press(self, key: str) -> list[str | bytes]:
        """The caller presses a key."""
        ...

    def receive(self, message: str | bytes) -> list[str | bytes]:
        """What the bridge says, and the answer to it."""
        ...

    def play(self) -> tuple[bytes, list[str | bytes]]:
        """20 ms pass: what the caller hears, and what there is to tell the bridge about it."""
        ...

    def hang_up(self) -> list[str | bytes]:
        """The caller hangs up; closing follows."""
        ...


def silence_of(audio_format: AudioFormat) -> bytes:
    """20 ms without sound."""
    return _SILENCE.get(audio_format, b"\0") * audio_format.size_of(FRAME_MS)


class Buffer:
    """What waits to be played to the caller, with the marks in it."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.late_frames = 0
        self._format = audio_format
        self._silence = silence_of(audio_format)
        self._items: deque[bytearray | str] = deque()
        self._bytes = 0
        self._gap: int | None = None

    @property
    def queued_ms(self) -> int:
        """How long it will take to play."""
        return self._format.ms_of(self._bytes)

    @property
    def marks(self) -> int:
        """That wait in it."""
        return sum(isinstance(item, str) for item in self._items)

    def add(self, sound: bytes) -> None:
        """Sound behind all that waits."""
        if self._gap is not None and self._gap * FRAME_MS < 500:  # a longer pause is one between two answers
            self.late_frames += self._gap
        self._gap = None
        self._items.append(bytearray(sound))
        self._bytes += len(sound)

    def mark(self, name: str) -> list[str]:
        """A mark behind all that waits; returned if nothing does."""
        if not self._items:
            return [name]
        self._items.append(name)
        return []

    def clear(self) -> list[str]:
        """Throws everything away; the marks that were in it."""
        marks = [item for item in self._items if isinstance(item, str)]
        self._items.clear()
        self._bytes = 0
        self._gap = None
        return marks

    def play(self) -> tuple[bytes, list[str]]:
        """20 ms of it, and the marks behind what has been played completely."""
        frame, marks = bytearray(), []
        while self._items:
            item = self._items[0]
            if isinstance(item, str):
                marks.append(item)
            elif len(frame) == len(self._silence):
                break
            else:
                missing = len(self._silence) - len(frame)
                frame += item[:missing]
                del item[:missing]
                if item:
                    break
            self._items.popleft()
        self._bytes -= len(frame)
        if frame:
            self._gap = 0 if not self._items else None
        elif self._gap is not None:
            self._gap += 1
        return bytes(frame + self._silence[len(frame) :]), marks


class BufferingCarrier(ABC):
    """What carriers with a buffer have in common: messages that are numbered, sound that is played from the buffer."""

    no_sound = "payload is not base64"
    """The complaint about it."""

    def __init__(self, audio_format: AudioFormat, answer_format: AudioFormat | None = None) -> None:
        self.audio_format = audio_format
        self.answer_format = answer_format or audio_format
        self.complaints: list[str] = []
        self.has_hung_up = False
        self.keys = ""
        """That the bridge has pressed."""
        self.buffer = Buffer(self.answer_format)
        self._number = self._chunk = 0

    @property
    def late_frames(self) -> int:
        """That the buffer missed."""
        return self.buffer.late_frames

    @abstractmethod
    def echo(self, marks: list[str]) -> list[str | bytes]:
        """What is said when these marks were reached."""

    def play(self) -> tuple[bytes, list[str | bytes]]:
        """A frame, and the marks behind it."""
        frame, marks = self.buffer.play()
        return frame, self.echo(marks)

    def hang_up(self) -> list[str | bytes]:
        """There is no word for it: the socket is closed."""
        return []

    def add(self, payload: object) -> None:
        """Puts sound in base64 into the buffer, or complains."""
        sound = out_of_base64(payload)
        if sound is None:
            self.complaints.append(self.no_sound)
        else:
            self.buffer.add(sound)

    def next_number(self) -> int:
        """Of a message."""
        self._number += 1
        return self._number

    def next_chunk(self) -> int:
        """Of a piece of sound."""
        self._chunk += 1
        return self._chunk


def in_base64(sound: bytes) -> str:
    """As carriers write sound into JSON."""
    return b2a_base64(sound, newline=False).decode()


def out_of_base64(payload: object) -> bytes | None:
    """The sound in a field; None if it is none."""
    try:
        return a2b_base64(str(payload), strict_mode=True)
    except ValueError:
        return None


def text_of(said: dict[str, Any]) -> str:
    """A message as it goes over the wire."""
    return json.dumps(said, separators=(",", ":"))
