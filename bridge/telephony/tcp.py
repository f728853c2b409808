"""What telephone calls need of a TCP connection, whoever has opened it."""

import socket
from typing import Any

__all__ = ["address_of", "notice_death"]

_DEATH_S = 10


def address_of(peername: Any) -> str:
    """``host:port`` of the other end of a connection, ``[host]:port`` for IPv6; empty if it has none."""
    if not isinstance(peername, tuple | list) or len(peername) < 2:
        return ""
    host, port = str(peername[0]), peername[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def notice_death(connection: Any) -> None:
    """Lets the kernel find out that the other machine is gone, for connections on which no ping may be sent."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", _DEATH_S), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):  # not every system has each
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _DEATH_S)
