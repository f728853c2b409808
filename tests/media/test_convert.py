"""Between PCM and the formats of events, as streams."""

import pytest

from bridge.media.convert import SoundDecoder, SoundEncoder
from bridge.wire.audio import FORMATS, G711_ALAW, G711_ULAW, PCM16, AudioFormat
from tests.fakes import likeness


@pytest.mark.parametrize("audio_format", FORMATS.values(), ids=FORMATS)
def test_there_and_back(audio_format: AudioFormat, speech_pcm: bytes) -> None:
    """Speech in any format is as long as it was, and comes back as itself."""
    encoder, decoder = SoundEncoder(audio_format), SoundDecoder(audio_format)
    sound = b"".join(encoder.push(speech_pcm[at : at + 960]) for at in range(0, len(speech_pcm), 960))
    sound += encoder.flush()
    assert len(sound) / audio_format.bytes_per_ms == pytest.approx(len(speech_pcm) / PCM16.bytes_per_ms, abs=0.1)
    heard = b"".join(decoder.push(sound[at : at + 160]) for at in range(0, len(sound), 160))
    assert len(speech_pcm) - len(heard) <= 2 * PCM16.bytes_per_ms
    correlation, late = likeness(heard, speech_pcm)
    assert correlation > 0.9
    assert late == 0


def test_pcm_is_not_touched(speech_pcm: bytes) -> None:
    """Our own format passes through, sample for sample, and holds nothing back."""
    encoder = SoundEncoder(PCM16)
    assert encoder.push(speech_pcm) == SoundDecoder(PCM16).push(speech_pcm) == speech_pcm
    assert encoder.flush() == b""


@pytest.mark.parametrize("audio_format", [G711_ULAW, G711_ALAW])
def test_a_flush_starts_afresh(audio_format: AudioFormat, speech_pcm: bytes) -> None:
    """After a flush an encoder gives for the same sound the same bytes again."""
    encoder = SoundEncoder(audio_format)
    first = encoder.push(speech_pcm) + encoder.flush()
    assert encoder.push(speech_pcm) + encoder.flush() == first
    assert encoder.flush() == b""
