"""One line over WebSocket: what a service says that is not as it should be, and one that does not listen."""

import asyncio
import base64
import json
from typing import Any

import pytest

from bridge.errors import UpstreamError
from bridge.outgoing import refusal
from tests.engine.talk import AUDIO, silence
from tests.upstream.dialled import dialled
from tests.upstream.scripts import IDS, successor
from tests.upstream.service import Service, Visit


async def _say_sound(visit: Visit, sound: bytes, **ids: Any) -> None:
    await visit.say("response.output_audio.delta", delta=base64.b64encode(sound).decode(), **{**IDS, **ids})


async def test_sound_that_is_cut_in_the_middle_of_a_sample() -> None:
    """The halves find each other, within one part."""

    async def careless(visit: Visit) -> None:
        await visit.greet()
        for size in (3, 1, 1, 4, 1):
            await _say_sound(visit, bytes(range(size)))
        await _say_sound(visit, b"\7\7", item_id="item_c")
        await visit.until_closed()

    async with Service.serving(careless) as service, dialled(service) as call:
        await call.until(AUDIO, 5)
        assert call.said.sounds == {"item_b": bytes([0, 1, 2, 0, 0, 0, 1, 2, 3, 0]), "item_c": b"\7\7"}


async def test_sound_that_is_not_base64() -> None:
    """Such a service is as good as lost."""

    async def garbling(visit: Visit) -> None:
        await visit.greet()
        await visit.say("response.output_audio.delta", delta="!", **IDS)
        await visit.until_closed()

    async with Service.serving(garbling, successor) as service, dialled(service) as call:
        error = (await call.until("error"))["error"]
        assert (error["code"], "not base64" in error["message"]) == ("upstream_reconnecting", True)
        await call.until("session.updated")


async def test_a_service_that_does_not_listen() -> None:
    """When so much waits for it that it must have hung, it is cut off, and nobody waits meanwhile."""

    async def deaf(visit: Visit) -> None:
        await visit.greet()
        visit.socket.transport.pause_reading()
        await released.wait()

    released = asyncio.Event()
    async with Service.serving(deaf, successor) as service, dialled(service) as call:
        await call.until("session.created")
        for _ in range(500):
            call.upstream.receive_caller_audio(silence(1000))
        error = (await call.until("error"))["error"]
        assert "does not read" in error["message"]
        released.set()
        await call.until("session.updated")


@pytest.mark.parametrize("location", ["gopher://nowhere", "ws://127.0.0.1:{port}/v1/realtime"])
async def test_no_redirect_is_followed(location: str) -> None:
    """The key goes nowhere but to the upstream of the settings; it is not tried again."""
    visits = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        target = location.format(port=elsewhere.sockets[0].getsockname()[1])
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async with (
        await asyncio.start_server(note, "127.0.0.1", 0) as elsewhere,
        await asyncio.start_server(redirect, "127.0.0.1", 0) as server,
    ):
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime"
        async with dialled(url) as call:
            error = await call.until_over()
            assert isinstance(error, UpstreamError)
            assert not error.is_transient
            assert "302" in error.message
    assert visits == []


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"error": {"message": "No.", "code": "no", "type": "t"}}, "No.", "no"),
        ({"error": {"message": "No."}}, "No.", "upstream_http_503"),
        ({"error": "plain"}, "The upstream answered with HTTP status 503.", "upstream_http_503"),
        (["a list"], "The upstream answered with HTTP status 503.", "upstream_http_503"),
        (b"<html>", "The upstream answered with HTTP status 503.", "upstream_http_503"),
        (b'{"error": "\xff"}', "The upstream answered with HTTP status 503.", "upstream_http_503"),
        (b"[" * 100_000, "The upstream answered with HTTP status 503.", "upstream_http_503"),
    ],
)
def test_a_refusal_in_its_own_words(body: Any, message: str, code: str) -> None:
    """Where it has any; else the status speaks."""
    error = refusal(503, body if isinstance(body, bytes) else json.dumps(body).encode(), None)
    assert (error.message, error.code, error.is_transient, error.retry_after_s) == (message, code, True, None)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("1e9", 86_400.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("", None)],
)
def test_when_to_try_again(header: str, seconds: float | None) -> None:
    """In seconds; a date is as good as nothing, a week as good as a day."""
    assert refusal(429, b"", header).retry_after_s == seconds
