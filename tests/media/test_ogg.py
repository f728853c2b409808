"""Opus in Ogg, read back by FFmpeg."""

import io

import av
import numpy as np
import pytest

from bridge.media.ogg import MAX_PAGE_BYTES, PRE_SKIP, OggOpus, ending
from bridge.media.opus import OpusEncoder, find_libopus
from tests.fakes import likeness

_FRAME_BYTES = 960


def _encoded(pcm: bytes, *, bitrate: int = 32_000) -> bytes:
    lib = find_libopus()
    assert lib is not None
    encoder = OpusEncoder(lib, 24_000, bitrate=bitrate, channels=2)
    stream = OggOpus(channels=2, rate_hz=24_000, serial=7)
    data = stream.head()
    silence = bytes(2 * _FRAME_BYTES)
    for at in range(0, len(pcm), _FRAME_BYTES):
        mono = np.frombuffer(pcm[at : at + _FRAME_BYTES].ljust(_FRAME_BYTES, b"\0"), "<i2")
        data += stream.write_packet(encoder.encode(np.stack([mono, mono // 4], axis=1).tobytes()))
    data += stream.write_packet(encoder.encode(silence))
    return data + stream.end(len(pcm))


def _decoded(data: bytes) -> tuple[int, np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.audio[0]
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(stream)], axis=1)
        return stream.rate, samples


@pytest.mark.parametrize("bitrate", [32_000, 48_000, 500_000])
def test_there_and_back(speech_pcm: bytes, bitrate: int) -> None:
    """Both channels come back as they were, to the sample as long, at any size of packet."""
    rate_hz, samples = _decoded(_encoded(speech_pcm, bitrate=bitrate))
    assert rate_hz == 48_000
    assert samples.shape == (2, len(speech_pcm))  # two bytes a sample, and twice the rate
    for channel in samples:
        pcm = (32767 * channel[::2]).astype("<i2").tobytes()
        correlation, late = likeness(pcm, speech_pcm)
        assert correlation > 0.9
        assert abs(late) <= 2  # of 24,000 in a second
    loudness = np.sqrt(np.mean(samples**2, axis=1))
    assert loudness[0] / loudness[1] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("samples", [1, 959, 960, 961, 48_000, 48_001, 100_000])
def test_the_end_is_cut_to_the_sample(samples: int) -> None:
    """However long it is: what fills the last packet is not part of it."""
    lib = find_libopus()
    assert lib is not None
    encoder = OpusEncoder(lib, 24_000, bitrate=32_000, channels=2)
    stream = OggOpus(channels=2, rate_hz=24_000, serial=7)
    data = stream.head()
    for _ in range(0, samples + PRE_SKIP, 960):
        data += stream.write_packet(encoder.encode(bytes(2 * _FRAME_BYTES)))
    data += stream.end(samples)
    assert _decoded(data)[1].shape == (2, samples)


def test_pages_are_as_the_format_says(speech_pcm: bytes) -> None:
    """Numbered, of one serial, the first and the last marked, none with more than a second."""
    data = _encoded(speech_pcm)
    pages, at = [], 0
    while at < len(data):
        assert data[at : at + 5] == b"OggS\0"
        segments = data[at + 26]
        pages.append((data[at + 5], int.from_bytes(data[at + 18 : at + 22], "little"), segments))
        assert int.from_bytes(data[at + 14 : at + 18], "little") == 7
        at += 27 + segments + sum(data[at + 27 : at + 27 + segments])
    flags, numbers, counts = zip(*pages, strict=True)
    assert flags == (2, *[0] * (len(pages) - 2), 4)
    assert list(numbers) == list(range(len(pages)))
    assert max(counts) <= 255
    assert len(pages) >= 2 + len(speech_pcm) // 48_000


def test_pages_before_they_are_full(speech_pcm: bytes) -> None:
    """What is flushed is all there is so far, page after page; the sound is the same for it."""
    lib = find_libopus()
    assert lib is not None
    encoder, stream = (
        OpusEncoder(lib, 24_000, bitrate=48_000, channels=2),
        OggOpus(channels=2, rate_hz=24_000, serial=7),
    )
    data = stream.head()
    for number in range(100):
        data += stream.write_packet(encoder.encode(bytes(2 * _FRAME_BYTES)))
        if number % 7 == 0:
            page = stream.flush()
            assert page.startswith(b"OggS")
            assert stream.flush() == b""
            data += page
    rate_hz, samples = _decoded(data + stream.end(95_000))
    assert (rate_hz, samples.shape) == (48_000, (2, 95_000))


def test_a_stream_that_broke_off(speech_pcm: bytes) -> None:
    """Its last whole page becomes its end, wherever it was cut; without one there is none."""
    data = _encoded(speech_pcm)
    pages = [at for at in range(len(data)) if data.startswith(b"OggS", at)]
    assert len(pages) > 4
    assert len(data) - pages[-1] <= MAX_PAGE_BYTES
    for cut in (pages[-1], pages[-1] + 1, pages[-1] + 27, len(data) - 1):
        found = ending(data[:cut])
        assert found is not None
        at, page = found
        assert at == pages[-2]
        _, samples = _decoded(data[:at] + page)
        assert 1.0 < samples.shape[1] / 48_000 < len(speech_pcm) / 48_000
    damaged = bytearray(data)
    damaged[pages[-1] + 40] ^= 1
    found = ending(bytes(damaged))
    assert found is not None
    assert found[0] == pages[-2]
    for nothing in (b"", b"OggS", data[:20], b"OggS" * 1000, bytes(100_000)):
        assert ending(nothing) is None
