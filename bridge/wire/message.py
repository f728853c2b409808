"""One message for many sockets: its WebSocket frame is made once, whoever gets it."""

__all__ = ["Message", "frame_of"]


class Message:
    """JSON text, or sound in a binary frame, with what a full listener needs to know to decide on it."""

    __slots__ = ("_frame", "_payload", "audio_ms", "event_id", "is_binary", "is_live", "size")

    def __init__(
        self,
        payload: bytes,
        *,
        event_id: str = "",
        audio_ms: int = 0,
        is_live: bool = True,
        is_binary: bool = False,
    ) -> None:
        self.event_id = event_id
        """By which a listener may resume behind it."""
        self.size = len(payload)
        self.is_live = is_live
        """It carries sound of the present moment, which is of little use when it comes late."""
        self.audio_ms = audio_ms
        """How much sound it carries; 0 for control events, which are never dropped."""
        self.is_binary = is_binary
        self._payload: bytes | None = payload
        self._frame: bytes | None = None

    @property
    def payload(self) -> bytes:
        """What the frame carries."""
        if self._payload is None:
            assert self._frame is not None
            return self._frame[-self.size :] if self.size else b""
        return self._payload

    @property
    def frame(self) -> bytes:
        """One WebSocket frame; from now on the payload is kept as a part of it."""
        if self._frame is None:
            assert self._payload is not None
            self._frame = frame_of(self._payload, is_text=not self.is_binary)
            self._payload = None
        return self._frame

    def as_late(self) -> "Message":
        """The same for a listener that comes back: it waits for this sound, however old it is."""
        message = Message.__new__(Message)
        message.event_id, message.size = self.event_id, self.size
        message.audio_ms, message.is_binary = self.audio_ms, self.is_binary
        message.is_live = False
        message._payload, message._frame = None, self.frame
        return message


def frame_of(payload: bytes, *, is_text: bool = True) -> bytes:
    """One unmasked WebSocket frame that holds a whole message (RFC 6455 section 5.2)."""
    first = b"\x81" if is_text else b"\x82"
    length = len(payload)
    if length < 126:
        return first + bytes((length,)) + payload
    if length < 65_536:
        return first + b"\x7e" + length.to_bytes(2, "big") + payload
    return first + b"\x7f" + length.to_bytes(8, "big") + payload
