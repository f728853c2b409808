"""Connections to the HTTP port that bring media: the first byte tells them from HTTP and TLS.

Media over TCP begins with the length of a STUN message (RFC 4571 section 2), and the first byte of that is never above
5. A request begins with a letter, TLS with 22 (RFC 8446 section 5.1). The room that takes media decides what is media.
"""

import asyncio
import socket
from collections.abc import Callable

__all__ = ["NewMediaLine", "begins_media", "peek"]

NewMediaLine = Callable[[], asyncio.Protocol]
"""Makes what speaks on a connection that brings media."""

_HIGHEST = 5  # the first of the two bytes of a length below 1,536


def begins_media(data: bytes) -> bool:
    """Whether a connection that begins with ``data`` brings media, if anything that we serve."""
    return data[0] <= _HIGHEST


async def peek(connection: socket.socket) -> bytes:
    """Returns the first byte that comes, which stays to be read; empty if the connection ends instead."""
    loop = asyncio.get_running_loop()
    has_come = loop.create_future()
    loop.add_reader(connection.fileno(), _tell, has_come)
    try:
        await has_come
    finally:
        loop.remove_reader(connection.fileno())
    return connection.recv(1, socket.MSG_PEEK)


def _tell(has_come: asyncio.Future[None]) -> None:
    if not has_come.done():
        has_come.set_result(None)
