"""Between the PCM that the bridge works with and the formats that events carry, as streams."""

from collections.abc import Callable

from bridge.media import g711
from bridge.media.resample import Resampler
from bridge.wire.audio import G711_ALAW, G711_ULAW, PCM16, SESSION_HZ, AudioFormat

__all__ = ["SoundDecoder", "SoundEncoder"]

_ENCODERS: dict[AudioFormat, Callable[[bytes], bytes]] = {G711_ULAW: g711.encode_ulaw, G711_ALAW: g711.encode_alaw}
_DECODERS: dict[AudioFormat, Callable[[bytes], bytes]] = {G711_ULAW: g711.decode_ulaw, G711_ALAW: g711.decode_alaw}


class SoundEncoder:
    """PCM16 24 kHz mono to one format, as a stream."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._encode = _ENCODERS.get(audio_format)
        self._resampler = None if audio_format is PCM16 else Resampler(SESSION_HZ, audio_format.rate_hz)

    def push(self, pcm: bytes) -> bytes:
        """What is due in the format."""
        if self._resampler is None or self._encode is None:
            return pcm
        return self._encode(self._resampler.push(pcm))

    def flush(self) -> bytes:
        """What the resampler still held."""
        if self._resampler is None or self._encode is None:
            return b""
        return self._encode(self._resampler.flush())


class SoundDecoder:
    """One format to PCM16 24 kHz mono, as a stream."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.audio_format = audio_format
        self._decode = _DECODERS.get(audio_format)
        self._resampler = None if audio_format is PCM16 else Resampler(audio_format.rate_hz, SESSION_HZ)

    def push(self, sound: bytes) -> bytes:
        """What is due as PCM16."""
        if self._resampler is None or self._decode is None:
            return sound
        return self._resampler.push(self._decode(sound))
