"""HTTPS: requests, and connections that never come to the end of their handshake."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.api import tls_listener
from bridge.daemon import Daemon
from tests.certificate import write_certificate
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled

_LIMIT_S = scaled(10.0)
_HALF_HELLO = bytes.fromhex("160301020001000001fc0303")
_FEW = 3


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of a certificate and its key."""
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def context(paths: tuple[Path, Path]) -> ssl.SSLContext:
    """Of a client."""
    return ssl.create_default_context(cafile=paths[0])


@pytest.fixture
async def https(serve_with: ServeWith, paths: tuple[Path, Path]) -> AsyncIterator[Daemon]:
    """A daemon that lets few strangers wait."""
    certificate, key = map(str, paths)
    async with serve_with(tls_cert=certificate, tls_key=key, max_pending_per_address=_FEW) as serving:
        yield serving


@contextlib.asynccontextmanager
async def _strangers(daemon: Daemon, count: int, said: bytes = b"") -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connections that say no more than that."""
    readers, writers = [], []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
            readers.append(reader)
            writers.append(writer)
            writer.write(said)
        yield readers
    finally:
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _is_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""


async def test_requests_and_sockets(https: Daemon, context: ssl.SSLContext) -> None:
    """A request, one that comes in one piece with the end of the handshake, and a WebSocket are served."""
    assert (await request("GET", f"{https.url}healthz", tls=context)).status == 200
    async with open_socket(https.url, "model=any", ssl=context) as client:
        assert client.types == ["session.created"]
    assert await asyncio.to_thread(_at_once, https.port, context) == b"HTTP/1.1 200 OK"


def _at_once(port: int, context: ssl.SSLContext) -> bytes:
    """The status line that answers a request which is sent with the last bytes of the handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), timeout=_LIMIT_S) as line:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                line.sendall(outgoing.read())
                incoming.write(line.recv(65_536))
        client.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        line.sendall(outgoing.read())
        while True:
            try:
                return client.read(65_536).partition(b"\r\n")[0]
            except ssl.SSLWantReadError:
                incoming.write(line.recv(65_536))


@pytest.mark.parametrize("said", [b"", _HALF_HELLO], ids=["nothing", "half-hello"])
async def test_handshakes_that_do_not_end_are_counted(https: Daemon, context: ssl.SSLContext, said: bytes) -> None:
    """Beyond the limit of an address they are cut; who has come in before is not."""
    async with asyncio.timeout(_LIMIT_S), open_socket(https.url, "model=any", ssl=context) as client:
        async with _strangers(https, _FEW + 4, said) as readers:
            for reader in readers[_FEW:]:
                await _is_closed(reader)
            assert not any(reader.at_eof() for reader in readers[:_FEW])
            await client.send({"type": "input_audio_buffer.clear"})
            await client.until("input_audio_buffer.cleared")


async def test_a_connection_is_counted_once(
    serve_with: ServeWith, paths: tuple[Path, Path], context: ssl.SSLContext
) -> None:
    """If one may wait, one is served."""
    certificate, key = map(str, paths)
    async with serve_with(tls_cert=certificate, tls_key=key, max_pending=1, max_pending_per_address=1) as daemon:
        assert (await request("GET", f"{daemon.url}healthz", tls=context)).status == 200


async def test_handshakes_have_a_deadline(
    https: Daemon, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then they are cut, and make room."""
    monkeypatch.setattr(tls_listener, "_HANDSHAKE_TIMEOUT_S", 0.2)
    async with asyncio.timeout(_LIMIT_S):
        for said in (b"", _HALF_HELLO):
            async with _strangers(https, _FEW, said) as readers:
                for reader in readers:
                    await _is_closed(reader)
        assert (await request("GET", f"{https.url}healthz", tls=context)).status == 200


async def test_what_is_no_handshake_is_cut(https: Daemon, context: ssl.SSLContext) -> None:
    """Plain HTTP at the port of HTTPS, or garbage, makes room at once."""
    async with asyncio.timeout(_LIMIT_S):
        for said in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes(100)):
            for _ in range(2 * _FEW):
                async with _strangers(https, 1, said) as [reader]:
                    with contextlib.suppress(ConnectionError):
                        await reader.read()
        assert (await request("GET", f"{https.url}healthz", tls=context)).status == 200


async def test_a_stop_waits_for_no_handshake(serve_with: ServeWith, paths: tuple[Path, Path]) -> None:
    """Those that are under way are cut."""
    certificate, key = map(str, paths)
    async with asyncio.timeout(_LIMIT_S):
        async with contextlib.AsyncExitStack() as stack:
            async with serve_with(tls_cert=certificate, tls_key=key) as daemon:
                readers = await stack.enter_async_context(_strangers(daemon, 3, _HALF_HELLO))
            for reader in readers:
                await _is_closed(reader)
