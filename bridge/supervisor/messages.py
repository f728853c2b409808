"""What a supervisor and its workers tell each other, one message at a time, over a pair of Unix sockets.

The first message, the worker's ``Assignment``, comes with the sockets that the worker serves on. If the connection
breaks, the other side is gone.
"""

import os
import socket
from collections.abc import MutableMapping, Sequence

import msgspec
from msgspec import Struct

from bridge.errors import ConfigError
from bridge.worker_group import WorkerState

__all__ = [
    "ALIVE_EVERY_S",
    "ENVIRONMENT",
    "Alive",
    "Assignment",
    "Failed",
    "FromWorker",
    "Reload",
    "Reloaded",
    "Replaced",
    "Serving",
    "Stop",
    "Stopping",
    "Table",
    "ToWorker",
    "connection_to_supervisor",
    "new_connection",
    "receive_assignment",
    "receive_message",
    "send_assignment",
    "send_message",
]

ENVIRONMENT = "SUPERVISOR_CONNECTION"
"""The variable that tells a worker who its supervisor is, and the descriptor that leads to it: ``PID:DESCRIPTOR``."""

ALIVE_EVERY_S = 1.0
"""How often a worker that serves says ``Alive``."""

_KIND = socket.SOCK_SEQPACKET
_MAX_BYTES = 64 * 1024
_MAX_DESCRIPTORS = 64


class _Message(Struct, frozen=True, kw_only=True, tag_field="type"):
    pass


# To a worker


class Assignment(_Message, frozen=True, kw_only=True, tag="assignment"):
    """The first message: which worker the process is."""

    number: int
    count: int
    started_at: float
    """The time at which the supervisor was started."""
    is_terminal: bool
    """Whether the log of all workers goes to a terminal in the end."""
    replaces: bool
    """Whether it takes over from the worker of this number that another supervisor runs."""
    ports: list[str]
    """The settings of the ports whose sockets come with this message."""


class Table(_Message, frozen=True, kw_only=True, tag="table"):
    """All workers as they are now."""

    workers: list[WorkerState]
    log_lines_dropped: int


class Reload(_Message, frozen=True, kw_only=True, tag="reload"):
    """Read the settings again."""


class Stop(_Message, frozen=True, kw_only=True, tag="stop"):
    """Stop together with all other workers; the second time, close running calls at once."""


ToWorker = Assignment | Table | Reload | Stop

# From a worker


class Failed(_Message, frozen=True, kw_only=True, tag="failed"):
    """The start is refused, because a setting is wrong."""

    message: str
    param: str


class Serving(_Message, frozen=True, kw_only=True, tag="serving"):
    """The worker serves; after ``Reload`` it says so again."""

    url: str
    """The URL of the console."""
    node_id: str
    node_url: str
    udp_port: int
    engine: str
    drain_s: float


class Reloaded(_Message, frozen=True, kw_only=True, tag="reloaded"):
    """A request has had this worker read the settings again."""


class Replaced(_Message, frozen=True, kw_only=True, tag="replaced"):
    """The process ``pid`` has taken over from this one, which drains."""

    pid: int
    drain_s: float


class Stopping(_Message, frozen=True, kw_only=True, tag="stopping"):
    """The worker takes no more calls. It ends within ``drain_s`` and the time that closing takes."""

    calls: int
    drain_s: float


class Alive(_Message, frozen=True, kw_only=True, tag="alive"):
    """The event loop of the worker runs."""


FromWorker = Alive | Failed | Serving | Reloaded | Replaced | Stopping

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[ToWorker | FromWorker] = msgspec.json.Decoder(ToWorker | FromWorker)


def new_connection() -> tuple[socket.socket, socket.socket]:
    """Returns both ends of a connection between a supervisor and a worker."""
    here, there = socket.socketpair(socket.AF_UNIX, _KIND)
    here.setblocking(False)
    return here, there


def send_message(connection: socket.socket, message: ToWorker | FromWorker) -> bool:
    """Sends a message; returns False if the other side is gone, or has not read for so long that there is no room."""
    try:
        connection.send(_encoder.encode(message))
    except OSError:
        return False
    return True


def receive_message(connection: socket.socket) -> ToWorker | FromWorker | None:
    """Returns the next message; None if the other side is gone. Raises ``BlockingIOError`` if there is none yet."""
    try:
        data = connection.recv(_MAX_BYTES)
    except ConnectionError:
        return None
    return _decoder.decode(data) if data else None


def send_assignment(
    connection: socket.socket, assignment: Assignment, sockets: Sequence[socket.socket], log: int
) -> None:
    """Sends the first message, with these sockets, and the descriptor of the log that all workers have."""
    socket.send_fds(connection, [_encoder.encode(assignment)], [*(each.fileno() for each in sockets), log])


def receive_assignment(connection: socket.socket) -> tuple[Assignment, list[socket.socket], int]:
    """Waits for the first message, and returns it with its sockets and the descriptor of the log.

    Raises ``ConfigError`` if none comes.
    """
    try:
        data, descriptors, _, _ = socket.recv_fds(connection, _MAX_BYTES, _MAX_DESCRIPTORS)
    except OSError:
        data, descriptors = b"", []
    message = _decoder.decode(data) if data else None
    if not isinstance(message, Assignment):
        raise ConfigError("workers: the supervisor ended before this worker started", param="workers")
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    *of_ports, log = descriptors
    return message, [socket.socket(fileno=descriptor) for descriptor in of_ports], log


def connection_to_supervisor(environ: MutableMapping[str, str]) -> socket.socket | None:
    """Returns the connection to the supervisor that has started this process; None if none has.

    It takes the variable that says so out of ``environ``, because it is for this process alone.
    """
    pid, _, descriptor = environ.pop(ENVIRONMENT, "").partition(":")
    if pid != str(os.getppid()):
        return None
    os.set_inheritable(int(descriptor), False)
    return socket.socket(fileno=int(descriptor))
