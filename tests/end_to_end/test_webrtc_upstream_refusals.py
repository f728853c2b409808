"""Services over WebRTC that cannot be called: each call ends within its time, and says what was wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket
from tests.upstream.aiortc_service import AiortcService


class Desk:
    """Answers every offer with the same words, and counts them."""

    def __init__(self, status: str, body: bytes) -> None:
        self.offers = 0
        self._status = status
        self._body = body

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.offers += 1
        head = f"HTTP/1.1 {self._status}\r\nContent-Length: {len(self._body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + self._body)
        writer.close()


@asynccontextmanager
async def _desk(status: str, body: bytes) -> AsyncIterator[tuple[Desk, str]]:
    desk = Desk(status, body)
    async with await asyncio.start_server(desk.answer, "127.0.0.1", 0) as server:
        yield desk, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime/calls"


async def _last_words(serve_with: ServeWith, url: str) -> dict[str, str]:
    settings = {"upstream_tries": 2, "upstream_connect_timeout_s": 1.0}
    async with serve_with(upstream=url, **settings) as daemon, open_socket(daemon.url, "model=any") as client:
        assert await client.close_code() == 1014
        error: dict[str, str] = client.of("error")[-1]["error"]
        return error


_OWN_WORDS = json.dumps({"error": {"type": "t", "code": "invalid_api_key", "message": "Wrong key."}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "code", "message", "offers"),
    [
        ("401 Unauthorized", _OWN_WORDS, "invalid_api_key", "Wrong key.", 1),
        ("503 Service Unavailable", b"", "upstream_http_503", "HTTP status 503", 2),
        ("302 Found", b"", "upstream_http_302", "HTTP status 302", 1),
        ("201 Created", b"<html>", "upstream_error", "cannot be used", 1),
        ("201 Created", b"v=0\r\n" + b"a=x\r\n" * 20_000, "upstream_error", "too long", 1),
    ],
    ids=["wrong key", "no time", "redirection", "no SDP", "too long"],
)
async def test_an_answer_that_is_none(
    serve_with: ServeWith, status: str, body: bytes, code: str, message: str, offers: int
) -> None:
    """The service's own words where it has any; what would be the same again is not tried again."""
    async with _desk(status, body) as (desk, url):
        error = await _last_words(serve_with, url)
        assert error["code"] == code
        assert message in error["message"]
        assert desk.offers == offers


async def test_nobody_there(serve_with: ServeWith) -> None:
    """A port on which nobody listens."""
    error = await _last_words(serve_with, "http://127.0.0.1:9/v1/realtime/calls")
    assert (error["code"], "cannot be reached" in error["message"]) == ("upstream_lost", True)


async def test_a_peer_that_never_comes(serve_with: ServeWith) -> None:
    """It answered, and is not where it says."""
    async with AiortcService.serving(is_deaf=True) as service:
        error = await _last_words(serve_with, service.url)
    assert (error["code"], "did not connect within 1 s" in error["message"]) == ("upstream_timeout", True)


async def test_what_is_no_event_on_the_data_channel(serve_with: ServeWith) -> None:
    """Such a service is as good as lost, and called again."""
    async with (
        AiortcService.serving() as service,
        serve_with(upstream=service.url) as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        channel = service.calls[0].channel
        assert channel is not None
        channel.send("<html>")
        error = (await client.until("error"))["error"]
        assert error["code"] == "upstream_reconnecting"
        await (await service.call(2)).hear("session.update")
