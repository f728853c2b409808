"""A WebSocket that the bridge has opened, read in turns: a service that sends very much does not make other calls
wait.
"""

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ProtocolError

from bridge.turns import Work

__all__ = ["SlicedConnection"]

_SLICE_BYTES = 4096  # holds some 1,000 of the smallest frames of a server
_MAX_FRAGMENTS = 16_384  # of one message


class SlicedConnection(ClientConnection):
    """A connection for ``connect(..., create_connection=SlicedConnection)``; ``work`` also times its messages."""

    work: Work

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Notes that the TCP connection exists."""
        super().connection_made(transport)
        self.work = Work(self.loop)
        self._unparsed = bytearray()
        self._is_waiting = self._is_held = False
        self._fragments = 0
        self.recv_messages.pause = self._hold
        self.recv_messages.resume = self._go_on

    def connection_lost(self, exc: Exception | None) -> None:
        """Drops what was read and not parsed, because the connection is gone."""
        self._unparsed.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes bytes of frames, cut anywhere."""
        if len(data) > _SLICE_BYTES or self._unparsed or self._is_held or not self.work.begin_in_time():
            self._unparsed += data
            self._parse_later()
            return
        self._take(data)

    def process_event(self, event: Any) -> None:
        """Takes one frame; too many fragments of one message end the connection."""
        if getattr(event, "fin", True):
            self._fragments = 0
        else:
            self._fragments += 1
            if self._fragments > _MAX_FRAGMENTS:
                self.set_recv_exc(ProtocolError("too many fragments"))
                self.transport.abort()
                return
        super().process_event(event)

    def _take(self, data: bytes) -> None:
        super().data_received(data)
        self.work.end()

    def _hold(self) -> None:
        self._is_held = True
        self._parse_later()

    def _go_on(self) -> None:
        self._is_held = False
        self._parse_later()

    def _parse_later(self) -> None:
        """Parses in the connection's next turn. Until everything is parsed, nothing is read."""
        transport = self.transport
        if transport.is_closing():
            self._unparsed.clear()
            return
        if self._unparsed and not self._is_waiting and not self._is_held:
            self._is_waiting = True
            self.work.next_turn(self._parse)
        wants = not self._unparsed and not self._is_held
        if wants != transport.is_reading():
            if wants:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _parse(self) -> None:
        self._is_waiting = False
        if not self._is_held:
            piece = bytes(self._unparsed[:_SLICE_BYTES])
            del self._unparsed[:_SLICE_BYTES]
            if piece:
                self.work.begin()
                self._take(piece)
        self._parse_later()
