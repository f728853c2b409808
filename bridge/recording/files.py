"""The files of one recording, written by the recorder's thread: complete, or not under their name.

Names are made of our own ids, below a directory that was opened once. A file is new (``O_EXCL``), is no link
(``O_NOFOLLOW``) and is its owner's alone (0600); it is called ``.part`` until its last byte is on the disk. Whoever
writes it holds a lock on it, so that what a killed process has left can be told from what another one is writing.
If somebody is to read them who has a key, they are encrypted before they reach the disk (see ``age``).
"""

import contextlib
import fcntl
import os
import secrets
import struct
from collections.abc import Sequence
from typing import IO, Literal, Protocol

import numpy as np

from bridge.media.ogg import OggOpus
from bridge.media.opus import FRAME_MS, OpusEncoder, find_libopus
from bridge.recording.age import AgeWriter, Recipient
from bridge.wire.audio import SESSION_HZ

__all__ = ["NOTE_SUFFIX", "Format", "RecordingFiles", "leave_note", "wav_head"]

Format = Literal["ogg", "wav"]
NOTE_SUFFIX = ".upload"
"""Of the file that says of a complete recording that it is to be uploaded."""
_BITRATE = 48_000
_FRAME_BYTES = 2 * 2 * SESSION_HZ * FRAME_MS // 1000
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPUS_HZ = 48_000
_MAX_WAV_BYTES = 0xFFFFFFFF - 36  # a longer one is read to its end all the same


class _Output(Protocol):
    def write(self, data: bytes, /) -> object: ...


class _Sound(Protocol):
    def write(self, stereo: bytes) -> None: ...

    def flush(self) -> None: ...

    def end(self) -> None: ...


class RecordingFiles:
    """Made, written and ended in one thread; every method may raise ``OSError``."""

    def __init__(self, folder: int, name: str, sound_format: Format, recipients: Sequence[Recipient] = ()) -> None:
        """With ``recipients`` all is encrypted for them, and names end in ``.age``."""
        self._folder = folder
        self._recipients = recipients
        self._files: dict[str, IO[bytes]] = {}
        self._ciphers: list[AgeWriter] = []
        lib = find_libopus() if sound_format == "ogg" else None
        suffix = ".age" if recipients else ""
        self.names = (f"{name}.{'wav' if lib is None else 'ogg'}{suffix}", f"{name}.jsonl{suffix}")
        try:
            sound, self._lines = (self._open(file_name) for file_name in self.names)
            if lib is not None:
                encoder = OpusEncoder(lib, SESSION_HZ, bitrate=_BITRATE, channels=2)
                self._sound: _Sound = _Ogg(sound, encoder)
            else:
                self._sound = _Wav(sound, self._files[self.names[0]] if not recipients else None)
        except BaseException:
            self.abandon()
            raise

    def write(self, left: bytes, right: bytes, lines: bytes) -> None:
        """More of both; when this returns, nothing of it is lost with the process."""
        if left:
            sides = [np.frombuffer(side, "<i2") for side in (left, right)]
            self._sound.write(np.stack(sides, axis=1).tobytes())
            self._sound.flush()
        self._lines.write(lines)
        for file in self._files.values():
            file.flush()

    def end(self, note: bytes | None = None) -> None:
        """Puts the last byte on the disk, and then the files under their names; ``note`` is left beside them first."""
        self._sound.end()
        for cipher in self._ciphers:
            cipher.end()
        if note is not None:
            leave_note(self._folder, self.names[0].partition(".")[0], note)
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        for name in self.names:
            os.rename(f"{name}.part", name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)

    def abandon(self) -> None:
        """Leaves what there is as ``.part``; never raises."""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()

    def _open(self, name: str) -> _Output:
        descriptor = os.open(f"{name}.part", _FLAGS, 0o600, dir_fd=self._folder)
        with contextlib.suppress(OSError):  # there are file systems without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file = self._files[name] = os.fdopen(descriptor, "wb")
        if not self._recipients:
            return file
        self._ciphers.append(AgeWriter(file, self._recipients))
        return self._ciphers[-1]


def leave_note(folder: int, stem: str, note: bytes) -> None:
    """Writes ``STEM.upload``, whole or not at all: what is to be said of a recording when it has been uploaded."""
    part = f".{stem}.upload"
    descriptor = os.open(
        part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(note)
        file.flush()
        os.fsync(file.fileno())
    os.rename(part, f"{stem}{NOTE_SUFFIX}", src_dir_fd=folder, dst_dir_fd=folder)


def wav_head(size: int) -> bytes:
    """What a file of ``size`` bytes of samples begins with, 44 bytes."""
    size = min(size, _MAX_WAV_BYTES)
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, SESSION_HZ, 4 * SESSION_HZ, 4, 16)
    return struct.pack("<4sI4s", b"RIFF", size + 36, b"WAVE") + chunk + struct.pack("<4sI", b"data", size)


class _Ogg:
    """Opus at 48 kbit/s."""

    def __init__(self, file: _Output, encoder: OpusEncoder) -> None:
        self._file = file
        self._encoder = encoder
        self._stream = OggOpus(channels=2, rate_hz=SESSION_HZ, serial=secrets.randbits(32))
        self._rest = bytearray()
        self._frames = 0
        file.write(self._stream.head())

    def write(self, stereo: bytes) -> None:
        rest = self._rest
        rest += stereo
        whole = len(rest) // _FRAME_BYTES
        for at in range(0, whole * _FRAME_BYTES, _FRAME_BYTES):
            self._file.write(self._stream.write(self._encoder.encode(bytes(rest[at : at + _FRAME_BYTES]))))
        del rest[: whole * _FRAME_BYTES]
        self._frames += whole

    def flush(self) -> None:
        self._file.write(self._stream.flush())

    def end(self) -> None:
        samples = self._frames * _OPUS_HZ * FRAME_MS // 1000 + len(self._rest) // 4 * _OPUS_HZ // SESSION_HZ
        self.write(bytes(2 * _FRAME_BYTES - len(self._rest)))  # what the encoder still holds comes out with silence
        self._file.write(self._stream.end(samples))


class _Wav:
    """PCM16; how long it is stands at the front, and is known at the end, when ``seekable`` is written there.

    Without it, as in a stream, the file is said to be as long as a file can be.
    """

    def __init__(self, file: _Output, seekable: IO[bytes] | None) -> None:
        self._file = file
        self._seekable = seekable
        self._size = 0
        file.write(wav_head(0 if seekable is not None else _MAX_WAV_BYTES))

    def write(self, stereo: bytes) -> None:
        self._file.write(stereo)
        self._size += len(stereo)

    def flush(self) -> None:
        pass

    def end(self) -> None:
        if self._seekable is not None:
            self._seekable.seek(0)
            self._seekable.write(wav_head(self._size))
