"""What is spoken in benchmarks: a person, a few seconds long."""

import wave
from functools import cache
from pathlib import Path

from bridge.media.opus import FRAME_MS, new_encoder
from bridge.wire.audio import SESSION_HZ

__all__ = ["FRAME_BYTES", "opus_speech", "speech"]

_SPEECH = Path(__file__).parents[2] / "tests" / "data" / "speech.wav"

FRAME_BYTES = 2 * SESSION_HZ * FRAME_MS // 1000
"""Of 20 ms of PCM16 at 24 kHz, mono."""


@cache
def speech() -> bytes:
    """A few seconds of a person speaking, PCM16 24 kHz mono."""
    with wave.open(str(_SPEECH)) as source:
        return bytes(source.readframes(source.getnframes()))


@cache
def opus_speech() -> tuple[bytes, ...]:
    """That speech as Opus packets of 20 ms, 32 kbit/s with in-band FEC."""
    encoder, pcm = new_encoder(SESSION_HZ), speech()
    return tuple(encoder.encode(pcm[at : at + FRAME_BYTES]) for at in range(0, len(pcm) - FRAME_BYTES, FRAME_BYTES))
