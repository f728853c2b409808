"""Sound for listeners that want few bytes: PCM in, packets of Opus or frames of MP3 out, each good by itself."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from bridge.media.opus import FRAME_MS, LEAST_COMPLEXITY, Encoder, new_encoder
from bridge.wire.audio import MP3_HZ, OPUS, PCM16, AudioFormat, mp3_at, pcm16_at

__all__ = ["Compressor", "Mp3Compressor", "OpusCompressor", "new_compressor"]

_OPUS_BITRATE = 32_000
_MP3_BITRATES = {24_000: 48_000, 44_100: 64_000}


class Compressor(Protocol):
    """Takes PCM16 and gives packets."""

    source: AudioFormat
    samples: int
    """The number of samples in one packet, at the rate of the compressed format."""

    def push(self, pcm: bytes) -> list[bytes]:
        """Takes any number of samples; returns the packets that are complete."""
        ...

    def end(self) -> list[bytes]:
        """Returns what was held back, filled up with silence, and begins anew."""
        ...


class OpusCompressor:
    """Speech at 32 kbit/s, 20 ms a packet. Nothing is lost on the way to a listener, so there is no FEC."""

    def __init__(self) -> None:
        self.source = PCM16
        self.samples = OPUS.rate_hz * FRAME_MS // 1000
        self._encoder: Encoder | None = None  # until there is something to encode
        self._frame_bytes = PCM16.size_of(FRAME_MS)
        self._rest = bytearray()

    def push(self, pcm: bytes) -> list[bytes]:
        """Takes any number of samples; returns the packets that are complete."""
        rest, size = self._rest, self._frame_bytes
        rest += pcm
        packets = []
        while len(rest) >= size:
            if self._encoder is None:
                self._encoder = _new_opus()
            packets.append(self._encoder.encode(bytes(rest[:size])))
            del rest[:size]
        return packets

    def end(self) -> list[bytes]:
        """Returns the last packet, filled up with silence."""
        return self.push(bytes(self._frame_bytes - len(self._rest))) if self._rest else []


def _new_opus() -> Encoder:
    encoder = new_encoder(PCM16.rate_hz, bitrate=_OPUS_BITRATE)
    encoder.set_packet_loss(0)
    encoder.set_complexity(LEAST_COMPLEXITY)
    return encoder


class Mp3Compressor:
    """libmp3lame without a bit reservoir, so that a frame needs no other: 48 kbit/s at 24 kHz, 64 at 44.1."""

    def __init__(self, rate_hz: int) -> None:
        self.source = pcm16_at(rate_hz)
        self._context: AudioCodecContext | None = None
        self._rest = bytearray()
        self._pts = 0
        self.samples = 1152 if rate_hz > 24_000 else 576

    def push(self, pcm: bytes) -> list[bytes]:
        """Takes any number of samples; returns the frames that are complete."""
        rest, size = self._rest, 2 * self.samples
        rest += pcm
        packets: list[bytes] = []
        while len(rest) >= size:
            packets += self._encode(bytes(rest[:size]))
            del rest[:size]
        return packets

    def end(self) -> list[bytes]:
        """Returns what the encoder held back; the last frame is filled up with silence."""
        packets = self.push(bytes(2 * self.samples - len(self._rest))) if self._rest else []
        context, self._context = self._context, None
        if context is not None:
            packets += [bytes(packet) for packet in context.encode(None)]
        return packets

    def _encode(self, pcm: bytes) -> list[bytes]:
        context = self._context
        if context is None:
            context = self._context = _new_mp3(self.source.rate_hz)
            self._pts = 0
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, np.int16).reshape(1, -1), format="s16p", layout="mono")
        frame.sample_rate = self.source.rate_hz
        frame.pts = self._pts
        self._pts += self.samples
        return [bytes(packet) for packet in context.encode(frame)]


def _new_mp3(rate_hz: int) -> AudioCodecContext:
    context = av.CodecContext.create("libmp3lame", "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate = rate_hz
    context.format = "s16p"
    context.layout = "mono"
    context.bit_rate = _MP3_BITRATES[rate_hz]
    context.options = {"reservoir": "0"}
    return context


_COMPRESSORS: dict[AudioFormat, Callable[[], Compressor]] = {
    OPUS: OpusCompressor,
    **{mp3_at(rate_hz): partial(Mp3Compressor, rate_hz) for rate_hz in MP3_HZ},
}


def new_compressor(target: AudioFormat) -> Compressor:
    """Returns a compressor to ``target``, which is a format of ``bridge.wire.audio.COMPRESSED``."""
    return _COMPRESSORS[target]()
