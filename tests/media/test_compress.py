"""Sound compressed for listeners: it sounds as it did, each packet is good by itself, and an end is an end."""

import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext

from bridge.media.compress import Mp3Compressor, OpusCompressor, new_compressor
from bridge.media.opus import new_decoder
from bridge.media.passing import packet_samples
from bridge.media.resample import Resampler
from bridge.wire.audio import COMPRESSED, OPUS, PCM16, SESSION_HZ, AudioFormat, mp3_at
from tests.fakes import likeness

_SECOND = 2 * SESSION_HZ


def decode_mp3(frames: list[bytes], rate_hz: int) -> bytes:
    """PCM16 at ``rate_hz``, by FFmpeg's decoder, which is not the encoder's maker's."""
    context = av.CodecContext.create("mp3float", "r")
    assert isinstance(context, AudioCodecContext)
    pieces = []
    for frame in frames:
        for decoded in context.decode(av.Packet(frame)):
            assert (decoded.sample_rate, len(decoded.layout.channels)) == (rate_hz, 1)
            samples = decoded.to_ndarray().reshape(-1)
            pieces.append((samples * 32767).clip(-32768, 32767).astype("<i2").tobytes())
    return b"".join(pieces)


def test_opus(speech_pcm: bytes) -> None:
    """20 ms a packet, a tenth of the bytes; the last one is filled up."""
    compressor = new_compressor(OPUS)
    assert isinstance(compressor, OpusCompressor)
    assert (compressor.source, compressor.samples) == (PCM16, 960)
    pcm = speech_pcm[: 3 * _SECOND + 100]
    packets = [packet for at in range(0, len(pcm), 700) for packet in compressor.push(pcm[at : at + 700])]
    assert len(packets) == 150
    packets += compressor.end()
    assert compressor.end() == []
    assert {packet_samples(packet, 48_000) for packet in packets} == {960}
    assert len(packets) == 151
    assert sum(map(len, packets)) < len(pcm) / 10
    decoder = new_decoder(SESSION_HZ)
    heard = b"".join(decoder.decode(packet) for packet in packets)
    assert likeness(heard, pcm)[0] > 0.9


@pytest.mark.parametrize(("rate_hz", "samples"), [(24_000, 576), (44_100, 1152)])
def test_mp3(rate_hz: int, samples: int, speech_pcm: bytes) -> None:
    """A frame a packet, less than a seventh of the bytes; another decoder hears the speech, to its end."""
    compressor = new_compressor(mp3_at(rate_hz))
    assert isinstance(compressor, Mp3Compressor)
    assert (compressor.source.rate_hz, compressor.samples) == (rate_hz, samples)
    to_rate, back = Resampler(SESSION_HZ, rate_hz), Resampler(rate_hz, SESSION_HZ)
    spoken = speech_pcm[: 3 * _SECOND]
    pcm = to_rate.push(spoken) + to_rate.flush()
    frames = [frame for at in range(0, len(pcm), 1000) for frame in compressor.push(pcm[at : at + 1000])]
    frames += compressor.end()
    assert compressor.end() == []
    assert all(frame[0] == 0xFF and frame[1] & 0xE0 == 0xE0 for frame in frames)  # each begins with a sync word
    assert sum(map(len, frames)) < len(pcm) / 7
    heard = back.push(decode_mp3(frames, rate_hz))
    correlation, late = likeness(heard, spoken)
    assert correlation > 0.9
    assert 0 <= late < SESSION_HZ // 10
    assert len(heard) >= len(spoken) + 2 * late


def test_each_mp3_frame_is_good_by_itself(speech_pcm: bytes) -> None:
    """Who comes in the middle, or misses a frame, hears the next: no frame has its bits in another one."""
    compressor = Mp3Compressor(24_000)
    frames = compressor.push(speech_pcm[: 3 * _SECOND])
    whole = np.frombuffer(decode_mp3(frames, 24_000), "<i2")
    late = np.frombuffer(decode_mp3(frames[40:], 24_000), "<i2")
    assert np.abs(late[2 * 576 :].astype(int) - whole[42 * 576 :]).max() <= 1  # but for what overlaps


@pytest.mark.parametrize(
    "audio_format", [each for one in COMPRESSED.values() for each in one.formats], ids=lambda each: each.name
)
def test_it_begins_anew_after_an_end(audio_format: AudioFormat, speech_pcm: bytes) -> None:
    """Of every compressed format: packets are as long as the compressor says, and each part of an answer is whole."""
    compressor = new_compressor(audio_format)
    pcm = speech_pcm[: compressor.source.size_of(1000)]
    first = compressor.push(pcm) + compressor.end()
    second = compressor.push(pcm) + compressor.end()
    assert len(first) == len(second) >= audio_format.rate_hz / compressor.samples
