"""Connects to a channel that waits in Asterisk, which is the WebSocket server in this case."""

import asyncio
from typing import cast

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.protocol import State
from websockets.typing import Subprotocol

from bridge.context import address_of
from bridge.errors import UpstreamError
from bridge.outgoing import TLS
from bridge.outgoing_sockets import WebSocketConnect
from bridge.sliced import SlicedConnection
from bridge.telephony.asterisk.dialect import SUBPROTOCOL
from bridge.telephony.leg import HANG_UP_CODES
from bridge.telephony.tcp import notice_death

__all__ = ["FetchedSocket", "fetch"]

_OPEN_TIMEOUT_S = 5.0
_CLOSE_DEADLINE_S = 2.0
_MAX_MESSAGE_BYTES = 65_536


class FetchedSocket:
    """A connection that the bridge has made.

    It is written to without waiting, like the connections that come to the bridge.
    """

    def __init__(self, connection: SlicedConnection) -> None:
        self._connection = connection

    def write_messages(self, messages: list[str | bytes]) -> None:
        """Sends messages. If the socket is closing, nothing is sent."""
        connection = self._connection
        if connection.state is not State.OPEN:
            return
        for message in messages:
            if isinstance(message, str):
                connection.protocol.send_text(message.encode())
            else:
                connection.protocol.send_binary(message)
        connection.send_data()

    def close(self, code: int, reason: str) -> None:
        """Closes the connection in order. The socket is gone soon after, whatever Asterisk does."""
        connection = self._connection
        if connection.state is State.OPEN:
            connection.protocol.send_close(code, reason)
            connection.send_data()
            asyncio.get_running_loop().call_later(_CLOSE_DEADLINE_S, connection.transport.abort)

    @property
    def address(self) -> str:
        """The address of Asterisk, as ``host:port``."""
        return address_of(self._connection.transport.get_extra_info("peername"))

    @property
    def buffered_bytes(self) -> int:
        """The number of bytes that the kernel has not taken yet."""
        return self._connection.transport.get_write_buffer_size()

    async def receive_message(self) -> str | bytes | None:
        """Returns the next message; None if Asterisk has hung up.

        Raises ``ConnectionError`` if the connection broke.
        """
        try:
            await self._connection.work.rest()
            message = await self._connection.recv()
            self._connection.work.begin()
            return message
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code in HANG_UP_CODES:
                return None
            raise ConnectionResetError from None


async def fetch(url: str) -> FetchedSocket:
    """Returns a connection to the channel that waits at ``url``; raises ``UpstreamError``."""
    try:
        connection = await WebSocketConnect(
            url,
            create_connection=SlicedConnection,
            ssl=TLS if url.startswith("wss:") else None,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,  # Asterisk fails the connection if an extension is used
            ping_interval=None,  # a ping ends the call in Asterisk up to 20.17, 22.7 and 23.1
            open_timeout=_OPEN_TIMEOUT_S,
            close_timeout=_CLOSE_DEADLINE_S,
            max_size=_MAX_MESSAGE_BYTES,
            proxy=None,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        raise UpstreamError(f"Asterisk refused with HTTP status {status}.", code="carrier_refused") from None
    except (OSError, TimeoutError, InvalidHandshake) as error:
        reason = type(error).__name__
        raise UpstreamError(f"Asterisk cannot be reached: {reason}.", code="carrier_unreachable") from None
    notice_death(connection.transport.get_extra_info("socket"))
    return FetchedSocket(cast(SlicedConnection, connection))
