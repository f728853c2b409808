"""SRTP under the keys of one association: libsrtp itself, called without pylibsrtp's wrapper around each packet.

The sessions, and the buffers in which packets are worked on, are pylibsrtp's; this is the one module that touches its
private names. A version of pylibsrtp that it does not know is called by its public methods, which take a little longer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pylibsrtp
from pylibsrtp import Error as SrtpError
from pylibsrtp import Session

__all__ = ["SrtpError", "SrtpKeys", "keys_of"]


_KNOWN_VERSIONS = "1.0."


class SrtpKeys(NamedTuple):
    """What SRTP does with packets under the keys of one association; the functions raise ``SrtpError``."""

    protect: Callable[[bytes], bytes]
    protect_rtcp: Callable[[bytes], bytes]
    unprotect: Callable[[bytes], bytes]
    unprotect_rtcp: Callable[[bytes], bytes]
    forget_stream: Callable[[int], None]
    """Drops the state of one of the peer's streams, by its SSRC."""


def keys_of(ours: Session, theirs: Session) -> SrtpKeys:
    """Returns the functions of two sessions: ``ours`` has the keys to send with, ``theirs`` those to receive with."""
    if not pylibsrtp.__version__.startswith(_KNOWN_VERSIONS):
        return SrtpKeys(
            _public(ours.protect),
            _public(ours.protect_rtcp),
            _public(theirs.unprotect),
            _public(theirs.unprotect_rtcp),
            theirs.remove_stream,
        )
    from pylibsrtp._binding import ffi, lib  # type: ignore[import-not-found]  # only a known version surely has it

    return SrtpKeys(
        _PacketFunction(ours, lib.srtp_protect, pylibsrtp.SRTP_MAX_TRAILER_LEN, ffi.new("int *")).run,
        _PacketFunction(ours, lib.srtp_protect_rtcp, pylibsrtp.SRTP_MAX_SRTCP_TRAILER_LEN, ffi.new("int *")).run,
        _PacketFunction(theirs, lib.srtp_unprotect, 0, ffi.new("int *")).run,
        _PacketFunction(theirs, lib.srtp_unprotect_rtcp, 0, ffi.new("int *")).run,
        theirs.remove_stream,
    )


def _public(method: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Returns what calls a method of pylibsrtp, for which a packet that is too long is another kind of error."""

    def run(packet: bytes) -> bytes:
        try:
            return method(packet)
        except ValueError as error:
            raise SrtpError(str(error)) from None

    return run


class _PacketFunction:
    """One function of libsrtp, which changes a packet in place; it may become longer by ``trailer_bytes``.

    ``length`` is the C integer that says how long the packet is, before and after.
    """

    def __init__(self, session: Session, function: Any, trailer_bytes: int, length: Any) -> None:
        self._session = session  # which frees its context with its end
        self._function = function
        self._context = session._srtp[0]
        self._packet = session._cdata
        self._view = session._buffer
        self._length = length
        self._max_bytes = len(session._cdata) - trailer_bytes

    def run(self, packet: bytes) -> bytes:
        """Returns the packet as the function makes it; raises ``SrtpError``."""
        size = len(packet)
        if size > self._max_bytes:
            raise SrtpError("packet is too long")
        view, length = self._view, self._length
        view[0:size] = packet
        length[0] = size
        status = self._function(self._context, self._packet, length)
        if status:
            raise SrtpError(pylibsrtp.ERRORS[status])
        made: bytes = view[0 : length[0]]
        return made
