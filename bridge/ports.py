"""The sockets that the daemon serves on: whoever has started it gives them, or they are bound here."""

import errno
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from bridge.config import is_loopback
from bridge.errors import ConfigError

__all__ = ["GivenSocket", "Ports", "same_socket"]

_BACKLOG = 1024
_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class GivenSocket:
    """A bound socket that somebody else has opened."""

    socket: socket.socket
    name: str = ""
    """The setting of its port, if the giver has said so. If it is empty, only the port says what the socket is for."""
    is_optional: bool = False
    """Whether it is no mistake if the daemon has no use for it."""


class Ports:
    """The sockets of the daemon's ports, by setting: for each port the socket that was given, or else a new one."""

    def __init__(self, given: Iterable[GivenSocket] = ()) -> None:
        self._given = list(given)
        self._opened: dict[str, socket.socket] = {}

    def tcp(self, host: str, port: int, *, setting: str = "port") -> socket.socket:
        """Returns a listening TCP socket; raises ``ConfigError`` naming the setting if it cannot be had."""
        listening = self._take(socket.SOCK_STREAM, port, setting)
        if listening is not None:
            self._require_as_closed(listening, host, setting)
        else:
            listening = _new(host, socket.SOCK_STREAM)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(listening, host, port, setting)
        try:
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            raise _refusal(host, port, setting, error) from error
        listening.setblocking(False)
        self._opened[setting] = listening
        return listening

    def udp(self, host: str, port: int, *, setting: str = "udp_port") -> socket.socket:
        """Returns a bound UDP socket; raises ``ConfigError`` naming the setting if it cannot be had."""
        bound = self._take(socket.SOCK_DGRAM, port, setting)
        is_new = bound is None
        if bound is None:
            bound = _new(host, socket.SOCK_DGRAM)
        with suppress(OSError):  # in that case the kernel's own limit holds
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        if is_new:
            _bind(bound, host, port, setting)
        bound.setblocking(False)
        self._opened[setting] = bound
        return bound

    @property
    def opened(self) -> dict[str, socket.socket]:
        """The sockets that are in use, by their settings."""
        return {setting: each for setting, each in self._opened.items() if each.fileno() >= 0}

    def close_rest(self) -> None:
        """Closes the sockets that were given and are not used.

        Raises ``ConfigError`` if one of them was meant to be used.
        """
        rest, self._given = self._given, []
        used = list(self.opened.values())
        strangers = [given for given in rest if not given.is_optional and not _is_among(given.socket, used)]
        told = [f"{_kind(given.socket)} {_shown(given.socket)}" for given in strangers]
        for given in rest:
            given.socket.close()
        if told:
            raise ConfigError(
                f"port: no setting uses the socket that was passed, {', '.join(told)}: a socket is matched by its "
                "port, or by the name of a setting in FileDescriptorName",
                param="port",
            )

    def _take(self, kind: socket.SocketKind, port: int, setting: str) -> socket.socket | None:
        for given in self._given:
            if given.socket.type != kind or given.socket.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            if given.name == setting or (given.name == "" and given.socket.getsockname()[1] == port):
                self._given.remove(given)
                return given.socket
        return None

    @staticmethod
    def _require_as_closed(listening: socket.socket, host: str, setting: str) -> None:
        """Raises ``ConfigError`` if others can reach the socket although the host's setting says that they cannot.

        The check of keys goes by that setting.
        """
        bound = listening.getsockname()[0]
        if is_loopback(host) and not is_loopback(bound):
            listening.close()
            host_setting = f"{setting.removesuffix('port')}host"
            raise ConfigError(
                f"{host_setting}: the socket that was passed is bound to {bound}, which other machines can reach, but "
                f"{host_setting} is {host}: set it to {bound}",
                param=host_setting,
            )


def same_socket(one: socket.socket, other: socket.socket) -> bool:
    """Returns whether both are the kernel's same socket, however each of them was opened or received."""
    return os.fstat(one.fileno()).st_ino == os.fstat(other.fileno()).st_ino


def _is_among(one: socket.socket, others: Iterable[socket.socket]) -> bool:
    return any(same_socket(one, other) for other in others)


def _new(host: str, kind: socket.SocketKind) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)


def _bind(bound: socket.socket, host: str, port: int, setting: str) -> None:
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise _refusal(host, port, setting, error) from error


def _refusal(host: str, port: int, setting: str, error: OSError) -> ConfigError:
    what = "bind UDP" if setting == "udp_port" else "listen on TCP"
    is_taken = error.errno == errno.EADDRINUSE
    advice = f"; end the program that uses it, or choose another {setting}" if is_taken else ""
    return ConfigError(f"{setting}: cannot {what} {host}:{port}: {error.strerror}{advice}", param=setting)


def _kind(bound: socket.socket) -> str:
    if bound.family not in (socket.AF_INET, socket.AF_INET6):
        return "of another family"
    return "UDP" if bound.type == socket.SOCK_DGRAM else "TCP"


def _shown(bound: socket.socket) -> str:
    address = bound.getsockname()
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else repr(address)
