"""Media over TCP, for networks that let no UDP out: passive candidates (RFC 6544), each datagram framed (RFC 4571).

A peer connects to a port that only media uses, or to the one of HTTP. Its datagrams are those that would have come over
UDP: the mux takes them with the same checks, by the connection's address. A stranger may do less than over UDP: a
connection has to begin with a STUN check, and an agent's check has to succeed on it soon. Connections on which none has
succeeded are few, altogether and from one host. What a peer does not read in time is lost, as with UDP: nothing waits
for it.
"""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from bridge.context import holder_of
from bridge.webrtc.ice import MAX_DATAGRAM_BYTES, TCP, Address, PacketKind, packet_kind

__all__ = ["MAX_STRANGERS", "MAX_STRANGERS_OF_A_HOST", "IceTcp", "TcpLine"]

MAX_STRANGERS = 256
"""The most connections on which no agent's check has succeeded yet."""
MAX_STRANGERS_OF_A_HOST = 16
_MAX_WAITING_BYTES = 64 * 1024  # for one connection to send: a second of sound and some events; more is lost
_BATCH = 32  # datagrams that are handled before others have their turn
_LENGTH = struct.Struct("!H")

Taker = Callable[[bytes, Address], None]
"""Takes one datagram, and the connection's address."""


class IceTcp:
    """The port of media over TCP. Datagrams go to ``take``; ``gone`` is told of connections that have ended.

    ``admit`` is called when a check has succeeded on a connection, ``close_line`` when its agent has no use for it.
    ``drops`` counts connections that were refused or closed, by reason.
    """

    def __init__(
        self, take: Taker, gone: Callable[[Address], None], drops: Counter[str], *, check_within_s: float
    ) -> None:
        self.lines: dict[Address, TcpLine] = {}
        self.check_within_s = check_within_s
        """The time within which a connection must have shown a check."""
        self._strangers: Counter[str | int] = Counter()  # by who has the address
        self._take = take
        self._gone = gone
        self._drops = drops
        self._server: asyncio.Server | None = None

    async def listen(self, listening: socket.socket) -> None:
        """Accepts on a bound socket, which it closes at the end."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self.new_line, sock=listening, backlog=MAX_STRANGERS)

    def new_line(self) -> "TcpLine":
        """Makes what speaks on one connection, whoever has accepted it."""
        return TcpLine(self)

    def stop_listening(self) -> None:
        """Closes the port alone; may be called twice."""
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """Closes the port and every connection; may be called twice."""
        self.stop_listening()
        for line in tuple(self.lines.values()):
            line.abort()

    def admit(self, address: Address) -> None:
        """Notes that a check has succeeded on the connection."""
        line = self.lines.get(address)
        if line is not None and line.admit():
            self._forget_stranger(address)

    def close_line(self, address: Address) -> None:
        """Closes a connection that nobody has a use for; what was sent last still goes out."""
        line = self.lines.get(address)
        if line is not None:
            line.close()

    # What connections tell

    def opened(self, line: "TcpLine", address: Address) -> bool:
        """Takes a new connection; False if there is no room for it.

        False as well if the peer's address has a connection at another local address.
        """
        holder = holder_of(address[0])
        if address in self.lines:
            self._drops["tcp_twice"] += 1
            return False
        if self._strangers.total() >= MAX_STRANGERS or self._strangers[holder] >= MAX_STRANGERS_OF_A_HOST:
            self._drops["tcp_too_many"] += 1
            return False
        self._strangers[holder] += 1
        self.lines[address] = line
        return True

    def received(self, datagram: bytes, address: Address) -> None:
        """Takes one datagram of a connection."""
        self._take(datagram, address)

    def dropped(self, reason: str) -> None:
        """Counts a connection that is closed for what it did, or a datagram that is lost on its way out."""
        self._drops[reason] += 1

    def ended(self, line: "TcpLine", address: Address) -> None:
        """Notes that the connection is gone."""
        if self.lines.get(address) is line:
            del self.lines[address]
            if not line.is_admitted:
                self._forget_stranger(address)
            self._gone(address)

    def _forget_stranger(self, address: Address) -> None:
        holder = holder_of(address[0])
        self._strangers[holder] -= 1
        if not self._strangers[holder]:
            del self._strangers[holder]


class TcpLine(asyncio.Protocol):
    """One connection: datagrams with their lengths in front (RFC 4571 section 2)."""

    def __init__(self, port: IceTcp) -> None:
        self.is_admitted = False
        self._port = port
        self._address: Address = ()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._received, self._at = b"", 0
        self._is_resuming = False
        self._has_begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins to read the connection, or refuses it."""
        self._transport = made = cast(asyncio.Transport, transport)
        peer: tuple[Any, ...] = made.get_extra_info("peername") or ("", 0)
        self._address = (*peer[:2], TCP)
        if not self._port.opened(self, self._address):
            made.abort()
            return
        made.set_write_buffer_limits(high=_MAX_WAITING_BYTES)
        made.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._port.check_within_s, self._refuse, "tcp_no_check")

    def data_received(self, data: bytes) -> None:
        """Takes some bytes: a datagram, a part of one, or many."""
        self._received += data
        if not self._is_resuming:
            self._hand_over()

    def eof_received(self) -> None:
        """Closes the connection, because the peer sends nothing any more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes that the connection is gone."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._received, self._at = b"", 0
        self._port.ended(self, self._address)

    def sendto(self, datagram: bytes, address: Address) -> None:
        """Sends a datagram, or loses it if too much is waiting already."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > _MAX_WAITING_BYTES:
            self._port.dropped("tcp_slow")
            return
        transport.write(_LENGTH.pack(len(datagram)) + datagram)

    def admit(self) -> bool:
        """Notes that a check has succeeded here; False if one had succeeded before."""
        if self.is_admitted:
            return False
        self.is_admitted = True
        if self._deadline is not None:
            self._deadline.cancel()
        return True

    def close(self) -> None:
        """Closes it when what waits has been sent, and at once if the peer does not read that; may be called twice."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = asyncio.get_running_loop().call_later(self._port.check_within_s, self.abort)

    def abort(self) -> None:
        """Closes it at once."""
        if self._transport is not None:
            self._transport.abort()

    def _hand_over(self) -> None:
        """Hands over a batch of what has come; the rest when others have had their turn.

        Nothing is read before that.
        """
        data = self._received
        for _ in range(_BATCH):
            start = self._at + 2
            if len(data) < start:
                break
            (length,) = _LENGTH.unpack_from(data, self._at)
            if length > MAX_DATAGRAM_BYTES:
                self._refuse("tcp_framing")
                return
            if len(data) < start + length:
                break
            datagram = data[start : start + length]
            self._at = start + length
            if not self._has_begun and packet_kind(datagram) is not PacketKind.STUN:
                self._refuse("tcp_framing")
                return
            self._has_begun = True
            if length:  # an empty one says nothing
                self._port.received(datagram, self._address)
            if self._transport is None or self._transport.is_closing():
                return
        else:
            self._is_resuming = True
            self._pause()
            asyncio.get_running_loop().call_soon(self._resume)
            return
        self._received, self._at = data[self._at :], 0

    def _pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._is_resuming = False
        if self._transport is None or self._transport.is_closing():
            return
        self._hand_over()
        if not self._is_resuming:
            self._transport.resume_reading()

    def _refuse(self, reason: str) -> None:
        self._received, self._at = b"", 0
        self._port.dropped(reason)
        self.abort()
