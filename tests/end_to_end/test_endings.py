"""How calls end when nobody hangs up: each in bounded time, with one result and one reason."""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled

_LIMIT_S = scaled(5.0)

Ended = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def ended() -> Iterator[Ended]:
    """Result and reason of every call that has ended."""
    with capture_logs() as lines:
        yield lambda: [(line["result"], line["reason"]) for line in lines if line["event"] == "call.closed"]


async def _gone(daemon: Daemon) -> None:
    async with asyncio.timeout(_LIMIT_S):
        for session in daemon.registry.sessions:
            await session.lifetime.closed.wait()
    assert daemon.registry.sessions == []


async def test_offer_whose_peer_never_comes_is_forgotten(serve_with: ServeWith, ended: Ended, offer: str) -> None:
    """An answered offer waits for its peer as long as the setting says."""
    async with serve_with(connect_timeout_s=0.2) as daemon:
        headers = {"Content-Type": "application/sdp"}
        reply = await request("POST", f"{daemon.url}v1/realtime/calls", headers=headers, body=offer)
        assert reply.status == 201
        await _gone(daemon)
    assert ended() == [("client_error", "peer_not_connected")]


async def test_peer_that_vanishes_is_noticed(serve_with: ServeWith, ended: Ended) -> None:
    """Nothing authenticated for so long, and nobody comes back: the call has ended, its listeners are closed."""
    async with serve_with(peer_timeout_s=1, resume_grace_s=0.2) as daemon, RealPeer(daemon.url) as peer:
        async with open_socket(daemon.url, f"call_id={peer.call_id}") as listener:
            peer.vanish()
            assert await listener.close_code() == 1000
        await _gone(daemon)
    assert ended() == [("client_error", "peer_lost")]


async def test_closed_data_channel_ends_the_call(daemon: Daemon, ended: Ended) -> None:
    """A page that closes its channel has hung up."""
    async with RealPeer(daemon.url) as peer:
        peer.close_channel()
        await _gone(daemon)
    assert ended() == [("success", "channel_closed")]


async def test_longest_call_is_over(serve_with: ServeWith, ended: Ended) -> None:
    """Everyone is told why, sockets are closed with 1001, the peer is gone."""
    message = "Your session hit the maximum duration of 1 seconds."
    async with serve_with(call_limit_s=1) as daemon, RealPeer(daemon.url) as peer:
        async with open_socket(daemon.url, f"call_id={peer.call_id}") as listener:
            assert await listener.close_code() == 1001
            error: dict[str, Any] = (await listener.until("error"))["error"]
            assert (error["code"], error["message"]) == ("session_expired", message)
        await asyncio.wait_for(peer.gone.wait(), _LIMIT_S)
        assert (await peer.until("error"))["error"]["code"] == "session_expired"
    assert ended() == [("success", "session_expired")]


async def test_end_of_the_daemon_ends_everything(serve_with: ServeWith, ended: Ended) -> None:
    """A daemon that stops leaves no peer and no socket open."""
    async with serve_with() as daemon:
        peer = await RealPeer(daemon.url).__aenter__()
        socket = open_socket(daemon.url, "model=any")
        owner = await socket.__aenter__()
    assert await owner.close_code() == 1012
    await asyncio.wait_for(peer.gone.wait(), _LIMIT_S)
    await socket.__aexit__(None, None, None)
    await peer.__aexit__()
    assert ended() == [("success", "server_draining")] * 2


async def test_stop_that_fails_is_a_stop(serve_with: ServeWith, ended: Ended) -> None:
    """What goes wrong in closing is told, and keeps nothing open."""

    def fail() -> None:
        raise RuntimeError("no way out")

    with capture_logs() as lines:
        async with serve_with() as daemon:
            daemon._stack.callback(fail)
            url = daemon.url
    assert [line["event"] for line in lines][-2:] == ["daemon.close_failed", "daemon.stopped"]
    with pytest.raises(ConnectionRefusedError):
        await request("GET", f"{url}healthz")


async def test_clients_that_leave_before_they_are_let_in(daemon: Daemon) -> None:
    """Who breaks off right behind its request for a WebSocket leaves no session and no error behind."""
    host, port = "127.0.0.1", daemon.port
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    head = (
        f"GET /v1/realtime?model=any HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    )
    upgrade = f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    with capture_logs() as lines:
        for _ in range(50):
            with socket.create_connection((host, port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(upgrade)
        await request("GET", f"{daemon.url}healthz")  # all of them have been accepted by then
        await _gone(daemon)
    assert any(line["event"] == "call.closed" for line in lines)
    assert [line["event"] for line in lines if line["log_level"] == "error"] == []
