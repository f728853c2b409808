"""The lines of a body that comes in pieces, however small the pieces are."""

__all__ = ["Lines"]


class Lines:
    """Cuts pieces into lines. Whoever adds pieces bounds how many bytes these are."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def add(self, piece: bytes) -> list[bytes]:
        """Returns the lines that this piece ends, without their line feeds."""
        self._rest += piece
        if b"\n" not in piece:  # the line so far is not looked at again, so that a byte costs the same in a long line
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        return lines

    @property
    def rest_bytes(self) -> int:
        """The number of bytes of the line that has not ended yet."""
        return len(self._rest)
