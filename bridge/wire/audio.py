"""The audio formats that Realtime events carry: 16-bit PCM at 24 kHz, and G.711 of either law at 8 kHz; always mono."""

from dataclasses import dataclass

__all__ = ["FORMATS", "G711_ALAW", "G711_ULAW", "PCM16", "SESSION_HZ", "AudioFormat"]

SESSION_HZ = 24_000
"""The rate of all sound inside the bridge: PCM16 little-endian mono, the Realtime API's own."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How samples are written in an event's base64 field."""

    name: str
    """As beta sessions and the bridge's own ``audio=`` query spell it."""
    media_type: str
    """As GA sessions spell it in ``audio.input.format.type``."""
    rate_hz: int
    bytes_per_sample: int

    @property
    def bytes_per_ms(self) -> int:
        """How many bytes one millisecond takes; exact for every format here."""
        return self.rate_hz * self.bytes_per_sample // 1000


PCM16 = AudioFormat("pcm16", "audio/pcm", SESSION_HZ, 2)
G711_ULAW = AudioFormat("g711_ulaw", "audio/pcmu", 8_000, 1)
G711_ALAW = AudioFormat("g711_alaw", "audio/pcma", 8_000, 1)

FORMATS = {audio_format.name: audio_format for audio_format in (PCM16, G711_ULAW, G711_ALAW)}
