"""Sets up TCP connections of telephone calls, whichever side has opened them."""

import socket
from typing import Any

__all__ = ["notice_death"]

_DEATH_S = 10


def notice_death(connection: Any) -> None:
    """Lets the kernel notice that the other machine is gone, for connections on which no ping may be sent."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", _DEATH_S), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):  # not every system has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _DEATH_S)
