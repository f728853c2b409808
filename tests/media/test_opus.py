"""Opus by libopus and by PyAV: real speech there and back, lost packets, and packets that are none."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.errors import MediaError
from bridge.media.opus import (
    MAX_BITRATE,
    Decoder,
    Encoder,
    OpusDecoder,
    OpusEncoder,
    find_libopus,
    new_decoder,
    new_encoder,
)
from bridge.media.opus_av import AvDecoder, AvEncoder
from tests.fakes import FfmpegEncoder, likeness

RATE_HZ = 24_000
FRAME_SAMPLES = RATE_HZ // 50
FRAME_BYTES = 2 * FRAME_SAMPLES

GARBAGE = [
    b"",
    b"\xff",
    b"\x03",
    b"\xfb\x00",
    b"\x01\x01",
    b"\xff\xff\xff",
    b"not an Opus packet at all",
    bytes(range(255, 0, -1)) * 6,
]

DECODERS: list[Callable[[int], Decoder]] = [new_decoder, AvDecoder]
decoders = pytest.mark.parametrize("make_decoder", DECODERS, ids=["libopus", "PyAV"])


def new_av_encoder(rate_hz: int, *, bitrate: int = 32_000) -> Encoder:
    return AvEncoder(rate_hz, bitrate=bitrate)


ENCODERS: list[Callable[[int], Encoder]] = [new_encoder, new_av_encoder]
encoders = pytest.mark.parametrize("make_encoder", ENCODERS, ids=["libopus", "PyAV"])


def frames(pcm: bytes) -> list[bytes]:
    whole = len(pcm) - len(pcm) % FRAME_BYTES
    return [pcm[at : at + FRAME_BYTES] for at in range(0, whole, FRAME_BYTES)]


def encoded(encoder: Encoder, pcm: bytes) -> list[bytes]:
    return [encoder.encode(frame) for frame in frames(pcm)]


def decoded(decoder: Decoder, packets: list[bytes]) -> bytes:
    return b"".join(map(decoder.decode, packets))


def samples(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def loudness(pcm: bytes) -> float:
    return float(np.sqrt(np.mean(samples(pcm) ** 2)))


def test_libopus_is_there() -> None:
    """PyAV's wheel brings the library; the codecs are libopus' own, not the fallback."""
    assert find_libopus() is not None
    assert isinstance(new_decoder(RATE_HZ), OpusDecoder)
    assert isinstance(new_encoder(RATE_HZ), OpusEncoder)


@decoders
@pytest.mark.parametrize(
    ("make_encoder", "least"), [(new_encoder, 0.945), (new_av_encoder, 0.9)], ids=["libopus", "PyAV"]
)
def test_speech_survives(
    make_encoder: Callable[[int], Encoder], least: float, make_decoder: Callable[[int], Decoder], speech_pcm: bytes
) -> None:
    """Whoever encodes and whoever decodes, speech comes back as itself, frame for frame, a few ms late."""
    packets = encoded(make_encoder(RATE_HZ), speech_pcm)
    heard = decoded(make_decoder(RATE_HZ), packets)
    assert len(packets) == len(frames(speech_pcm))
    assert abs(len(heard) - FRAME_BYTES * len(packets)) <= 2 * RATE_HZ // 1000
    correlation, late = likeness(heard, speech_pcm)
    assert correlation > least
    assert 0 <= late <= RATE_HZ // 100
    assert loudness(heard) == pytest.approx(loudness(speech_pcm), rel=0.15)


@decoders
def test_what_a_good_encoder_sends_is_heard(make_decoder: Callable[[int], Decoder], speech_pcm: bytes) -> None:
    """From an encoder that leaves the waveform alone, each decoder hears the source itself, in full."""
    packets = encoded(FfmpegEncoder(), speech_pcm)
    heard = decoded(make_decoder(RATE_HZ), packets)
    assert abs(len(heard) - FRAME_BYTES * len(packets)) <= 2 * RATE_HZ // 1000
    assert likeness(heard, speech_pcm)[0] > 0.99


@decoders
def test_stereo_becomes_mono(make_decoder: Callable[[int], Decoder], speech_pcm: bytes) -> None:
    """A stereo sender is heard as the mean of its channels."""
    packets = encoded(FfmpegEncoder(layout="stereo"), speech_pcm)
    assert packets[100][0] & 0x04, "the packets are stereo"
    heard = decoded(make_decoder(RATE_HZ), packets)
    assert abs(len(heard) - FRAME_BYTES * len(packets)) <= 2 * RATE_HZ // 1000
    assert likeness(heard, speech_pcm)[0] > 0.95
    assert loudness(heard) == pytest.approx(loudness(speech_pcm) / 2, rel=0.1)


def test_both_decoders_hear_the_same(speech_pcm: bytes) -> None:
    """The fallback's sound is libopus' sound, but for the rate it is converted from."""
    packets = encoded(new_encoder(RATE_HZ), speech_pcm)
    correlation, late = likeness(decoded(AvDecoder(RATE_HZ), packets), decoded(new_decoder(RATE_HZ), packets))
    assert correlation > 0.99
    assert abs(late) <= RATE_HZ // 1000


@decoders
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
def test_every_rate(make_decoder: Callable[[int], Decoder], rate_hz: int, speech_pcm: bytes) -> None:
    """A frame of 20 ms is 20 ms at the rate that was asked for."""
    heard = decoded(make_decoder(rate_hz), encoded(new_encoder(RATE_HZ), speech_pcm[: 50 * FRAME_BYTES]))
    assert abs(len(heard) - 2 * rate_hz) <= 2 * 2 * rate_hz // 1000


@encoders
def test_a_frame_of_the_wrong_length_is_refused(make_encoder: Callable[[int], Encoder]) -> None:
    """An encoder takes 20 ms, not a sample more or less, and goes on after the mistake."""
    encoder = make_encoder(RATE_HZ)
    for wrong in (b"", bytes(FRAME_BYTES - 2), bytes(FRAME_BYTES + 2)):
        with pytest.raises(MediaError, match="960 bytes"):
            encoder.encode(wrong)
    assert encoder.encode(bytes(FRAME_BYTES))


@encoders
def test_any_reported_loss_is_taken(make_encoder: Callable[[int], Encoder], speech_pcm: bytes) -> None:
    """A percentage that cannot be is brought into range."""
    encoder = make_encoder(RATE_HZ)
    for percent in (-5, 0, 50, 100, 1000):
        encoder.set_packet_loss(percent)
        assert encoder.encode(speech_pcm[20_000 : 20_000 + FRAME_BYTES])


def test_a_small_rate_makes_small_packets(speech_pcm: bytes) -> None:
    """The bitrate is kept to."""
    for bitrate in (12_000, 32_000):
        packets = encoded(new_encoder(RATE_HZ, bitrate=bitrate), speech_pcm)
        assert sum(map(len, packets)) * 8 / (len(packets) * 0.020) < 1.3 * bitrate


def is_celt(packet: bytes) -> bool:
    """By the configuration in its first byte (RFC 6716 section 3.1)."""
    return packet[0] >> 3 >= 16


def clear_encoder() -> Encoder:
    """Whose receiver has said that nothing is lost."""
    encoder = new_encoder(RATE_HZ)
    encoder.set_packet_loss(0)
    return encoder


def test_without_loss_speech_is_celt(speech_pcm: bytes) -> None:
    """FEC is needless then: more bits, much less work, and closer to the source."""
    packets = encoded(clear_encoder(), speech_pcm)
    assert all(is_celt(packet) for packet in packets)
    assert 40_000 < sum(map(len, packets)) * 8 / (len(packets) * 0.020) < 1.1 * MAX_BITRATE
    heard, heard_with_fec = (
        likeness(decoded(new_decoder(RATE_HZ), some), speech_pcm)[0]
        for some in (packets, encoded(new_encoder(RATE_HZ), speech_pcm))
    )
    assert heard > 0.99 > heard_with_fec


@pytest.mark.parametrize("why", ["loss", "limit", "dtx"])
def test_what_celt_cannot_do_is_done_by_silk(why: str, speech_pcm: bytes) -> None:
    """FEC where packets are lost, few bits, and silence that is left out."""
    encoder = clear_encoder()
    if why == "loss":
        encoder.set_packet_loss(3)
    elif why == "limit":
        encoder.limit_bitrate(MAX_BITRATE - 1)
    else:
        encoder.set_dtx(True)
    packets = encoded(encoder, speech_pcm)
    assert not any(is_celt(packet) for packet in packets)
    assert sum(map(len, packets)) * 8 / (len(packets) * 0.020) < 1.1 * 32_000


def test_nobody_hears_the_change(speech_pcm: bytes) -> None:
    """Around each change the sound is as close to the source as one way or the other alone would be."""
    changes = range(25, len(frames(speech_pcm)) - 2, 50)

    def heard(loss_percents: dict[int, int]) -> NDArray[np.float64]:
        encoder, decoder, pcm = new_encoder(RATE_HZ), new_decoder(RATE_HZ), b""
        for number, frame in enumerate(frames(speech_pcm)):
            if number in loss_percents:
                encoder.set_packet_loss(loss_percents[number])
            packet = encoder.encode(frame)
            pcm += decoder.decode(packet)
        return samples(pcm)

    changing = heard({number: 5 * (at % 2) for at, number in enumerate(changes)})
    alone = [heard({0: percent}) for percent in (0, 5)]
    late = likeness(changing.astype("<i2").tobytes(), speech_pcm)[1]
    assert len(changes) >= 4
    for number in changes:
        start, end = (2 * number - 1) * FRAME_SAMPLES // 2, (2 * number + 3) * FRAME_SAMPLES // 2
        source = samples(speech_pcm)[start:end]
        error, *errors = (np.std(sound[start + late : end + late] - source) for sound in (changing, *alone))
        assert error < 2 * max(errors)


@decoders
@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: garbage[:3].hex() or "empty")
def test_garbage_is_refused_and_forgotten(
    make_decoder: Callable[[int], Decoder], garbage: bytes, speech_pcm: bytes
) -> None:
    """What is no Opus raises ``MediaError``, and the decoder hears what follows as if nothing had been."""
    packets = encoded(new_encoder(RATE_HZ), speech_pcm)
    decoder, undisturbed = make_decoder(RATE_HZ), make_decoder(RATE_HZ)
    before, after = packets[:100], packets[100:]
    assert decoded(decoder, before) == decoded(undisturbed, before)
    for _ in range(3):
        with pytest.raises(MediaError):
            decoder.decode(garbage)
    assert likeness(decoded(decoder, after), decoded(undisturbed, after))[0] > 0.98


@decoders
def test_concealment_goes_on_like_the_sound_and_fades(
    make_decoder: Callable[[int], Decoder], speech_pcm: bytes
) -> None:
    """A guess has the length asked for, is as loud as what it follows, and dies away when repeated."""
    decoder = make_decoder(RATE_HZ)
    loudest = int(np.argmax([loudness(frame) for frame in frames(speech_pcm)]))
    heard = decoded(decoder, encoded(new_encoder(RATE_HZ), speech_pcm)[: loudest + 1])
    guesses = [decoder.conceal(FRAME_SAMPLES) for _ in range(15)]
    assert {len(guess) for guess in guesses} == {FRAME_BYTES}
    assert loudness(guesses[0]) > 0.3 * loudness(heard[-FRAME_BYTES:])
    assert loudness(guesses[-1]) < 0.1 * loudness(guesses[0])


@decoders
@pytest.mark.parametrize("milliseconds", [5, 10, 20, 40, 60, 120])
def test_concealment_of_any_frame_length(make_decoder: Callable[[int], Decoder], milliseconds: int) -> None:
    """As much is guessed as is missing."""
    decoder = make_decoder(RATE_HZ)
    decoded(decoder, encoded(new_encoder(RATE_HZ), bytes(5 * FRAME_BYTES)))
    assert len(decoder.conceal(milliseconds * RATE_HZ // 1000)) == 2 * milliseconds * RATE_HZ // 1000


def test_recovery_beats_guessing(speech_pcm: bytes) -> None:
    """Of packets lost in speech, FEC brings back something much closer to the original than concealment does."""
    encoder = new_encoder(RATE_HZ)
    encoder.set_packet_loss(25)
    packets = encoded(encoder, speech_pcm)
    original = new_decoder(RATE_HZ)
    intact = [original.decode(packet) for packet in packets]
    errors: dict[bool, float] = {True: 0.0, False: 0.0}
    for has_fec in errors:
        decoder = new_decoder(RATE_HZ)
        for number, packet in enumerate(packets[:-1]):
            if number % 7 == 5:
                following = packets[number + 1]
                guess = decoder.recover(following, FRAME_SAMPLES) if has_fec else decoder.conceal(FRAME_SAMPLES)
                errors[has_fec] += float(np.sum((samples(guess) - samples(intact[number])) ** 2))
            else:
                decoder.decode(packet)
    assert errors[True] < 0.35 * errors[False]


@decoders
def test_recovery_without_fec_is_a_guess(make_decoder: Callable[[int], Decoder], speech_pcm: bytes) -> None:
    """A packet that carries nothing of its predecessor still gives sound of the right length."""
    encoder = new_encoder(RATE_HZ)
    encoder.set_packet_loss(0)
    packets = encoded(encoder, speech_pcm[:48_000])
    decoder = make_decoder(RATE_HZ)
    decoded(decoder, packets[:30])
    assert len(decoder.recover(packets[31], FRAME_SAMPLES)) == FRAME_BYTES
    assert len(decoder.decode(packets[31])) == FRAME_BYTES


@pytest.mark.parametrize("garbage", GARBAGE[1:], ids=lambda garbage: garbage[:3].hex())
def test_garbage_recovers_nothing(garbage: bytes) -> None:
    """No FEC is read from what is no Opus: it raises, and leaves the decoder as it was."""
    decoder = new_decoder(RATE_HZ)
    with pytest.raises(MediaError):
        decoder.recover(garbage, FRAME_SAMPLES)
    assert len(decoder.conceal(FRAME_SAMPLES)) == FRAME_BYTES


def test_nothing_is_shared_between_streams(speech_pcm: bytes) -> None:
    """Two encoders and two decoders in turns give what each alone gives."""
    backwards = samples(speech_pcm)[::-1].astype("<i2").tobytes()
    alone = [decoded(new_decoder(RATE_HZ), encoded(new_encoder(RATE_HZ), pcm)) for pcm in (speech_pcm, backwards)]
    codecs = [(new_encoder(RATE_HZ), new_decoder(RATE_HZ)) for _ in range(2)]
    together = [b"", b""]
    for pair in zip(frames(speech_pcm), frames(backwards), strict=True):
        for side, frame in enumerate(pair):
            encoder, decoder = codecs[side]
            together[side] += decoder.decode(encoder.encode(frame))
    assert together == alone
