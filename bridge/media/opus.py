"""Opus by libopus' own C API: decode, conceal and recover straight to the rate that is wanted, and encode for speech.

PyAV's wheel ships libopus as a shared library; its C API does what FFmpeg's wrapper hides: it decodes to 24 kHz mono
without a resampler, conceals a lost packet, reads the in-band FEC of the next one, and lets FEC, DTX, bitrate and
complexity be set. If that library is not found, ``opus_av`` does the same work with PyAV's codec contexts.

The encoder has two ways. If packets are lost, or bits are few, it is SILK with in-band FEC at 32 kbit/s. Where none
are lost it is CELT at 64 kbit/s: a quarter of the time, and closer to the source.

The C state lives in a buffer that the Python object owns, so there is nothing to free and nothing to leak.
"""

import ctypes
import ctypes.util
import glob
import os
from functools import cache
from typing import Any, Protocol

import av

from bridge.errors import MediaError

__all__ = [
    "COMPLEXITY",
    "FRAME_MS",
    "FRAME_TICKS",
    "LEAST_COMPLEXITY",
    "MAX_BITRATE",
    "Decoder",
    "Encoder",
    "OpusDecoder",
    "OpusEncoder",
    "find_libopus",
    "new_decoder",
    "new_encoder",
]

FRAME_MS = 20
MAX_BITRATE = 64_000
"""The bitrate of speech to a peer that names no limit, while nothing is lost. With less, CELT is worse than SILK."""
COMPLEXITY, LEAST_COMPLEXITY = 5, 2
"""As a rule, and where time is short. With FEC 133 µs for 20 ms at PESQ 4.3, and 102 µs at 4.2; without loss (CELT)
28 µs at 4.1, and 25 µs at 4.1. The latter's waveform correlates 0.996 with the source, SILK's 0.951."""
_ASSUMED_LOSS_PERCENT = 5  # until the receiver has said what it is
_FEC_BITRATE = 32_000  # of one channel
_CLEAR_COMPLEXITY = 4  # for CELT more is a third dearer for 0.06 of PESQ
_MAX_FRAME_MS = 120  # RFC 6716 section 2.1.4
_MAX_PACKET_BYTES = 1275  # RFC 6716 section 3.2.1, one frame
_APPLICATION_AUDIO = 2049  # "voip" would filter low tones away: 0.91 correlation with the source instead of 0.95
_SIGNAL_VOICE, _SIGNAL_MUSIC = 3001, 3002  # with the one SILK is used, and can have FEC; with the other CELT
_SET_BITRATE, _SET_COMPLEXITY, _SET_INBAND_FEC, _SET_PACKET_LOSS_PERC = 4002, 4010, 4012, 4014
_SET_DTX, _SET_SIGNAL = 4016, 4024
_LEAST_BITRATE = 6_000  # RFC 7587 section 6.1: maxaveragebitrate
_SILK, _HYBRID, _CELT = (480, 960, 1920, 2880), (480, 960), (120, 240, 480, 960)
FRAME_TICKS = 3 * _SILK + 2 * _HYBRID + 4 * _CELT
"""How long one frame of a packet lasts, in ticks of 48 kHz, by the first five bits of the packet (RFC 6716 section 3.1,
table 2).
"""


class Decoder(Protocol):
    """Opus packets in, PCM16 little-endian mono out."""

    def decode(self, payload: bytes) -> bytes:
        """Decodes one packet; raises ``MediaError`` if it is not Opus."""
        ...

    def has_fec(self, payload: bytes) -> bool:
        """Whether the packet carries the one before it again."""
        ...

    def recover(self, payload: bytes, samples: int) -> bytes:
        """The sound of the lost packet before ``payload``, from its in-band FEC if it has any, else concealed."""
        ...

    def conceal(self, samples: int) -> bytes:
        """Returns a guess at ``samples`` of lost sound; repeated guesses fade out."""
        ...


class Encoder(Protocol):
    """PCM16 little-endian mono in, Opus packets out."""

    def encode(self, pcm: bytes) -> bytes:
        """Encodes one frame of 20 ms as an Opus packet."""
        ...

    def set_packet_loss(self, percent: int) -> None:
        """Sets the loss that the receiver reports.

        The higher it is, the stronger is the in-band FEC; without loss there is none.
        """
        ...

    def set_dtx(self, is_on: bool) -> None:
        """Sets whether silence may become packets of two bytes at most, which need not be sent."""
        ...

    def limit_bitrate(self, bitrate: int) -> None:
        """Limits how many bits a second the sound may take."""
        ...

    def set_complexity(self, complexity: int) -> None:
        """Sets how hard the encoder tries, from 0 to 10."""
        ...


@cache
def find_libopus() -> ctypes.CDLL | None:
    """Finds libopus: PyAV's, else the system's; None if there is neither."""
    package = os.path.dirname(av.__file__)
    patterns = (
        os.path.join(os.path.dirname(package), "av.libs", "libopus*.so*"),
        os.path.join(package, ".dylibs", "libopus*.dylib"),
    )
    paths = [path for pattern in patterns for path in glob.glob(pattern)]
    path = paths[0] if paths else ctypes.util.find_library("opus")
    if path is None:
        return None
    lib = ctypes.CDLL(path)
    void_p, c_int, char_p = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    lib.opus_decoder_init.argtypes = [void_p, c_int, c_int]
    lib.opus_encoder_init.argtypes = [void_p, c_int, c_int, c_int]
    # What is called for every packet has no argtypes: converting by them takes longer than the call.
    # Fewer argtypes than arguments make ctypes call it as the variadic function that it is (matters on Apple arm64).
    lib.opus_encoder_ctl.argtypes = [void_p, c_int]
    lib.opus_strerror.restype = char_p
    if hasattr(lib, "opus_packet_has_lbrr"):  # since libopus 1.5
        lib.opus_packet_has_lbrr.argtypes = [char_p, c_int]
    return lib


def new_decoder(rate_hz: int) -> Decoder:
    """A decoder to ``rate_hz`` (8, 12, 16, 24 or 48 kHz)."""
    lib = find_libopus()
    if lib is None:
        from bridge.media.opus_av import AvDecoder

        return AvDecoder(rate_hz)
    return OpusDecoder(lib, rate_hz)


def new_encoder(rate_hz: int, *, bitrate: int = MAX_BITRATE) -> Encoder:
    """An encoder for speech at ``rate_hz``, mono, in frames of 20 ms, of at most ``bitrate`` bits a second."""
    lib = find_libopus()
    if lib is None:
        from bridge.media.opus_av import AvEncoder

        return AvEncoder(rate_hz, bitrate=min(bitrate, _FEC_BITRATE))
    return OpusEncoder(lib, rate_hz, bitrate=bitrate)


class OpusDecoder:
    """libopus, decoding to mono at one rate."""

    def __init__(self, lib: ctypes.CDLL, rate_hz: int) -> None:
        self._state = ctypes.create_string_buffer(lib.opus_decoder_get_size(1))
        _check(lib, lib.opus_decoder_init(self._state, rate_hz, 1))
        self._max_samples = rate_hz * _MAX_FRAME_MS // 1000
        self._pcm: Any = ctypes.create_string_buffer(2 * self._max_samples)
        self._lib = lib
        self._opus_decode = lib.opus_decode
        self._has_lbrr = getattr(lib, "opus_packet_has_lbrr", None)
        self._pcm_pointer = ctypes.c_void_p(ctypes.addressof(self._pcm))
        self._state_pointer = ctypes.c_void_p(ctypes.addressof(self._state))

    def decode(self, payload: bytes) -> bytes:
        """Decodes one packet; raises ``MediaError`` if it is not Opus."""
        if not payload:  # libopus would take it for a loss
            raise MediaError("libopus: an empty packet")
        return self._run(payload, len(payload), self._max_samples, 0)

    def has_fec(self, payload: bytes) -> bool:
        """Whether the packet carries the one before it once more; a libopus that cannot tell is asked to try."""
        return self._has_lbrr is None or self._has_lbrr(payload, len(payload)) > 0

    def recover(self, payload: bytes, samples: int) -> bytes:
        """The sound of the lost packet before ``payload``, from its in-band FEC if it has any, else concealed."""
        return self._run(payload, len(payload), min(samples, self._max_samples), 1)

    def conceal(self, samples: int) -> bytes:
        """Returns a guess at ``samples`` of lost sound; repeated guesses fade out."""
        return self._run(None, 0, min(samples, self._max_samples), 0)

    def _run(self, payload: bytes | None, length: int, samples: int, fec: int) -> bytes:
        decoded = self._opus_decode(self._state_pointer, payload, length, self._pcm_pointer, samples, fec)
        if decoded < 0:
            _check(self._lib, decoded)
        pcm: bytes = self._pcm[: 2 * decoded]
        return pcm


class OpusEncoder:
    """libopus, encoding speech in 20 ms frames; mono, or two interleaved channels. At first it expects some loss.

    ``frame_ms`` may be 40 or 60 as well.
    """

    def __init__(
        self,
        lib: ctypes.CDLL,
        rate_hz: int,
        *,
        bitrate: int,
        complexity: int = COMPLEXITY,
        channels: int = 1,
        frame_ms: int = FRAME_MS,
    ) -> None:
        self._state = ctypes.create_string_buffer(lib.opus_encoder_get_size(channels))
        _check(lib, lib.opus_encoder_init(self._state, rate_hz, channels, _APPLICATION_AUDIO))
        self._samples = rate_hz * frame_ms // 1000
        self._frame_bytes = 2 * channels * self._samples
        self._fec_bitrate = _FEC_BITRATE * channels
        self._packet: Any = ctypes.create_string_buffer(_MAX_PACKET_BYTES)
        self._lib = lib
        self._opus_encode = lib.opus_encode
        self._packet_pointer = ctypes.c_void_p(ctypes.addressof(self._packet))
        self._state_pointer = ctypes.c_void_p(ctypes.addressof(self._state))
        self._max_bitrate = bitrate
        self._complexity = complexity
        self._loss_percent = _ASSUMED_LOSS_PERCENT
        self._uses_dtx = False
        self._choose()

    def encode(self, pcm: bytes) -> bytes:
        """Encodes one frame as an Opus packet."""
        if len(pcm) != self._frame_bytes:
            raise MediaError(f"an Opus frame takes {self._frame_bytes} bytes of PCM16, not {len(pcm)}")
        length = self._opus_encode(self._state_pointer, pcm, self._samples, self._packet_pointer, _MAX_PACKET_BYTES)
        if length < 0:
            _check(self._lib, length)
        packet: bytes = self._packet[:length]
        return packet

    def set_packet_loss(self, percent: int) -> None:
        """Sets the loss that the receiver reports.

        The higher it is, the stronger is the in-band FEC; without loss there is none.
        """
        percent = max(0, min(100, percent))
        if percent != self._loss_percent:
            self._loss_percent = percent
            self._choose()

    def set_dtx(self, is_on: bool) -> None:
        """Sets whether silence may become packets of two bytes at most, which need not be sent."""
        self._uses_dtx = is_on
        self._choose()

    def limit_bitrate(self, bitrate: int) -> None:
        """Limits how many bits a second the sound may take."""
        self._max_bitrate = max(_LEAST_BITRATE, bitrate)
        self._choose()

    def set_complexity(self, complexity: int) -> None:
        """Sets how hard the encoder tries, from 0 to 10."""
        self._complexity = complexity
        self._choose()

    def _choose(self) -> None:
        """CELT has no FEC, needs more bits, and takes only digital silence for silence."""
        is_clear = not self._loss_percent and not self._uses_dtx and self._max_bitrate >= MAX_BITRATE
        self._set(_SET_SIGNAL, _SIGNAL_MUSIC if is_clear else _SIGNAL_VOICE)
        self._set(_SET_INBAND_FEC, int(not is_clear))
        self._set(_SET_PACKET_LOSS_PERC, self._loss_percent)
        self._set(_SET_DTX, int(self._uses_dtx))
        self._set(_SET_BITRATE, MAX_BITRATE if is_clear else min(self._max_bitrate, self._fec_bitrate))
        self._set(_SET_COMPLEXITY, min(self._complexity, _CLEAR_COMPLEXITY) if is_clear else self._complexity)

    def _set(self, request: int, value: int) -> None:
        _check(self._lib, self._lib.opus_encoder_ctl(self._state_pointer, request, ctypes.c_int(value)))


def _check(lib: ctypes.CDLL, code: int) -> None:
    if code < 0:
        raise MediaError(f"libopus: {lib.opus_strerror(code).decode()}")


find_libopus()  # at import: the event loop must not wait for a file
