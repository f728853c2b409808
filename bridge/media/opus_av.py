"""Opus by PyAV's codec contexts: the fallback if libopus itself cannot be reached.

FFmpeg's wrapper always decodes to 48 kHz and knows no FEC, and a packet of the TOC byte alone makes it conceal 20 ms.
"""

from collections.abc import Iterator

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.error import FFmpegError

from bridge.errors import MediaError
from bridge.media.resample import Resampler

__all__ = ["AvDecoder", "AvEncoder"]

_AV_HZ = 48_000
_FRAME_MS = 20
_TOC_CELT_FULLBAND_20_MS = b"\xf8"  # RFC 6716 section 3.1: configuration 31, mono, one frame


class AvDecoder:
    """FFmpeg's libopus decoder and a resampler."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._resampler = Resampler(_AV_HZ, rate_hz)
        self._context = _new_decoder()
        self._toc = _TOC_CELT_FULLBAND_20_MS

    def decode(self, payload: bytes) -> bytes:
        """Decodes one packet; raises ``MediaError`` if it is not Opus."""
        if not payload:  # FFmpeg would take it for the end of the stream, for good
            raise MediaError("libopus: an empty packet")
        try:
            pcm = b"".join(_mono(frame) for frame in self._context.decode(av.Packet(payload)))
        except FFmpegError as error:
            self._context = _new_decoder()
            raise MediaError(f"libopus: {error}") from error
        self._toc = bytes([payload[0] & 0xFC])
        return self._resampler.push(pcm)

    def has_fec(self, payload: bytes) -> bool:
        """Always False, because FFmpeg cannot read the in-band FEC."""
        return False

    def recover(self, payload: bytes, samples: int) -> bytes:
        """Concealed: FFmpeg cannot read the in-band FEC."""
        return self.conceal(samples)

    def conceal(self, samples: int) -> bytes:
        """Returns a guess at ``samples`` of lost sound; repeated guesses fade out."""
        wanted = 2 * samples
        pcm = b""
        while len(pcm) < wanted:
            piece = self.decode(self._toc)
            if not piece:
                break
            pcm += piece
        return pcm[:wanted].ljust(wanted, b"\0")


class AvEncoder:
    """FFmpeg's libopus encoder."""

    def __init__(self, rate_hz: int, *, bitrate: int) -> None:
        context = av.CodecContext.create("libopus", "w")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate = rate_hz
        context.format = "s16"
        context.layout = "mono"
        context.bit_rate = bitrate
        context.options = {"application": "audio", "fec": "1", "packet_loss": "5", "frame_duration": str(_FRAME_MS)}
        self._context = context
        self._samples = rate_hz * _FRAME_MS // 1000
        self._pts = 0
        self._pending: Iterator[bytes] = iter(())

    def encode(self, pcm: bytes) -> bytes:
        """Encodes one frame of 20 ms as an Opus packet."""
        if len(pcm) != 2 * self._samples:
            raise MediaError(f"an Opus frame takes {2 * self._samples} bytes of PCM16, not {len(pcm)}")
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, np.int16).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = self._context.sample_rate
        frame.pts = self._pts
        self._pts += self._samples
        return b"".join(bytes(packet) for packet in self._context.encode(frame))

    def set_packet_loss(self, percent: int) -> None:
        """FFmpeg takes the loss at the start only."""

    def set_dtx(self, is_on: bool) -> None:
        """FFmpeg takes DTX at the start only."""

    def limit_bitrate(self, bitrate: int) -> None:
        """FFmpeg takes the bitrate at the start only."""

    def set_complexity(self, complexity: int) -> None:
        """FFmpeg takes the complexity at the start only."""


def _new_decoder() -> AudioCodecContext:
    context = av.CodecContext.create("libopus", "r")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate = _AV_HZ
    context.layout = "mono"
    return context


def _mono(frame: av.AudioFrame) -> bytes:
    samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
    return bytes(samples.mean(axis=1).astype(np.int16).tobytes() if samples.shape[1] > 1 else samples.tobytes())
