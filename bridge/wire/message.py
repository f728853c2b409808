"""One message for many sockets: its WebSocket frame is made once for all who get it."""

from msgspec import Struct

__all__ = ["EncodedMessage", "frame_of"]

_TEXT, _BINARY = b"\x81", b"\x82"


class EncodedMessage(Struct, gc=False):
    """A message with what a full listener needs to know to decide on it: JSON text, or sound in a binary frame.

    Thousands are kept to be replayed. None is part of a cycle, so the garbage collector need not look at them.
    """

    _payload: bytes | None
    event_id: str = ""
    """The id of its event, behind which a listener may resume."""
    audio_ms: int = 0
    """How much sound it carries; 0 for control events, which are never dropped."""
    is_live: bool = True
    """Whether its sound is of the present moment: such sound is of little use if it comes late."""
    is_binary: bool = False
    _frame: bytes | None = None

    @staticmethod
    def of(pieces: tuple[bytes, ...], *, event_id: str = "", audio_ms: int, is_live: bool = True) -> "EncodedMessage":
        """Makes a message from pieces of JSON text.

        They are copied only once, into the frame, because such messages are made 50 times a second.
        """
        frame = b"".join((_frame_head(_TEXT, sum(map(len, pieces))), *pieces))
        return EncodedMessage(None, event_id, audio_ms, is_live, False, frame)

    @property
    def size(self) -> int:
        """The size of the payload in bytes."""
        if self._payload is None:
            assert self._frame is not None
            return len(self._frame) - _head_bytes(self._frame)
        return len(self._payload)

    @property
    def payload(self) -> bytes:
        """The bytes that the frame carries."""
        if self._payload is None:
            assert self._frame is not None
            return self._frame[_head_bytes(self._frame) :]
        return self._payload

    @property
    def frame(self) -> bytes:
        """The message as one WebSocket frame. Once it is made, the payload is kept as a part of it."""
        frame = self._frame
        if frame is None:
            assert self._payload is not None
            frame = self._frame = frame_of(self._payload, is_text=not self.is_binary)
            self._payload = None
        return frame

    def as_late(self) -> "EncodedMessage":
        """Returns the message for a listener that comes back: it waits for this sound, however old it is."""
        return EncodedMessage(None, self.event_id, self.audio_ms, False, self.is_binary, self.frame)


def frame_of(payload: bytes, *, is_text: bool = True) -> bytes:
    """Returns one unmasked WebSocket frame that holds a whole message (RFC 6455 section 5.2)."""
    return _frame_head(_TEXT if is_text else _BINARY, len(payload)) + payload


def _head_bytes(frame: bytes) -> int:
    """Returns how many bytes of an unmasked frame come before its payload."""
    return 2 if frame[1] < 126 else 4 if frame[1] == 126 else 10


def _frame_head(first: bytes, size: int) -> bytes:
    if size < 126:
        return first + bytes((size,))
    if size < 65_536:
        return first + b"\x7e" + size.to_bytes(2, "big")
    return first + b"\x7f" + size.to_bytes(8, "big")
