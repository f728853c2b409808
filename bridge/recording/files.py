"""The files of one recording. The recorder's thread writes them, and they get their names when they are complete.

Names are made of the bridge's own ids, below a directory that was opened once. A file is new (``O_EXCL``), is no link
(``O_NOFOLLOW``) and is its owner's alone (0600). It is called ``.part`` until its last byte is on the disk. Whoever
writes it holds a lock on it, so that what a killed process has left can be told from what another process is writing.
If only those who have a key may read the files, they are encrypted before they reach the disk (see ``age``).
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
"""The end of the name of a file which says that a complete recording is to be uploaded."""
_BITRATE = 48_000
_FRAME_BYTES = 2 * 2 * SESSION_HZ * FRAME_MS // 1000
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPUS_HZ = 48_000
_MAX_WAV_BYTES = 0xFFFFFFFF - 36  # players read a longer file to its end all the same


class _Output(Protocol):
    def write(self, data: bytes, /) -> object: ...


class _Sound(Protocol):
    def write(self, stereo: bytes) -> None: ...

    def flush(self) -> None: ...

    def end(self) -> None: ...


class RecordingFiles:
    """The files of one recording. One thread makes, writes and ends them; every method may raise ``OSError``."""

    def __init__(self, folder: int, name: str, sound_format: Format, recipients: Sequence[Recipient] = ()) -> None:
        """Makes the files. If there are ``recipients``, all is encrypted for them, and names end in ``.age``."""
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
        """Writes more sound and lines. When this returns, nothing of it is lost with the process."""
        if left:
            sides = [np.frombuffer(side, "<i2") for side in (left, right)]
            self._sound.write(np.stack(sides, axis=1).tobytes())
            self._sound.flush()
        self._lines.write(lines)
        for file in self._files.values():
            file.flush()

    def end(self, note: bytes | None = None) -> None:
        """Writes all to the disk, and then gives the files their names.

        If there is a ``note``, it is left beside the files first.
        """
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
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file = self._files[name] = os.fdopen(descriptor, "wb")
        if not self._recipients:
            return file
        self._ciphers.append(AgeWriter(file, self._recipients))
        return self._ciphers[-1]


def leave_note(folder: int, stem: str, note: bytes) -> None:
    """Writes ``STEM.upload``, whole or not at all.

    The note holds what is to be said of a recording when it has been uploaded.
    """
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
    """Returns the first 44 bytes of a WAV file with ``size`` bytes of samples."""
    size = min(size, _MAX_WAV_BYTES)
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, SESSION_HZ, 4 * SESSION_HZ, 4, 16)
    return struct.pack("<4sI4s", b"RIFF", size + 36, b"WAVE") + chunk + struct.pack("<4sI", b"data", size)


class _Ogg:
    """Writes Opus at 48 kbit/s."""

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
            self._file.write(self._stream.write_packet(self._encoder.encode(bytes(rest[at : at + _FRAME_BYTES]))))
        del rest[: whole * _FRAME_BYTES]
        self._frames += whole

    def flush(self) -> None:
        self._file.write(self._stream.flush())

    def end(self) -> None:
        samples = self._frames * _OPUS_HZ * FRAME_MS // 1000 + len(self._rest) // 4 * _OPUS_HZ // SESSION_HZ
        self.write(bytes(2 * _FRAME_BYTES - len(self._rest)))  # what the encoder still holds comes out with silence
        self._file.write(self._stream.end(samples))


class _Wav:
    """Writes PCM16. The length stands at the front, and is known at the end, so it is written into ``seekable`` then.

    Without ``seekable``, as in a stream, the head says that the file is as long as a file can be.
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
