"""AudioSocket: frames cut anywhere, each type, and the few that may be sent."""

from uuid import UUID

import pytest

from bridge.telephony.audiosocket.dialect import SOUND_TYPES, AudioSocket, Splitter, frame
from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierFault, Dtmf, Ended
from bridge.wire.audio import AudioFormat, pcm16_at

_UUID = "00112233-4455-6677-8899-aabbccddeeff"
_IDENTITY = bytes.fromhex("01001000112233445566778899aabbccddeeff")
_SOUND = bytes.fromhex("100140") + b"a" * 320


def _started() -> AudioSocket:
    dialect = AudioSocket()
    dialect.decode_message(_IDENTITY)
    dialect.decode_message(_SOUND)
    return dialect


def test_frames_are_those_of_the_reference() -> None:
    """To the byte."""
    assert frame(0x01, UUID(_UUID).bytes) == _IDENTITY
    assert frame(0x10, b"a" * 320) == _SOUND
    assert frame(0x03, b"5").hex() == "03000135"
    assert frame(0x00).hex() == "000000"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 320, 10_000])
def test_stream_is_split_into_frames(size: int) -> None:
    """However TCP cuts it; several in one segment, or one in several."""
    frames = [_IDENTITY, _SOUND, frame(0x03, b"5"), frame(0x10, b"b" * 65_535), frame(0x00)]
    stream = b"".join(frames)
    splitter = Splitter()
    got = [whole for at in range(0, len(stream), size) for whole in splitter.push(stream[at : at + size])]
    assert got == frames


@pytest.mark.parametrize(("kind", "audio_format"), SOUND_TYPES.items())
def test_start(kind: int, audio_format: AudioFormat) -> None:
    """The UUID says whose call it is, the first sound in which format; it is answered in kind."""
    dialect = AudioSocket()
    assert dialect.decode_message(_IDENTITY) == []
    assert dialect.decode_message(frame(kind, b"ab")) == [CallStarted(_UUID, audio_format, token=_UUID), b"ab"]
    assert dialect.decode_message(frame(kind, b"cd")) == [b"cd"]
    assert dialect.encode_sound(b"ef") == frame(kind, b"ef")


def test_sound_before_the_first_is_8_khz() -> None:
    """As the dialplan application always has it."""
    assert AudioSocket().encode_sound(bytes(320)) == frame(0x10, bytes(320))
    assert SOUND_TYPES[0x10] is pcm16_at(8000)


def test_every_type_of_the_reference_is_served() -> None:
    """At its rate, with whole frames of 20 ms."""
    rates_hz = {kind: audio_format.rate_hz for kind, audio_format in SOUND_TYPES.items()}
    assert rates_hz == {
        0x10: 8_000,
        0x11: 12_000,
        0x12: 16_000,
        0x13: 24_000,
        0x14: 32_000,
        0x15: 44_100,
        0x16: 48_000,
        0x17: 96_000,
        0x18: 192_000,
    }
    assert [audio_format.size_of(20) for audio_format in SOUND_TYPES.values()] == [
        rate_hz // 25 for rate_hz in rates_hz.values()
    ]


@pytest.mark.parametrize(
    ("message", "events"),
    [
        *((frame(0x03, key.encode()), [Dtmf(key)]) for key in "0123456789*#ABCD"),
        (frame(0x03, b"x"), [CarrierFault("unknown_key")]),
        (frame(0x03, b"\xff"), [CarrierFault("unknown_key")]),
        (frame(0x03), [CarrierFault("unknown_key")]),
        (frame(0x00), [Ended()]),
        (frame(0xFF), [CarrierFault("carrier_error", "")]),
        (frame(0xFF, b"\x02"), [CarrierFault("carrier_error", "02")]),
        (frame(0x10), []),
        (frame(0x10, b"abc"), [CarrierFault("odd_sound")]),
        (frame(0x12, b"ab"), [CarrierFault("format_changed")]),
        (frame(0x11, b"ab"), [CarrierFault("format_changed")]),
        (frame(0x19, b"ab"), [CarrierFault("unknown_message")]),
        (frame(0x77, b"ab"), [CarrierFault("unknown_message")]),
        (_IDENTITY, [CarrierFault("second_start")]),
    ],
)
def test_every_other_frame(message: bytes, events: list[CarrierEvent]) -> None:
    """Each says what the reference says; what is of no use is told, and the call goes on."""
    dialect = _started()
    assert dialect.decode_message(message) == events
    assert dialect.decode_message(frame(0x10, b"ab")) == [b"ab"]


def test_nothing_counts_before_the_identity() -> None:
    """And an identity has 16 bytes."""
    dialect = AudioSocket()
    assert dialect.decode_message(_SOUND) == [CarrierFault("message_before_start")]
    assert dialect.decode_message(frame(0x03, b"5")) == [CarrierFault("message_before_start")]
    assert dialect.decode_message(frame(0x01, b"short")) == [CarrierFault("malformed_message")]
    assert dialect.decode_message(_IDENTITY) == []


def test_frames_to_asterisk() -> None:
    """Sound and hang-up; there is nothing to mark and nothing to clear."""
    dialect = _started()
    assert dialect.encode_mark("b1") == dialect.encode_clear() == []
    assert dialect.encode_hang_up() == [b"\0\0\0"]
