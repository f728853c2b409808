"""G.711 against CPython's former audioop, over every input there is."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from bridge.media.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw

EVERY_CODE = bytes(range(256))
EVERY_SAMPLE = np.arange(-32768, 32768).astype("<i2").tobytes()


def pcm(*samples: int) -> bytes:
    return np.array(samples, "<i2").tobytes()


@pytest.mark.parametrize(
    ("convert", "everything", "digest"),
    [
        (decode_ulaw, EVERY_CODE, "3dab54339e520bb2c924826e3b72a917a2b612e9fd12fc867500f1d983a75827"),
        (decode_alaw, EVERY_CODE, "e04788d110e58ff8c70c93b8480190d973e3b67876b6119abbaec766cc75c174"),
        (encode_ulaw, EVERY_SAMPLE, "81d633c9e6972a18c74a58720b96cb8ca0bdd096d4060b646dd708c3b846019a"),
        (encode_alaw, EVERY_SAMPLE, "38488f6fd710f4686360edc4d38639f96c491595ef93f8eb8d62d5e07ca6ce7b"),
    ],
)
def test_equals_audioop_everywhere(convert: Callable[[bytes], bytes], everything: bytes, digest: str) -> None:
    """Each of the four tables has the SHA-256 of audioop's."""
    assert hashlib.sha256(convert(everything)).hexdigest() == digest


def test_reference_samples() -> None:
    """A few values in the clear, so that a failing digest can be understood."""
    samples = pcm(0, -1, 100, -1000, 16384, 32767, -32768)
    assert encode_ulaw(samples) == bytes.fromhex("FF 7E F2 4E 8F 80 00")
    assert encode_alaw(samples) == bytes.fromhex("D5 55 D3 7A A5 AA 2A")
    assert decode_ulaw(b"\xff\x7e\x00") == pcm(0, -8, -32124)
    assert decode_alaw(b"\xd5\x55\x2a") == pcm(8, -8, -32256)


def test_itu_tone() -> None:
    """The ITU test sequences of both laws decode to the same 1 kHz tone at 0 dBm0."""
    ulaw = np.frombuffer(decode_ulaw(bytes.fromhex("1E0B0B1E9E8B8B9E") * 100), "<i2")
    alaw = np.frombuffer(decode_alaw(bytes.fromhex("34212134B4A1A1B4") * 100), "<i2")
    for law, peak in ((ulaw, 22657), (alaw, 22827)):
        spectrum = np.abs(np.fft.rfft(law)) / (len(law) / 2)
        assert np.argmax(spectrum) == 100
        assert spectrum[100] == pytest.approx(peak, rel=1e-3)


def test_codes_survive_the_way_through_pcm() -> None:
    """Decoding and encoding again changes no code but µ-law's negative zero."""
    assert encode_alaw(decode_alaw(EVERY_CODE)) == EVERY_CODE
    assert encode_ulaw(decode_ulaw(EVERY_CODE)) == EVERY_CODE.replace(b"\x7f", b"\xff")


def test_sizes() -> None:
    """One byte a sample, also for no sample at all."""
    assert len(encode_ulaw(bytes(320))) == len(encode_alaw(bytes(320))) == 160
    assert len(decode_ulaw(bytes(160))) == len(decode_alaw(bytes(160))) == 320
    assert encode_ulaw(b"") == encode_alaw(b"") == decode_ulaw(b"") == decode_alaw(b"") == b""


def test_half_a_sample_is_refused() -> None:
    """An odd number of PCM bytes is a caller's mistake and raises."""
    with pytest.raises(ValueError, match="multiple"):
        encode_ulaw(b"\0\0\0")
