"""Datagrams between the processes that share a UDP socket while one takes over from another.

A socket has one reader, which is the newest process. A datagram that it does not know, by address, by user fragment or
by SSRC, may belong to a call of an older process. So it is forwarded to each of them over a line of its own, with the
address that it came from. An older process answers over the shared socket itself. If a line has no room for a datagram,
that is lost and counted, as in a network.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from bridge.webrtc.ice import MAX_DATAGRAM_BYTES, Address

__all__ = ["DatagramInlet", "DatagramForwarder"]

_LINE_BYTES = 4 * 1024 * 1024
_HEAD_BYTES = 128  # the address, as text
_MAX_HEADS = 8192
_BATCH = 32  # datagrams that are handled before others have their turn


class DatagramForwarder:
    """Forwards datagrams to older processes, over a line to each; ``drops`` counts what did not fit into one."""

    def __init__(self, lines: Iterable[socket.socket], drops: Counter[str]) -> None:
        self.lines = list(lines)
        self._drops = drops
        self._heads: dict[Address, bytes] = {}

    def forward(self, datagram: bytes, address: Address) -> bool:
        """Hands a datagram to all older processes; False if none is left."""
        if not self.lines or len(datagram) > MAX_DATAGRAM_BYTES:
            return False
        head = self._heads.get(address)
        if head is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            head = self._heads[address] = " ".join(map(str, address)).encode() + b"\n"
        for line in tuple(self.lines):
            try:
                line.send(head + datagram)
            except BlockingIOError:
                self._drops["forward_busy"] += 1
            except OSError:  # that process has ended
                self.lines.remove(line)
                line.close()
        return bool(self.lines)

    def close(self) -> None:
        """Closes the lines: nothing more is forwarded."""
        for line in self.lines:
            line.close()
        self.lines.clear()


class DatagramInlet:
    """An older process's end of its line: it hands what comes there to ``mux`` as if the socket had brought it."""

    def __init__(self, line: socket.socket, mux: asyncio.DatagramProtocol) -> None:
        self._line = line
        self._mux = mux
        self._addresses: dict[bytes, Address] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(line.fileno(), self._read)

    @classmethod
    def new(cls, mux: asyncio.DatagramProtocol) -> "tuple[DatagramInlet, socket.socket]":
        """Makes an inlet, and the end for the process that reads the socket from now on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setblocking(False)
            with suppress(OSError):  # the kernel's own limit then holds
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LINE_BYTES)
        return cls(ours, mux), theirs

    def close(self) -> None:
        """Closes the inlet, which takes no more; may be called twice."""
        if self._line.fileno() >= 0:
            self._loop.remove_reader(self._line.fileno())
            self._line.close()

    def _read(self) -> None:
        for _ in range(_BATCH):
            try:
                message = self._line.recv(_HEAD_BYTES + MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:  # the other end is closed
                self.close()
                return
            head, _, datagram = message.partition(b"\n")
            address = self._addresses.get(head)
            if address is None:
                if len(self._addresses) >= _MAX_HEADS:
                    self._addresses.clear()
                host, *numbers = head.decode().split(" ")
                address = self._addresses[head] = (host, *map(int, numbers))
            self._mux.datagram_received(datagram, address)
