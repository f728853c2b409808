"""The audio formats that the bridge carries: 16-bit PCM at the rates in use, and G.711 of either law at 8 kHz.

Sound is mono. For listeners that know stereo only, PCM16 may have two channels, which are alike. Listeners may have
sound compressed as well: in packets of Opus, or in frames of MP3.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

__all__ = [
    "FORMATS",
    "COMPRESSED",
    "PACKETS",
    "G711_ALAW",
    "G711_ULAW",
    "MP3_HZ",
    "OPUS",
    "PCM16",
    "RATES_HZ",
    "SESSION_HZ",
    "AudioFormat",
    "Compression",
    "mp3_at",
    "pcm16_at",
    "stereo_at",
]

SESSION_HZ = 24_000
"""The Realtime API's own rate of PCM16, and that of the media room: little-endian, mono."""

RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)
"""The rates at which a listener may have PCM16."""

_PCM16_HZ = (8_000, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
"""The rates at which PCM16 may travel: those for listeners, and others that only carriers use."""


@dataclass(frozen=True, slots=True, eq=False)
class AudioFormat:
    """How samples are written. There is one object for each format, so that ``is`` compares formats."""

    name: str
    """The name in beta sessions and in the bridge's own ``audio=`` query; it ends with the rate if that is unusual."""
    media_type: str
    """The name in GA sessions, in ``audio.input.format.type``."""
    rate_hz: int
    bytes_per_sample: int
    """The size of one sample in all channels; 0 if the sound is compressed and comes in packets of any size."""
    channels: int = 1
    bytes_per_ms: int = field(init=False)
    """The size of one millisecond; exact for every format that the protocol names, but not at 44.1 kHz."""

    is_compressed: bool = field(init=False)
    """Whether the sound comes in compressed packets."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bytes_per_ms", self.rate_hz * self.bytes_per_sample // 1000)
        object.__setattr__(self, "is_compressed", not self.bytes_per_sample)

    def size_of(self, ms: int) -> int:
        """Returns how many bytes ``ms`` milliseconds take, in whole samples.

        Exact at every rate for multiples of 20 ms.
        """
        return self.rate_hz * ms // 1000 * self.bytes_per_sample

    def ms_of(self, size: int) -> int:
        """Returns how many whole milliseconds ``size`` bytes last."""
        return size * 1000 // (self.rate_hz * self.bytes_per_sample)


PCM16 = AudioFormat("pcm16", "audio/pcm", SESSION_HZ, 2)
G711_ULAW = AudioFormat("g711_ulaw", "audio/pcmu", 8_000, 1)
G711_ALAW = AudioFormat("g711_alaw", "audio/pcma", 8_000, 1)

FORMATS = {audio_format.name: audio_format for audio_format in (PCM16, G711_ULAW, G711_ALAW)}
"""The formats that the Realtime protocol has a name for."""


@cache
def pcm16_at(rate_hz: int) -> AudioFormat:
    """Returns PCM16 at a rate at which it may travel, such as one of ``RATES_HZ``.

    Raises ``ValueError`` for other rates.
    """
    if rate_hz not in _PCM16_HZ:
        raise ValueError(f"PCM16 travels at {', '.join(map(str, _PCM16_HZ))} Hz, not at {rate_hz}")
    return PCM16 if rate_hz == SESSION_HZ else AudioFormat(f"pcm16_{rate_hz}", PCM16.media_type, rate_hz, 2)


@cache
def stereo_at(rate_hz: int) -> AudioFormat:
    """Returns PCM16 at this rate with two channels that are alike; raises ``ValueError`` as ``pcm16_at`` does."""
    mono = pcm16_at(rate_hz)
    return AudioFormat(f"{mono.name}_stereo", mono.media_type, rate_hz, 4, 2)


OPUS = AudioFormat("opus", "audio/opus", 48_000, 0)
"""Opus in packets (RFC 6716); its clock is 48 kHz, whatever sound a packet holds."""

MP3_HZ = (SESSION_HZ, 44_100)
"""The rates at which MP3 is made: as MPEG-2 with 576 samples a frame, and as MPEG-1 with 1152 samples a frame."""


@cache
def mp3_at(rate_hz: int) -> AudioFormat:
    """Returns MP3 in frames (ISO/IEC 11172-3, 13818-3) at one of ``MP3_HZ``; raises ``ValueError`` for other rates."""
    if rate_hz not in MP3_HZ:
        raise ValueError(f"MP3 is made at {', '.join(map(str, MP3_HZ))} Hz, not at {rate_hz}")
    return AudioFormat("mp3" if rate_hz == SESSION_HZ else f"mp3_{rate_hz}", "audio/mpeg", rate_hz, 0)


class Compression(NamedTuple):
    """A way in which listeners may have sound compressed: each message carries one packet of the codec's own length."""

    packet: str
    """What such a packet is called, with the name of the codec."""
    number: int
    """The number of its formats in binary messages: see ``bridge.wire.binary``."""
    formats: tuple[AudioFormat, ...]
    """The formats, one for each rate; the first is the one for listeners that name no rate."""

    @property
    def rates(self) -> str:
        """The rates in Hz, as people are told them."""
        return " or ".join(str(each.rate_hz) for each in self.formats)


COMPRESSED = {
    "opus": Compression("packet of Opus", 3, (OPUS,)),
    "mp3": Compression("frame of MP3", 4, tuple(map(mp3_at, MP3_HZ))),
}
"""The table of all compressions, by the names with which listeners ask for them."""

PACKETS = " or ".join(f"one {compression.packet}" for compression in COMPRESSED.values())
"""What a message of compressed sound carries, as people are told it."""
