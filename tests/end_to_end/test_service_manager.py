"""systemd's two protocols: sockets that it passes to what it starts, and states that it is told."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.serving import COMMAND, LIMIT_S, bound_sockets, free_port, logged, serving
from tests.end_to_end.web import open_socket, request
from tests.processes import clean_environ, started

pytestmark = pytest.mark.slow

_DRAIN = ("--drain-s", "60")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop the tests run on is nothing to a process of its own."""
    return "asyncio"


async def test_connections_wait_while_nothing_runs(tmp_path: Path) -> None:
    """Whoever connects between the end of one process and the start of the next is served by that one."""
    port = free_port()
    tcp, udp = bound_sockets(port)
    with tcp, udp:
        async with serving(tmp_path / "first", "--port", str(port), sockets=(tcp, udp)) as first:
            async with RealPeer(first.url):
                pass
            await first.stop()
        waiting = asyncio.ensure_future(request("GET", f"{first.url}readyz"))
        async with serving(tmp_path / "second", "--port", str(port), sockets=(udp, tcp)) as second:
            assert (await waiting).status == 200
            async with RealPeer(second.url):
                pass
            await second.stop()
    assert first.complaints() == second.complaints() == []


async def test_sockets_that_do_not_fit_stop_the_start(tmp_path: Path) -> None:
    """One that no setting has a use for, and one that lets others in where no key is asked for."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        complaint = await _refused_with(tmp_path, stranger, free_port())
        assert f"127.0.0.1:{stranger.getsockname()[1]}" in complaint
        assert "FileDescriptorName" in complaint
    with socket.create_server(("0.0.0.0", 0)) as open_to_all:
        complaint = await _refused_with(tmp_path, open_to_all, open_to_all.getsockname()[1])
        assert complaint.startswith("bridge: host: ")


async def _refused_with(tmp_path: Path, given: socket.socket, port: int) -> str:
    log = tmp_path / "refused"
    with pytest.raises(AssertionError):
        async with serving(log, "--port", str(port), sockets=(given,)):
            pass
    return log.read_text()


@pytest.mark.foreign
async def test_started_by_systemd_socket_activate(tmp_path: Path) -> None:
    """systemd's own tool holds the TCP port, starts the daemon at the first connection, and that one is served."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    activate = ("systemd-socket-activate", "--listen", f"127.0.0.1:{port}", *COMMAND, "--engine", "parrot")
    async with started(*activate, "--port", str(port), environ=clean_environ()) as process:
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    reply = await request("GET", f"{url}readyz")
                    break
                except ConnectionRefusedError:  # the tool does not listen yet
                    await asyncio.sleep(0.02)
        assert reply.status == 200
        async with RealPeer(url):
            pass
        process.send_signal(signal.SIGTERM)  # the tool has become the daemon
        assert await asyncio.wait_for(process.wait(), LIMIT_S) == 0


class _Manager:
    """A service manager's socket, and what it was told."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.states: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    async def told(self, name: str, number: int = 1) -> dict[str, str]:
        """The ``number``-th message that has this variable."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LIMIT_S):
            while True:
                states = [state for state in self.states if name in state]
                if len(states) >= number:
                    return states[number - 1]
                message = (await loop.sock_recv(self._socket, 4096)).decode()
                self.states.append(dict(line.split("=", 1) for line in message.splitlines()))

    def close(self) -> None:
        self._socket.close()


@asynccontextmanager
async def _managing(path: Path) -> AsyncIterator[_Manager]:
    manager = _Manager(path)
    try:
        yield manager
    finally:
        manager.close()


async def test_the_manager_is_told_of_each_state(tmp_path: Path) -> None:
    """Ready, reloading and ready again, stopping with the time that a stop may take."""
    async with _managing(tmp_path / "notify") as manager:
        async with serving(tmp_path / "log", *_DRAIN, NOTIFY_SOCKET=manager.address) as daemon:
            assert daemon.url in (await manager.told("READY"))["STATUS"]
            daemon.process.send_signal(signal.SIGHUP)
            assert int((await manager.told("RELOADING"))["MONOTONIC_USEC"]) > 0
            await manager.told("READY", 2)
            async with open_socket(daemon.url, "model=any"):
                daemon.process.send_signal(signal.SIGTERM)
                stopping = await manager.told("STOPPING")
                assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 60_000_000
                assert "1 call" in stopping["STATUS"]
            assert await asyncio.wait_for(daemon.process.wait(), LIMIT_S) == 0
    assert daemon.complaints() == []


async def test_the_manager_is_told_who_is_the_service_now(tmp_path: Path) -> None:
    """When another process takes over, the old one names it; it does not say that the service stops."""
    port = str(free_port())
    async with _managing(tmp_path / "notify") as manager:
        async with serving(tmp_path / "first", "--port", port, NOTIFY_SOCKET=manager.address) as first:
            await manager.told("READY")
            async with serving(
                tmp_path / "second", "--port", port, "--replace", NOTIFY_SOCKET=manager.address
            ) as second:
                told = await manager.told("MAINPID")
                assert int(told["MAINPID"]) == second.process.pid
                assert await asyncio.wait_for(first.process.wait(), LIMIT_S) == 0
                assert not any("STOPPING" in state for state in manager.states)
                await second.stop()


async def test_it_starts_its_own_successor(tmp_path: Path) -> None:
    """SIGUSR2 has it start the same command anew, whatever is installed by now, and be replaced by that."""
    port = str(free_port())
    async with _managing(tmp_path / "notify") as manager:
        async with serving(tmp_path / "log", "--port", port, *_DRAIN, NOTIFY_SOCKET=manager.address) as first:
            async with RealPeer(first.url) as peer:
                first.process.send_signal(signal.SIGUSR2)
                pid = int((await manager.told("MAINPID"))["MAINPID"])
                assert pid != first.process.pid
                async with RealPeer(first.url):
                    pass
                peer.send({"type": "response.create"})
                await peer.until("response.done")
            await logged(first, "daemon.predecessor_gone")  # by the successor, which writes to the same place
            assert (await request("GET", f"{first.url}readyz")).status == 200
            os.kill(pid, signal.SIGTERM)
            await manager.told("STOPPING")
    assert first.complaints() == []
