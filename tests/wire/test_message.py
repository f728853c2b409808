"""One message for many sockets: its WebSocket frame."""

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from bridge.wire.message import EncodedMessage


def parsed(data: bytes) -> Frame:
    """The one frame in ``data``, read by another implementation."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    parser = Frame.parse(reader.read_exact, mask=False)
    try:
        while True:
            next(parser)
    except StopIteration as finished:
        frame: Frame = finished.value
    ending = reader.at_eof()
    with pytest.raises(StopIteration) as at_end:
        next(ending)
    assert at_end.value.value is True
    return frame


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 300_000])
def test_the_frame_is_one_whole_text_frame(length: int) -> None:
    """Another WebSocket library reads the frame as the very text, on either side of each length's border."""
    text = bytes(b"abc{}"[at % 5] for at in range(length))
    frame = parsed(EncodedMessage(text).frame)
    assert (frame.opcode, bytes(frame.data)) == (Opcode.TEXT, text)
    assert frame.fin
    assert not any((frame.rsv1, frame.rsv2, frame.rsv3))


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_pieces_are_the_text_that_they_make(length: int) -> None:
    """A message of pieces is the message of the whole."""
    text = bytes(b"abc{}"[at % 5] for at in range(length))
    pieces = text[:3], b"", text[3:70], text[70:]
    whole = EncodedMessage(text, event_id="event_1", audio_ms=20)
    message = EncodedMessage.of(pieces, event_id="event_1", audio_ms=20)
    assert (message.payload, message.size, message.frame) == (text, whole.size, whole.frame)
    assert message.as_late() == whole.as_late()
    assert EncodedMessage.of(pieces, audio_ms=20, is_live=False).is_live is False


def test_the_frame_is_made_once() -> None:
    """All sockets write the same bytes object."""
    message = EncodedMessage(b"{}", audio_ms=20)
    assert message.frame is message.frame
    assert message.audio_ms == 20
    assert EncodedMessage(b"{}").audio_ms == 0


def test_sound_travels_in_a_binary_frame() -> None:
    """With ``is_binary`` the opcode says so, and nothing else changes."""
    frame = parsed(EncodedMessage(b"\0\1\2", is_binary=True).frame)
    assert (frame.opcode, bytes(frame.data)) == (Opcode.BINARY, b"\0\1\2")


@pytest.mark.parametrize("payload", [b"", b"{}", b"x" * 70_000])
def test_the_payload_stays(payload: bytes) -> None:
    """Also when the frame is all that is kept, and in the copy for those who come back."""
    message = EncodedMessage(payload, event_id="event_1", audio_ms=20)
    assert message.payload == payload
    frame = message.frame
    late = message.as_late()
    assert message.payload == late.payload == payload
    assert late.frame is frame
    assert (late.event_id, late.audio_ms, late.size, late.is_live) == ("event_1", 20, len(payload), False)
