"""Sound in binary messages: the header as it is described."""

import pytest

from bridge.wire import binary
from bridge.wire.audio import COMPRESSED, FORMATS, G711_ALAW, OPUS, RATES_HZ, AudioFormat, mp3_at, pcm16_at
from bridge.wire.binary import FORMAT_NUMBERS, HEADER_BYTES, pack_sound, unpack_sound


def test_header() -> None:
    """Sixteen bytes, big-endian, then the sound as it is."""
    message = pack_sound("output", G711_ALAW, 0x01020304, 0x05060708090A0B0C, b"sound")
    assert message == bytes([1, 1, 2, 8, *range(1, 13)]) + b"sound"
    assert HEADER_BYTES == 16
    assert pack_sound("input", pcm16_at(16_000), 1, 0, b"")[:4] == bytes([1, 0, 0, 16])
    assert pack_sound("input", pcm16_at(44_100), 1, 0, b"")[:4] == bytes([1, 0, 0, 44])
    assert pack_sound("output", OPUS, 1, 0, b"")[:4] == bytes([1, 1, 3, 48])
    assert pack_sound("output", mp3_at(24_000), 1, 0, b"")[:4] == bytes([1, 1, 4, 24])


@pytest.mark.parametrize(
    "audio_format",
    [*FORMATS.values(), *map(pcm16_at, RATES_HZ), *(each for one in COMPRESSED.values() for each in one.formats)],
    ids=lambda each: each.name,
)
def test_there_and_back(audio_format: AudioFormat) -> None:
    """What is packed is read again, the format as the very object."""
    read = unpack_sound(pack_sound("input", audio_format, 7, 2**40, b"\0\1"))
    assert read == ("input", audio_format, 7, 2**40, b"\0\1")
    assert read.audio_format is audio_format


def test_every_format_has_a_number() -> None:
    """One for each name that listeners may ask for, no two alike, and all are in the page of the reference."""
    assert FORMAT_NUMBERS.keys() == FORMATS.keys() | COMPRESSED.keys()
    assert len(set(FORMAT_NUMBERS.values())) == len(FORMAT_NUMBERS)
    [row] = [line for line in str(binary.__doc__).splitlines() if "format:" in line]
    for name, number in FORMAT_NUMBERS.items():
        assert f" {number} {name}" in row


def test_sequence_wraps() -> None:
    """After four thousand million messages the count starts over."""
    assert unpack_sound(pack_sound("input", G711_ALAW, 2**32 + 3, 0, b"")).sequence == 3


@pytest.mark.parametrize(
    "message", [b"", b"\1\0\0\x18", bytes(20), b"\1\2" + bytes(18), b"\1\0\3" + bytes(17), b"\1\0\5" + bytes(17)]
)
def test_anything_else_is_refused(message: bytes) -> None:
    """Too short, another version, a track or a format that there is not."""
    with pytest.raises(ValueError, match="not a message"):
        unpack_sound(message)
