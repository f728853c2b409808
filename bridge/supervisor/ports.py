"""The sockets that the supervisor binds, or was given, and hands to its workers.

Each worker listens with a socket of its own at the shared TCP port (SO_REUSEPORT): the kernel spreads connections over
the workers that live, and none waits in the queue of one that has died. The supervisor itself holds a socket there that
never listens, so that the port stays its own. A socket that a service manager gave is shared as it is: whichever worker
accepts first serves. Ports for metrics and the like are bound once and shared as well. UDP ports are each worker's own.
"""

import socket
from collections.abc import Iterable

from bridge.config import Config
from bridge.errors import ConfigError
from bridge.ports import GivenSocket, Ports

__all__ = ["SharedPorts"]

_OF_EACH = ("udp_port", "ice_tcp_port")


class SharedPorts:
    """The sockets of all workers."""

    def __init__(self, config: Config, given: Iterable[GivenSocket] = ()) -> None:
        """Binds what is not ``given``; raises ``ConfigError`` if a port cannot be had."""
        self._host = config.server.host
        self._count = config.cluster.workers
        kept = [each for each in given if not self._is_of_one_worker(each)]
        self._of_workers = self._spread(config, [each for each in given if self._is_of_one_worker(each)])
        ports = Ports(kept)
        has_port = any(each.name == "port" or each.socket.getsockname()[1] == config.server.port for each in kept)
        listening = ports.tcp(self._host, config.server.port)  # this also tells whether somebody else has the port
        self.port: int = listening.getsockname()[1]
        self._shared: dict[str, socket.socket] = {}
        self._reservation: socket.socket | None = None
        if has_port:
            self._shared["port"] = listening
        else:
            listening.close()
            self._reservation = self._new_listener()
        for setting, host, port in _shared_by_all(config):
            self._shared[setting] = ports.tcp(host, port, setting=setting)
        ports.close_rest()

    def of_worker(self, number: int) -> dict[str, socket.socket]:
        """Returns the sockets for one worker by their settings. The caller closes each of them after it was sent."""
        sockets = {setting: each.dup() for setting, each in {**self._shared, **self._of_workers[number]}.items()}
        if "port" not in sockets:
            sockets["port"] = self._new_listener()
        return sockets

    def close(self) -> None:
        """Closes the supervisor's own sockets."""
        reserved = () if self._reservation is None else (self._reservation,)
        of_workers = (each for sockets in self._of_workers for each in sockets.values())
        for each in (*reserved, *self._shared.values(), *of_workers):
            each.close()

    def _new_listener(self) -> socket.socket:
        """Binds one more socket at the shared port."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            bound.bind((self._host, self.port))
        except OSError as error:
            bound.close()
            message = f"port: cannot listen on TCP {self._host}:{self.port}: {error.strerror}"
            raise ConfigError(message, param="port") from error
        return bound

    @staticmethod
    def _is_of_one_worker(given: GivenSocket) -> bool:
        return given.socket.type == socket.SOCK_DGRAM or given.name in _OF_EACH

    def _spread(self, config: Config, given: list[GivenSocket]) -> list[dict[str, socket.socket]]:
        """Returns the given sockets that are one worker's alone, for each worker."""
        spread: list[dict[str, socket.socket]] = [{} for _ in range(self._count)]
        for setting in _OF_EACH:
            own = [each for each in given if (each.name or "udp_port") == setting]
            if own and len(own) != self._count:
                raise ConfigError(
                    f"{setting}: {len(own)} sockets were passed for {self._count} workers, but each worker needs its "
                    "own: pass as many as there are workers, with consecutive ports, or none",
                    param=setting,
                )
            for number, each in enumerate(sorted(own, key=lambda one: one.socket.getsockname()[1])):
                spread[number][setting] = each.socket
        return spread


def _shared_by_all(config: Config) -> Iterable[tuple[str, str, int]]:
    """Yields setting, host and number of each further TCP port at which any worker may accept."""
    if config.observe.metrics_port is not None:
        yield "metrics_port", config.observe.metrics_host, config.observe.metrics_port
    for section in config.carriers:
        for name in type(section).__struct_fields__:
            port = getattr(section, name)
            if name.endswith("_port") and port is not None:
                yield name, getattr(section, f"{name.removesuffix('port')}host"), port
