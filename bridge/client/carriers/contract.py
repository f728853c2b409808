"""The contract of simulated carriers: the other end of a carrier's dialect, with one call.

A carrier does no I/O: ``speak``, ``press``, ``receive`` and ``play`` return the messages that go to the bridge. What
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
    """A carrier with one call.

    The caller's sound is in its ``audio_format``, the bridge's in its ``answer_format``.
    """

    audio_format: AudioFormat
    answer_format: AudioFormat
    complaints: list[str]
    has_hung_up: bool
    """Whether the bridge has ended the call."""

    @property
    def late_frames(self) -> int:
        """The number of frames that were missing when they were due, although more of the same answer came."""
        ...

    def opening_messages(self) -> list[str | bytes]:
        """Returns the messages that the carrier sends when it is connected."""
        ...

    def audio_messages(self, sound: bytes) -> list[str | bytes]:
        """Returns the messages for 20 ms of the caller's sound."""
        ...

    def key_messages(self, key: str) -> list[str | bytes]:
        """Returns the messages for a key that the caller presses."""
        ...

    def receive_bridge_message(self, message: str | bytes) -> list[str | bytes]:
        """Takes a message of the bridge, and returns the answer to it."""
        ...

    def play_frame(self) -> tuple[bytes, list[str | bytes]]:
        """Lets 20 ms pass. Returns what the caller hears, and the messages about it for the bridge."""
        ...

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns the messages for the caller's hang-up. The connection is closed after them."""
        ...


def silence_of(audio_format: AudioFormat) -> bytes:
    """Returns 20 ms of silence."""
    return _SILENCE.get(audio_format, b"\0") * audio_format.size_of(FRAME_MS)


class Buffer:
    """The sound that waits to be played to the caller, with the marks in it."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.late_frames = 0
        self._format = audio_format
        self._silence = silence_of(audio_format)
        self._items: deque[bytearray | str] = deque()
        self._bytes = 0
        self._gap: int | None = None

    @property
    def queued_ms(self) -> int:
        """How long it will take to play the sound that waits, in milliseconds."""
        return self._format.ms_of(self._bytes)

    @property
    def marks(self) -> int:
        """The number of marks that wait."""
        return sum(isinstance(item, str) for item in self._items)

    def add_sound(self, sound: bytes) -> None:
        """Adds sound behind all that waits."""
        if self._gap is not None and self._gap * FRAME_MS < 500:  # a longer pause lies between two answers
            self.late_frames += self._gap
        self._gap = None
        self._items.append(bytearray(sound))
        self._bytes += len(sound)

    def mark(self, name: str) -> list[str]:
        """Adds a mark behind all that waits. If nothing waits, it returns the mark."""
        if not self._items:
            return [name]
        self._items.append(name)
        return []

    def clear(self) -> list[str]:
        """Throws everything away, and returns the marks that were in it."""
        marks = [item for item in self._items if isinstance(item, str)]
        self._items.clear()
        self._bytes = 0
        self._gap = None
        return marks

    def play_frame(self) -> tuple[bytes, list[str]]:
        """Plays 20 ms, and returns them with the marks behind what has been played completely."""
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
    """The base of carriers with a buffer: they number their messages, and play sound from the buffer."""

    no_sound = "payload is not base64"
    """The complaint about sound that is not base64."""

    def __init__(self, audio_format: AudioFormat, answer_format: AudioFormat | None = None) -> None:
        self.audio_format = audio_format
        self.answer_format = answer_format or audio_format
        self.complaints: list[str] = []
        self.has_hung_up = False
        self.keys = ""
        """The keys that the bridge has pressed."""
        self.buffer = Buffer(self.answer_format)
        self._number = self._chunk = 0

    @property
    def late_frames(self) -> int:
        """The number of frames that were missing when they were due."""
        return self.buffer.late_frames

    @abstractmethod
    def mark_messages(self, marks: list[str]) -> list[str | bytes]:
        """Returns the messages for marks that were reached."""

    def play_frame(self) -> tuple[bytes, list[str | bytes]]:
        """Plays a frame, and returns it with the messages for the marks behind it."""
        frame, marks = self.buffer.play_frame()
        return frame, self.mark_messages(marks)

    def hang_up_messages(self) -> list[str | bytes]:
        """Returns nothing: there is no message for a hang-up, and the socket is closed."""
        return []

    def buffer_payload(self, payload: object) -> None:
        """Puts sound in base64 into the buffer. If it is not base64, it is a complaint."""
        sound = out_of_base64(payload)
        if sound is None:
            self.complaints.append(self.no_sound)
        else:
            self.buffer.add_sound(sound)

    def next_number(self) -> int:
        """Returns the number of the next message."""
        self._number += 1
        return self._number

    def next_chunk(self) -> int:
        """Returns the number of the next piece of sound."""
        self._chunk += 1
        return self._chunk


def in_base64(sound: bytes) -> str:
    """Returns sound in the form in which carriers write it into JSON."""
    return b2a_base64(sound, newline=False).decode()


def out_of_base64(payload: object) -> bytes | None:
    """Returns the sound in a field; None if there is none."""
    try:
        return a2b_base64(str(payload), strict_mode=True)
    except ValueError:
        return None


def text_of(said: dict[str, Any]) -> str:
    """Returns a message as the JSON text that goes over the wire."""
    return json.dumps(said, separators=(",", ":"))
