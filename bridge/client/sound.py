"""Reads and writes sound files, and finds where in a recording there is something to hear."""

import wave
from itertools import chain
from pathlib import Path

import av
import numpy as np

from bridge.client.address import CallFailed
from bridge.wire.audio import SESSION_HZ

__all__ = ["BYTES_PER_MS", "PHRASE", "is_silent", "read_sound", "sounding_end", "write_sound"]

BYTES_PER_MS = 2 * SESSION_HZ // 1000
PHRASE = str(Path(__file__).parent / "phrase.ogg")
"""1.6 s of speech, "Hello, please count to five.", by the engine's voice with seed 0. No pause in it ends a turn."""

_SILENT = 100  # of 32,768: 50 dB below full scale, under any voice and over the noise of codecs
_STEP_BYTES = 10 * BYTES_PER_MS


def read_sound(path: str) -> bytes:
    """Reads any sound file as PCM16 24 kHz mono; raises ``CallFailed`` if it is none."""
    pcm = bytearray()
    try:
        with av.open(path) as container:
            if not container.streams.audio:
                raise CallFailed(f"There is no sound in {path}.")
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SESSION_HZ)
            for frame in chain(container.decode(audio=0), (None,)):
                for converted in resampler.resample(frame):
                    pcm += converted.to_ndarray().tobytes()
    except av.FFmpegError as error:
        raise CallFailed(f"{path} cannot be read as sound: {error.strerror}.") from None
    if not pcm:
        raise CallFailed(f"There is no sound in {path}.")
    return bytes(pcm)


def write_sound(path: str, pcm: bytes) -> None:
    """Writes PCM16 24 kHz mono as a WAV file; raises ``CallFailed`` if it cannot be written."""
    try:
        with Path(path).open("wb") as file, wave.open(file, "wb") as recording:
            recording.setnchannels(1)
            recording.setsampwidth(2)
            recording.setframerate(SESSION_HZ)
            recording.writeframes(pcm)
    except OSError as error:
        raise CallFailed(f"{path} cannot be written: {error.strerror}.") from None


def is_silent(pcm: bytes) -> bool:
    """Returns whether nothing in the sound can be heard."""
    samples = np.frombuffer(pcm, "<i2")
    return not len(samples) or max(int(samples.max()), -int(samples.min())) < _SILENT


def sounding_end(pcm: bytes) -> int:
    """Returns the offset behind the last 10 ms of ``pcm`` that can be heard; 0 if there are none."""
    starts = range(0, len(pcm), _STEP_BYTES)
    last = next((at for at in reversed(starts) if not is_silent(pcm[at : at + _STEP_BYTES])), None)
    return 0 if last is None else min(len(pcm), last + _STEP_BYTES)
