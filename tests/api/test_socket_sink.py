"""The order of what is written to a WebSocket, whoever writes it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from websockets.protocol import State

from bridge.api.socket import BridgeWebSocket, SocketSink
from bridge.burst import Burst
from bridge.wire.message import EncodedMessage, frame_of


class Transport:
    """What was written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True


def a_sink() -> tuple[SocketSink, Transport, Burst]:
    """A sink over an open connection, and the burst of its event loop."""
    loop, transport = asyncio.get_running_loop(), Transport()
    conn = SimpleNamespace(state=State.OPEN, send_close=lambda code, reason: None, data_to_send=lambda: [b"goodbye"])
    protocol = SimpleNamespace(
        transport=transport, loop=loop, close_sent=False, conn=conn, queue=asyncio.Queue(), close_timer=None
    )
    return SocketSink(cast(BridgeWebSocket, cast(Any, protocol))), transport, Burst.of(loop)


async def test_a_message_waits_for_the_end_of_the_burst() -> None:
    """Outside of one it is written at once."""
    sink, transport, burst = a_sink()
    sink.send_message(EncodedMessage(b"first"))
    assert transport.written == frame_of(b"first")
    burst.begin()
    sink.send_message(EncodedMessage(b"second"))
    assert transport.written == frame_of(b"first")
    burst.finish(0.0)
    assert transport.written == frame_of(b"first") + frame_of(b"second")


async def test_what_is_written_at_once_comes_after_what_waits() -> None:
    """Messages of this socket alone, and its goodbye, come after all that was sent before them."""
    sink, transport, burst = a_sink()
    burst.begin()
    sink.send_message(EncodedMessage(b"first"))
    sink.write_messages(["second"])
    sink.send_message(EncodedMessage(b"third"))
    sink.close(1000, "")
    sink.send_message(EncodedMessage(b"too late"))
    burst.finish(0.0)
    assert transport.written == frame_of(b"first") + frame_of(b"second") + frame_of(b"third") + b"goodbye"
