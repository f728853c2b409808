"""Lets one process take over from another on the same machine: no connection is refused, and no call is lost.

Theory of operation. A daemon listens at a Unix socket that is named by its address and port, and accepts processes of
its own user. ``bridge serve --replace`` connects there, and gets the very sockets that the old process listens on. In
the kernel each of them is still one queue, so whoever is about to connect waits in it and is served by whichever
process accepts. (With SO_REUSEPORT each process would have a queue of its own, and connections that wait in the old
one's would be reset when it closes.)

The new process loads its models while the old one goes on serving. When it is ready it says so. The old one stops
accepting and reading, in one step, passes on what it knows of keys, and drains. Datagrams for the old one's calls are
forwarded to it (see ``bridge.webrtc.forwarding``). The connection stays open until the old process is gone, so that the
new one notices.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, NoReturn, Protocol

import msgspec
from msgspec import Struct

from bridge.errors import ConfigError
from bridge.log import get_logger
from bridge.ports import GivenSocket, Ports, same_socket

__all__ = ["ReplaceableProcess", "Handover", "OpenedPorts", "Predecessor", "TakenOver"]

_log = get_logger("daemon")

_ANSWER_S = 10.0
_RETRY_S = 1.0
_READY_S = 900.0  # the new process loads its models meanwhile
_MAX_MESSAGE_BYTES = 64 * 1024
_MAX_DESCRIPTORS = 64
_WAITING = 8
_KIND = socket.SOCK_SEQPACKET | getattr(socket, "SOCK_NONBLOCK", 0) | getattr(socket, "SOCK_CLOEXEC", 0)
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class _Offer(Struct):
    """The old process's offer: the settings of its ports, whose sockets come with this message."""

    ports: list[str]
    refusal: str = ""


class _Ready(Struct):
    """The new process's word that it can serve, and which of the ports it uses."""

    ports: list[str]


class _Stopped(Struct):
    """The old process's word that it has stopped.

    Its file of keys comes with this message, and so do the lines to it and to older processes.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """What the old process has left for the new one."""

    keys: bytes
    lines: list[socket.socket]


class Predecessor:
    """The process that has served until now, as the new one sees it."""

    def __init__(self, connection: socket.socket, pid: int, given: list[GivenSocket]) -> None:
        self.pid = pid
        self.given = given
        """The sockets that it serves on."""
        self._connection = connection

    @classmethod
    async def find(cls, host: str, port: int, part: str = "") -> "Predecessor | None":
        """Returns the process that serves at this address, as this ``part`` of it; None if there is none.

        Raises ``ConfigError`` if it refuses.
        """
        connection = socket.socket(socket.AF_UNIX, _KIND)
        try:
            try:
                connection.connect(_name(host, port, part))
            except OSError:
                connection.close()
                return None
            pid, uid = _who(connection)
            if uid not in (os.geteuid(), 0):
                _refuse(f"process {pid} of user {uid} answers instead of a bridge of this user")
            data, descriptors = await _receive(connection, _ANSWER_S)
            given = [GivenSocket(socket.socket(fileno=each), is_optional=True) for each in descriptors]
            offer = msgspec.json.decode(data, type=_Offer)
            if offer.refusal:
                _refuse(f"process {pid} cannot be replaced: {offer.refusal}")
        except msgspec.MsgspecError:
            connection.close()
            _refuse("the process that serves there runs a version that this one cannot replace")
        except BaseException:
            connection.close()
            raise
        return cls(connection, pid, given)

    async def take_over(self, ports: Ports) -> TakenOver:
        """Makes it stop serving at the sockets that ``ports`` uses; raises ``ConfigError`` if it does not answer."""
        offered = [given.socket for given in self.given if given.socket.fileno() >= 0]
        ours = ports.opened
        kept = [name for name, each in ours.items() if any(same_socket(each, other) for other in offered)]
        _send(self._connection, _Ready(ports=kept))
        _, descriptors = await _receive(self._connection, _ANSWER_S)
        if not descriptors:
            _refuse(f"process {self.pid} ended while it was being replaced")
        with os.fdopen(descriptors[0], "rb") as file:
            file.seek(0)
            keys = file.read()
        lines = [socket.socket(fileno=descriptor) for descriptor in descriptors[1:]]
        for line in lines:
            line.setblocking(False)
        return TakenOver(keys=keys, lines=lines)

    async def follow(self, adopt_key: Callable[[bytes], None]) -> None:
        """Returns when the process has ended. Until then, ``adopt_key`` gets the keys that it still mints."""
        try:
            with suppress(OSError):
                while data := (await _receive(self._connection, None))[0]:
                    adopt_key(data)
        finally:
            self._connection.close()


class ReplaceableProcess(Protocol):
    """What the old process itself does when another one takes over."""

    def leave(self) -> tuple[bytes, list[socket.socket]]:
        """Returns what the old process leaves: its keys, and the lines to it and to older ones. It still serves."""
        ...

    def give_way(self, ports: frozenset[str], tell_key: Callable[[bytes], None]) -> None:
        """Stops serving at the ports with these settings. From now on ``tell_key`` gets the keys that are minted."""
        ...


class OpenedPorts(Protocol):
    """The sockets of a process, as ``Ports`` has them."""

    @property
    def opened(self) -> dict[str, socket.socket]:
        """The sockets that are in use, by their settings."""
        ...


class Handover:
    """The old process's side of a handover; inside of ``async with`` it waits for a process that takes over."""

    def __init__(self, host: str, port: int, ports: "OpenedPorts", process: ReplaceableProcess, part: str = "") -> None:
        """``part`` tells processes that serve at one address from each other."""
        self.is_over = asyncio.Event()
        """Is set as soon as another process serves in place of this one."""
        self.successor = 0
        """The pid of that process; 0 before."""
        self._name = _name(host, port, part)
        self._ports = ports
        self._process = process
        self._listening: socket.socket | None = None
        self._connection: socket.socket | None = None
        """The connection to the successor. It is closed when this process ends."""
        self._tasks = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Handover":
        await self._tasks.__aenter__()
        listening = socket.socket(socket.AF_UNIX, _KIND)
        try:
            listening.bind(self._name)
            listening.listen(_WAITING)
        except OSError as error:  # it is not Linux, or an older process has not gone yet
            listening.close()
            _log.info("daemon.not_replaceable", error=str(error))
            return self
        self._listening = listening
        self._task = self._tasks.create_task(self._serve(listening))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._tasks.__aexit__(None, None, None)
        for each in (self._listening, self._connection):
            if each is not None:
                each.close()

    async def _serve(self, listening: socket.socket) -> None:
        """Serves one process after another, until one has taken over."""
        loop = asyncio.get_running_loop()
        while not self.is_over.is_set():
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:  # no descriptor is left
                _log.warning("daemon.replacement_failed", error=str(error))
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                if await self._hand_over(connection):
                    self._connection = connection
            except (OSError, ConfigError, msgspec.MsgspecError) as error:
                _log.warning("daemon.replacement_failed", error=str(error))
            finally:
                if self._connection is not connection:
                    connection.close()

    async def _hand_over(self, connection: socket.socket) -> bool:
        """Hands everything over; returns False if the other process has ended before it was ready."""
        pid, uid = _who(connection)
        if uid not in (os.geteuid(), 0):
            _send(connection, _Offer(ports=[], refusal=f"it belongs to user {os.geteuid()}, and you are {uid}"))
            return False
        opened = self._ports.opened
        _send(connection, _Offer(ports=list(opened)), [each.fileno() for each in opened.values()])
        _log.info("daemon.replacement_begun", pid=pid)
        data, _ = await _receive(connection, _READY_S)
        if not data:
            _log.warning("daemon.replacement_failed", error=f"process {pid} ended before it was ready")
            return False
        ready = msgspec.json.decode(data, type=_Ready)
        keys, lines = self._process.leave()
        try:
            with _file_of(keys) as file:
                _send(connection, _Stopped(), [file.fileno(), *(line.fileno() for line in lines)])
        finally:
            for line in lines:
                line.close()
        self._process.give_way(frozenset(ready.ports), lambda key: _tell(connection, key))
        assert self._listening is not None
        self._listening.close()  # the successor needs its name
        self.successor = pid
        self.is_over.set()
        return True


def _name(host: str, port: int, part: str) -> str:
    """Returns the name of the Unix socket.

    It is in the abstract namespace (unix(7)), which belongs to the network namespace: processes that share the ports
    share the name.
    """
    return f"\0bridge/{os.geteuid()}/{host}/{port}" + (f"/{part}" if part else "")


def _who(connection: socket.socket) -> tuple[int, int]:
    """Returns the pid and the user of the process at the other end."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return int(pid), int(uid)


def _refuse(reason: str) -> NoReturn:
    raise ConfigError(f"replace: {reason}", param="replace")


def _file_of(data: bytes) -> BinaryIO:
    """Returns a file in memory with this content, because one message is too short for many keys."""
    file = os.fdopen(os.memfd_create("keys"), "r+b")
    file.write(data)
    file.flush()
    return file


def _tell(connection: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # if it has ended or is busy, this key opens this process alone
        connection.send(data)


def _send(connection: socket.socket, message: Struct, descriptors: Sequence[int] = ()) -> None:
    connection.setblocking(False)
    socket.send_fds(connection, [msgspec.json.encode(message)], list(descriptors))


async def _receive(connection: socket.socket, limit_s: float | None) -> tuple[bytes, list[int]]:
    """Receives one message, which is empty if the other process has ended.

    Raises ``ConfigError`` if nothing comes in time.
    """
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection.fileno(), lambda: None if readable.done() else readable.set_result(None))
    try:
        async with asyncio.timeout(limit_s):
            await readable
    except TimeoutError:
        _refuse(f"the other process did not answer within {limit_s:g} s")
    finally:
        loop.remove_reader(connection.fileno())
    data, descriptors, _, _ = socket.recv_fds(connection, _MAX_MESSAGE_BYTES, _MAX_DESCRIPTORS)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return data, list(descriptors)
