"""What the daemon and systemd, or another service manager, tell each other: sockets at the start, and states.

The manager opens sockets before it starts the daemon (sd_listen_fds(3)), and is told when the daemon is ready, reads
its settings again, is replaced, and stops (sd_notify(3)). Without a manager nothing of this happens.
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
_MARGIN_S = 30.0  # added to the time that a stop may take by the settings


def given_sockets(environ: MutableMapping[str, str]) -> list[GivenSocket]:
    """Returns the sockets that were passed to this process, and takes the variables that say so out of ``environ``.

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
            message = (
                f"port: descriptor {descriptor}, which was passed to this process, is not a socket: {error.strerror}"
            )
            raise ConfigError(message, param="port") from None
        name = dict(enumerate(names.split(":"))).get(at, "")
        given.append(GivenSocket(passed, name if name.endswith("port") else ""))
    return given


class ServiceManager:
    """The service manager, which the daemon tells of its states. If the environment names none, nobody is told."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Takes the variable that names the manager out of ``environ``, because it is for this process alone."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self._main_pid = 0

    def ready(self, status: str) -> None:
        """Tells the manager that the daemon serves, or goes on serving; ``status`` is for a person."""
        main = f"MAINPID={self._main_pid}\n" if self._main_pid else ""
        self._send(f"{main}READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Tells the manager that the settings are read again; ``ready`` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def replaced(self, pid: int, drain_s: float) -> None:
        """Tells the manager that another process has taken over, and is the service from now on."""
        self._main_pid = pid
        self._send(
            f"MAINPID={pid}\nREADY=1\nSTATUS=Process {pid} serves; process {os.getpid()} drains for {drain_s:g} s."
        )

    def stopping(self, calls: int, drain_s: float) -> None:
        """Tells the manager that the daemon takes no more calls, and how long it may take over those that run.

        The manager waits for that long, whatever its own limit is.
        """
        limit_us = round((drain_s + _MARGIN_S) * 1e6)
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={limit_us}\nSTATUS=Draining {calls} calls.")

    def _send(self, state: str) -> None:
        """Sends a state. It never fails: if the manager does not listen, the daemon goes on."""
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
                told.settimeout(_SEND_S)
                told.sendto(state.encode(), address)
        except OSError:
            pass
