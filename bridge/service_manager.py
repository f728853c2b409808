"""What systemd, or another service manager, and the daemon say to each other: sockets at the start, and states.

The manager opens sockets before it starts the daemon (sd_listen_fds(3)), and is told when the daemon is ready, reads
its settings again, is replaced, and stops (sd_notify(3)). Without a manager all of this is nothing.
"""

import os
import socket
import time
from collections.abc import MutableMapping

from bridge.errors import ConfigError
from bridge.ports import GivenSocket

__all__ = ["ServiceManager", "given_sockets"]

_FIRST_DESCRIPTOR = 3
_SEND_S = 1.0
_MARGIN_S = 30.0  # on top of what a stop may take by the settings


def given_sockets(environ: MutableMapping[str, str]) -> list[GivenSocket]:
    """The sockets that were passed to this process; the variables that say so are taken out of ``environ``.

    Raises ``ConfigError`` if something else was passed.
    """
    pid, count, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()):
        return []
    given = []
    for at, descriptor in enumerate(range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count or 0))):
        os.set_inheritable(descriptor, False)
        try:
            passed = socket.socket(fileno=descriptor)
        except OSError as error:
            message = f"port: descriptor {descriptor} was passed to this process and is no socket: {error.strerror}"
            raise ConfigError(message, param="port") from None
        name = dict(enumerate(names.split(":"))).get(at, "")
        given.append(GivenSocket(passed, name if name.endswith("port") else ""))
    return given


class ServiceManager:
    """Whom the daemon tells of its states; nobody, if the environment names none."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """The variable that names the manager is taken out of ``environ``: it is for this process alone."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self._main_pid = 0

    def ready(self, status: str) -> None:
        """The daemon serves, or goes on to; ``status`` is what a person is shown."""
        main = f"MAINPID={self._main_pid}\n" if self._main_pid else ""
        self._send(f"{main}READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The settings are read again; ``ready`` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def replaced(self, pid: int, drain_s: float) -> None:
        """Another process has taken over, and is the service from now on."""
        self._main_pid = pid
        self._send(
            f"MAINPID={pid}\nREADY=1\nSTATUS=Process {pid} serves; process {os.getpid()} drains for {drain_s:g} s."
        )

    def stopping(self, calls: int, drain_s: float) -> None:
        """The daemon takes no more calls; the manager gives it time for those that run, whatever its own limit is."""
        limit_us = round((drain_s + _MARGIN_S) * 1e6)
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={limit_us}\nSTATUS=Draining {calls} calls.")

    def _send(self, state: str) -> None:
        """Never fails: a manager that does not listen is its own affair."""
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
                told.settimeout(_SEND_S)
                told.sendto(state.encode(), address)
        except OSError:
            pass
