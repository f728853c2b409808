"""One message for many sockets: its text and its WebSocket frame are made once, whoever gets it."""

__all__ = ["Message", "frame_of"]


class Message:
    """JSON text, with what a full listener needs to know to decide on it."""

    __slots__ = ("_frame", "audio_ms", "is_live", "text")

    def __init__(self, text: bytes, *, audio_ms: int = 0, is_live: bool = True) -> None:
        self.text = text
        self.is_live = is_live
        """It carries sound of the present moment, which is of little use when it comes late."""
        self.audio_ms = audio_ms
        """How much sound it carries; 0 for control events, which are never dropped."""
        self._frame: bytes | None = None

    @property
    def frame(self) -> bytes:
        """The text as one unmasked WebSocket text frame (RFC 6455 section 5.2)."""
        frame = self._frame
        if frame is None:
            frame = self._frame = frame_of(self.text)
        return frame


def frame_of(payload: bytes, *, is_text: bool = True) -> bytes:
    """One unmasked WebSocket frame that holds a whole message (RFC 6455 section 5.2)."""
    first = b"\x81" if is_text else b"\x82"
    length = len(payload)
    if length < 126:
        return first + bytes((length,)) + payload
    if length < 65_536:
        return first + b"\x7e" + length.to_bytes(2, "big") + payload
    return first + b"\x7f" + length.to_bytes(8, "big") + payload
