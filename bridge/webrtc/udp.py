"""The UDP socket of all media: read in batches, and sound that has waited too long is dropped.

When the process is late, packets queue in the kernel: megabytes of them, seconds old, in front of those that matter.
The kernel notes when each arrived. As long as the socket is read empty often enough none of them can be old, and no
note is read. If it was not, sound that is older than half a second is thrown away, which takes two microseconds a
packet. So whatever a call lives on (STUN, which carries its consent, and DTLS) comes next within a moment, and the
round trip stays short enough for a call.
"""

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from bridge.burst import Burst
from bridge.webrtc.mux import Mux

__all__ = ["MAX_AGE_S", "MediaSocket"]

MAX_AGE_S = 0.5
"""The age above which sound that waited is dropped."""
_MAY_BE_OLD_S = 0.25  # if the socket was last empty longer ago than this
_BATCH = 32  # datagrams that are handled before others have their turn; libuv has as many
_BURST = 8  # of them that are one burst: the first one waits until the last one is done
_MAX_DROPPED = 2048  # dropped from one batch
_DATAGRAM_BYTES, _ANCILLARY_BYTES = 2048, 64
_TIMESTAMP = struct.Struct("=qq")  # struct timespec, of CLOCK_REALTIME
_SO_TIMESTAMPNS = 35  # Linux; the socket module has no name for it


class MediaSocket(asyncio.DatagramTransport):
    """``mux``'s transport over a bound ``udp`` socket, which it closes. ``wall`` is the clock of the kernel's notes."""

    def __init__(
        self,
        udp: socket.socket,
        mux: Mux,
        *,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
        is_reading: bool = True,
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._udp = udp
        self._mux = mux
        self._clock = clock or self._loop.time
        self._wall = wall
        self._was_empty = self._clock()
        self._burst = Burst.of(self._loop)
        self._is_closing = False
        self._has_timestamps = _notes_arrivals(udp)
        self._is_reading = False
        if is_reading:
            self.read_on()
        mux.connection_made(self)

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Sends a datagram, or loses it."""
        if self._is_closing:
            return
        try:
            self._udp.sendto(data, addr)
        except OSError as error:
            self._mux.error_received(error)

    def read_on(self) -> None:
        """Reads what comes, and what has come already."""
        if not self._is_reading and not self._is_closing:
            self._is_reading = True
            self._was_empty = self._clock()
            self._loop.add_reader(self._udp.fileno(), self._read)

    def pause(self) -> None:
        """Leaves what comes to another process that has this socket; this one may still send."""
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._udp.fileno())

    def is_closing(self) -> bool:
        """Whether nothing is sent any more."""
        return self._is_closing

    def close(self) -> None:
        """Closes the socket; may be called twice."""
        if not self._is_closing:
            self.pause()
            self._is_closing = True
            self._udp.close()

    def _read(self) -> None:
        """Reads one batch, because the socket has something."""
        now = self._clock()
        if self._has_timestamps and now - self._was_empty > _MAY_BE_OLD_S:
            self._read_by_age(now)
            return
        receive, datagrams = self._udp.recvfrom, []
        for _ in range(_BATCH):
            try:
                datagrams.append(receive(_DATAGRAM_BYTES))
            except BlockingIOError:
                self._was_empty = now
                break
            except OSError as error:
                self._mux.error_received(error)
        self._take(datagrams, now)

    def _read_by_age(self, now: float) -> None:
        receive, mux, datagrams = self._udp.recvmsg, self._mux, []
        oldest = self._wall() - MAX_AGE_S
        handled = dropped = 0
        while handled < _BATCH and dropped < _MAX_DROPPED:
            try:
                datagram, notes, _, address = receive(_DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                self._was_empty = now
                break
            except OSError as error:
                handled += 1
                mux.error_received(error)
                continue
            if datagram[:1] >= b"\x80" and _arrival(notes) < oldest:
                dropped += 1
                mux.drops["too_old"] += 1
            else:
                handled += 1
                datagrams.append((datagram, address))
        self._take(datagrams, now)

    def _take(self, datagrams: list[tuple[bytes, Any]], now: float) -> None:
        """Handles a batch, a few datagrams at a time."""
        burst = self._burst
        for at in range(0, len(datagrams), _BURST):
            burst.begin()
            try:
                self._mux.receive_burst(datagrams[at : at + _BURST], burst)
            finally:
                burst.finish(now)


def _notes_arrivals(udp: socket.socket) -> bool:
    """Asks the kernel to note when each datagram arrives; False if it does not."""
    if sys.platform != "linux":
        return False
    try:
        udp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def _arrival(notes: list[tuple[int, int, bytes]]) -> float:
    """Returns when the datagram came, in Unix time; now if nothing is noted."""
    for level, kind, data in notes:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) == _TIMESTAMP.size:
            seconds, nanoseconds = _TIMESTAMP.unpack(data)
            return float(seconds + nanoseconds * 1e-9)
    return float("inf")
