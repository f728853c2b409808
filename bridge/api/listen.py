"""TCP ports that the daemon listens on."""

import errno
import socket

from bridge.errors import ConfigError

__all__ = ["bind"]


def bind(host: str, port: int, *, setting: str = "port") -> socket.socket:
    """A listening TCP socket; raises ``ConfigError`` naming the setting where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        advice = (
            f"; end the program that uses it, or choose another {setting}" if error.errno == errno.EADDRINUSE else ""
        )
        raise ConfigError(
            f"{setting}: cannot listen on TCP {host}:{port}: {error.strerror}{advice}", param=setting
        ) from error
    return listening
