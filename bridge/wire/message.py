"""One message for many sockets: its text and its WebSocket frame are made once, whoever gets it."""

__all__ = ["Message"]


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
            frame = self._frame = _text_frame(self.text)
        return frame


def _text_frame(payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    if length < 65_536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload
