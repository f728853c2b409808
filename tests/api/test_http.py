"""Requests that break the rules of HTTP itself: answered at once, by the right status, and closed."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from bridge.api import body as bodies
from bridge.api import http
from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.machine import scaled

_LIMIT_S = scaled(5.0)
_POST = "POST /v1/realtime/client_secrets HTTP/1.1\r\nHost: localhost\r\n"
_CHUNKED = f"{_POST}Transfer-Encoding: chunked\r\n\r\n"


async def _answer(daemon: Daemon, *pieces: str) -> bytes:
    """All that comes back until the daemon closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    try:
        async with asyncio.timeout(_LIMIT_S):
            for piece in pieces:
                writer.write(piece.encode())
                await writer.drain()
            return await reader.read()
    finally:
        writer.close()


async def _closed(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.transport.abort()


async def _wait_refused(port: int) -> None:
    """Returns when the daemon takes no more connections."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it waited to be accepted when the listener was closed
            continue
        writer.transport.abort()


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (f"{_CHUNKED}-1\r\n", 400),
        (f"{_CHUNKED}zz\r\n", 400),
        (f"{_CHUNKED}2\r\n{{}}no end", 400),
        (f"{_POST}Transfer-Encoding: xchunked\r\n\r\n{{}}", 400),
        (f"{_CHUNKED}0\r\n" + "a: b\r\n" * 5000, 431),
    ],
    ids=["negative size", "size that is none", "chunk without its end", "unknown coding", "trailers without end"],
)
async def test_body_that_is_malformed(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, request_text: str, status: int
) -> None:
    """It is refused when that is seen, not when the time for a body is over (RFC 9112 sections 6.3 and 7.1)."""
    monkeypatch.setattr(bodies, "_TIMEOUT_S", 10 * _LIMIT_S)
    answer = await _answer(daemon, request_text)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (["localhost"], 200),
        (["[::1]:8080"], 200),
        ([], 400),
        (["localhost", "localhost"], 400),
        (["user@localhost"], 400),
        (["localhost/path"], 400),
        (["local host"], 400),
        (["localhost:http"], 400),
    ],
)
async def test_host_header(daemon: Daemon, hosts: list[str], status: int) -> None:
    """A request has exactly one Host header, with a host in it (RFC 9112 section 3.2)."""
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    answer = await _answer(daemon, f"GET /v1/models HTTP/1.1\r\n{lines}Connection: close\r\n\r\n")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


async def test_old_client_without_a_host(daemon: Daemon) -> None:
    """HTTP/1.0 knows no Host header."""
    assert (await _answer(daemon, "GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/openapi.json", "/v1/realtime?model=any"])
async def test_compression_is_never_agreed_on(daemon: Daemon, path: str) -> None:
    """Whatever a client offers: no answer and no socket is compressed, so nothing that comes in has to be unpacked."""
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
    how = upgrade if "realtime" in path else "Connection: close\r\nAccept-Encoding: gzip, deflate, br\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    try:
        async with asyncio.timeout(_LIMIT_S):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{how}\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
    finally:
        writer.close()
    assert head.startswith((b"http/1.1 200", b"http/1.1 101"))
    assert b"content-encoding" not in head
    assert b"sec-websocket-extensions" not in head


@pytest.mark.parametrize("begun", ["", "GET /healthz HT"])
async def test_connection_that_is_new_when_the_server_stops(
    serve_with: ServeWith, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    """Its request is answered; one on which an answer came already is closed at once, for it may connect again."""
    monkeypatch.setattr(http, "_FIRST_REQUEST_S", _LIMIT_S)
    rest = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"[len(begun) :]
    async with asyncio.timeout(4 * _LIMIT_S), serve_with() as daemon, AsyncExitStack() as stack:
        new, new_writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        new_writer.write(begun.encode())
        used, used_writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        used_writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await used.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        stack.push_async_callback(_closed, new_writer, used_writer)
        stopping = asyncio.create_task(daemon.__aexit__(None, None, None))
        await _wait_refused(daemon.port)
        await used.read()  # to the end
        new_writer.write(rest.encode())
        answer = await new.read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer
        await stopping


async def test_silent_connections_do_not_hold_up_a_stop(
    serve_with: ServeWith, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does one with half a request: each is closed by a deadline of its own, so that none has to be cut."""
    monkeypatch.setattr(http, "_FIRST_REQUEST_S", 0.1)
    monkeypatch.setattr(http, "_HEAD_TIMEOUT_S", 10_000.0)
    async with AsyncExitStack() as stack:
        async with serve_with(close_deadline_s=30.0) as daemon:
            for begun in (b"", b"GET /healthz HT"):
                _, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
                writer.write(begun)
                stack.push_async_callback(_closed, writer)
            await _answer(daemon, "GET /healthz HTTP/1.0\r\n\r\n")  # what was sent before has come, too
    written = capsys.readouterr()
    assert "daemon.stopped" in written.out + written.err
    assert "api.cut" not in written.out + written.err
