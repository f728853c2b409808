"""Between PCM and the formats of events, as streams."""

import pytest

from bridge.media import g711
from bridge.media.convert import SoundConverter, SoundDecoder, SoundEncoder
from bridge.wire.audio import G711_ALAW, G711_ULAW, PCM16, RATES_HZ, AudioFormat, pcm16_at
from tests.fakes import likeness

EVERY = [G711_ULAW, G711_ALAW, *map(pcm16_at, RATES_HZ)]
CARRIERS = [pcm16_at(rate_hz) for rate_hz in (12_000, 22_050, 32_000, 96_000, 192_000)]


def name_of(audio_format: AudioFormat) -> str:
    return audio_format.name


def milliseconds(sound: bytes, audio_format: AudioFormat) -> float:
    return 1000 * len(sound) / audio_format.bytes_per_sample / audio_format.rate_hz


@pytest.mark.parametrize("audio_format", EVERY + CARRIERS, ids=name_of)
def test_there_and_back(audio_format: AudioFormat, speech_pcm: bytes) -> None:
    """Speech in any format is as long as it was, and comes back as itself."""
    encoder, decoder = SoundEncoder(audio_format), SoundDecoder(audio_format)
    sound = b"".join(encoder.push(speech_pcm[at : at + 960]) for at in range(0, len(speech_pcm), 960))
    sound += encoder.flush()
    assert milliseconds(sound, audio_format) == pytest.approx(len(speech_pcm) / PCM16.bytes_per_ms, abs=0.1)
    heard = b"".join(decoder.push(sound[at : at + 160]) for at in range(0, len(sound), 160)) + decoder.flush()
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


@pytest.mark.parametrize("source", EVERY, ids=name_of)
@pytest.mark.parametrize("target", EVERY, ids=name_of)
def test_any_to_any(source: AudioFormat, target: AudioFormat, speech_pcm: bytes) -> None:
    """Between any two formats speech keeps its length and its place; between equal ones every byte."""
    spoken = SoundEncoder(source).push(speech_pcm)
    encoder = SoundEncoder(target, source)
    made = b"".join(encoder.push(spoken[at : at + 640]) for at in range(0, len(spoken), 640)) + encoder.flush()
    assert milliseconds(made, target) == pytest.approx(milliseconds(spoken, source), abs=0.1)
    if source is target:
        assert made == spoken
    correlation, late = likeness(SoundDecoder(target).push(made), speech_pcm)
    assert correlation > 0.9
    assert late == 0


def test_laws_meet_without_resampling(speech_pcm: bytes) -> None:
    """From one law to the other, and to PCM at their own rate, nothing but the tables is used."""
    ulaw = SoundEncoder(G711_ULAW).push(speech_pcm)
    assert SoundEncoder(G711_ALAW, G711_ULAW).push(ulaw) == g711.encode_alaw(g711.decode_ulaw(ulaw))
    assert SoundEncoder(pcm16_at(8000), G711_ULAW).push(ulaw) == g711.decode_ulaw(ulaw)


def test_several_formats_are_what_each_alone_would_be(speech_pcm: bytes) -> None:
    """One converter gives to each of its formats the bytes that an encoder of its own would give."""
    converter = SoundConverter(PCM16)
    for audio_format in EVERY:
        converter.want(audio_format)
        converter.want(audio_format)
    pushed, flushed = converter.push(speech_pcm), converter.flush()
    for audio_format in EVERY:
        alone = SoundEncoder(audio_format)
        assert pushed[audio_format] == alone.push(speech_pcm)
        assert flushed[audio_format] == alone.flush()


def test_formats_come_and_go(speech_pcm: bytes) -> None:
    """What is no longer wanted is not made; a format that stays does not notice, even at the same rate."""
    converter, alone = SoundConverter(PCM16), SoundEncoder(G711_ULAW)
    converter.want(G711_ULAW)
    converter.want(G711_ALAW)
    half = len(speech_pcm) // 4 * 2
    first = converter.push(speech_pcm[:half])
    converter.leave_out(G711_ALAW)
    converter.leave_out(G711_ALAW)
    second = converter.push(speech_pcm[half:])
    assert G711_ALAW in first
    assert second.keys() == {PCM16, G711_ULAW}
    assert first[G711_ULAW] + second[G711_ULAW] == alone.push(speech_pcm[:half]) + alone.push(speech_pcm[half:])
    converter.leave_out(G711_ULAW)
    assert converter.push(speech_pcm) == {PCM16: speech_pcm}


def test_there_is_one_object_of_each_format() -> None:
    """So that formats are compared as objects; PCM16 at a rate that nobody speaks is none."""
    assert pcm16_at(24_000) is PCM16
    assert pcm16_at(16_000) is pcm16_at(16_000)
    with pytest.raises(ValueError, match="not at 11025"):
        pcm16_at(11_025)
