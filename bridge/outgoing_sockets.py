"""WebSockets that the bridge itself opens: they follow no redirect, and no wait for the other side is unlimited."""

import asyncio
import contextlib

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

__all__ = ["WebSocketConnect", "close_in_time", "send_in_time"]


class WebSocketConnect(connect):
    """Connects as ``websockets`` does, but follows no redirect.

    A redirect would take the key and the caller's sound to a place that no operator chose.
    """

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Returns the answer as the error that it is."""
        return exc


async def send_in_time(connection: ClientConnection, message: str | bytes, timeout_s: float) -> None:
    """Sends a message; cuts the connection and raises ``TimeoutError`` if the other side does not take it in time.

    Raises ``ConnectionClosed`` if the connection is over. Pings do not find this out, because they wait for room too.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await connection.send(message)
    except TimeoutError:
        connection.transport.abort()
        raise


async def close_in_time(connection: ClientConnection, timeout_s: float, *, code: int = 1000, reason: str = "") -> None:
    """Says goodbye, and cuts the connection if the other side does not take that in time; may be called twice."""
    try:
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(OSError, WebSocketException):
                await connection.close(code, reason)
    except TimeoutError:
        pass
    finally:  # also if the wait itself was cancelled
        connection.transport.abort()
