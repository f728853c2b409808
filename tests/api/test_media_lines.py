"""Media on the HTTP port: the first byte says what a connection brings, with TLS and without."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.api import tls_listener
from bridge.daemon import Daemon
from tests.certificate import write_certificate
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled
from tests.webrtc.test_mux import check

_KEY = "sk-test"
_LIMIT_S = scaled(10.0)
_FEW = 3
_HEADERS = {"Authorization": f"Bearer {_KEY}"}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of a certificate and its key."""
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["http", "https"])
async def daemon(
    request: pytest.FixtureRequest, serve_with: ServeWith, paths: tuple[Path, Path]
) -> AsyncIterator[Daemon]:
    """A daemon on all of the machine's addresses, that lets few strangers wait."""
    settings = {"host": "0.0.0.0", "advertise": ("127.0.0.1",), "api_key": (_KEY,), "max_pending_per_address": _FEW}
    if request.param == "https":
        settings |= {"tls_cert": str(paths[0]), "tls_key": str(paths[1])}
    async with serve_with(**settings) as serving:
        yield serving


@pytest.fixture
def tls(daemon: Daemon, paths: tuple[Path, Path]) -> ssl.SSLContext | None:
    """Of a client."""
    return ssl.create_default_context(cafile=paths[0]) if daemon.url.startswith("https") else None


def _framed(datagram: bytes) -> bytes:
    return struct.pack("!H", len(datagram)) + datagram


@contextlib.asynccontextmanager
async def _line(daemon: Daemon, said: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    try:
        writer.write(said)
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _is_closed(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(_LIMIT_S):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


async def test_a_check_beside_requests(daemon: Daemon, tls: ssl.SSLContext | None) -> None:
    """A check that comes byte by byte is answered; requests and WebSockets are served as ever on the same port."""
    agent = daemon.endpoint.mux.new_agent()
    async with asyncio.timeout(_LIMIT_S), _line(daemon) as (reader, writer):
        for byte in _framed(bytes(check(agent))):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        assert (await reader.readexactly(length))[:2] == b"\x01\x01"
        assert agent.connected.is_set()
        agent.send_datagram(b"\x17 a datagram")
        assert await reader.readexactly(2 + 12) == _framed(b"\x17 a datagram")
        assert (await request("GET", f"{daemon.url}healthz", tls=tls)).status == 200
        async with open_socket(daemon.url, "model=any", additional_headers=_HEADERS, ssl=tls) as client:
            assert client.types == ["session.created"]
        agent.close()
        assert await _is_closed(reader)
    assert not daemon.endpoint.mux.drops


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (_framed(bytes([22, 0xFE, 0xFD]) + bytes(60)), "tcp_framing"),
        (struct.pack("!H", 1501), "tcp_framing"),
        (_framed(b"\0\1 no STUN"), "bad_stun"),
    ],
    ids=["dtls", "too-long", "no-check"],
)
async def test_what_is_no_check(daemon: Daemon, said: bytes, reason: str) -> None:
    """The guards are those of the port that is media's own, and nobody waits at the gate any more."""
    daemon.endpoint.tcp.check_within_s = scaled(0.2)
    for _ in range(_FEW + 1):
        async with _line(daemon, said) as (reader, _):
            assert await _is_closed(reader)
    assert daemon.endpoint.mux.drops[reason] == _FEW + 1
    assert daemon.reloader.rooms.gate.refused == 0


async def test_who_says_nothing(daemon: Daemon) -> None:
    """A connection that has not begun is counted at the gate, as one of HTTP is."""
    async with contextlib.AsyncExitStack() as held:
        for _ in range(_FEW):
            await held.enter_async_context(_line(daemon))
        async with asyncio.timeout(_LIMIT_S):
            while daemon.reloader.rooms.gate.pending < _FEW:  # noqa: ASYNC110 (there is no event for it)
                await asyncio.sleep(0)
        async with _line(daemon) as (reader, _):
            async with asyncio.timeout(_LIMIT_S):
                with contextlib.suppress(ConnectionError):
                    await reader.read()
    assert daemon.reloader.rooms.gate.refused == 1


async def test_silence_has_a_deadline(
    serve_with: ServeWith, paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In front of a handshake too: who sends no byte is cut, and makes room; who goes away as well."""
    monkeypatch.setattr(tls_listener, "_HANDSHAKE_TIMEOUT_S", scaled(0.2))
    files = {"tls_cert": str(paths[0]), "tls_key": str(paths[1])}
    async with serve_with(host="0.0.0.0", advertise=("127.0.0.1",), api_key=(_KEY,), **files) as daemon:
        async with _line(daemon) as (reader, _):
            assert await _is_closed(reader)
        async with _line(daemon):
            pass
        async with asyncio.timeout(_LIMIT_S):
            while daemon.reloader.rooms.gate.pending:  # noqa: ASYNC110 (there is no event for it)
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("settings", "is_taken"),
    [
        ({"host": "0.0.0.0", "advertise": ("127.0.0.1",), "api_key": (_KEY,)}, True),
        ({"host": "0.0.0.0", "advertise": ("127.0.0.1",), "api_key": (_KEY,), "ice_tcp_on_port": False}, False),
        ({}, False),
    ],
    ids=["reachable", "turned-off", "loopback"],
)
async def test_where_it_is_offered(
    serve_with: ServeWith, offer: str, settings: dict[str, object], is_taken: bool
) -> None:
    """Where others reach the port, unless it is turned off; the answer says so, and the port does so."""
    async with serve_with(**settings) as daemon:
        headers = {**_HEADERS, "Content-Type": "application/sdp"}
        reply = await request("POST", f"{daemon.url}v1/realtime/calls", headers=headers, body=offer)
        assert reply.status == 201, reply
        candidates = [line.split() for line in reply.body.decode().splitlines() if line.startswith("a=candidate")]
        assert {line[5] for line in candidates if line[2] == "tcp"} == ({str(daemon.port)} if is_taken else set())
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=_LIMIT_S) as line:
            line.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(line, struct.pack("!H", 1501))
            async with asyncio.timeout(_LIMIT_S):
                try:
                    said = await loop.sock_recv(line, 64)
                except ConnectionResetError:
                    said = b""
            assert said[:12] == (b"" if is_taken else b"HTTP/1.1 400")
