"""Upstreams that fail, behind a real daemon: what clients hear of it, and that their own connections are untouched."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import Event, EventLog, outbound_sound
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import open_socket
from tests.upstream.scripts import babble, begin_answer, begin_turn, break_off, expire, successor
from tests.upstream.service import Refusal, Service, Visit

_ANSWER = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
]
_BROUGHT_TO_ITS_END = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
    "conversation.item.deleted",
]
_TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
]
_TAKEN_OVER = ["error", "session.updated", "response.created", "response.done"]
_SOUND = ("response.output_audio.delta", *(f"output_audio_buffer.{what}" for what in ("started", "stopped", "cleared")))


async def cut(visit: Visit) -> None:
    await visit.cut()


async def kill(visit: Visit) -> None:
    await visit.socket.close(1011, "internal error")


async def stall(visit: Visit) -> None:
    await visit.until_closed()


_FAULTS = [cut, kill, stall, babble, break_off, expire]


@asynccontextmanager
async def _served(serve_with: ServeWith, *scripts: Any) -> AsyncIterator[tuple[str, Service]]:
    """A daemon before the service: its URL, and the service."""
    async with (
        Service.serving(*scripts) as service,
        serve_with(upstream=service.url, upstream_stall_s=1.0, upstream_fallback=()) as daemon,
    ):
        yield daemon.url, service


def _failing(fault: Any, asked: asyncio.Event) -> Any:
    """Begins an answer to a caller's turn, and fails in it."""

    async def script(visit: Visit) -> None:
        await visit.greet()
        await asked.wait()
        await begin_turn(visit)
        await begin_answer(visit)
        await fault(visit)

    return script


def _check(log: EventLog) -> None:
    """Every event is there, once, in its place."""
    names = [kind for kind in log.types if kind not in _SOUND]
    assert names == ["session.created", *_TURN, *_ANSWER, *_BROUGHT_TO_ITS_END, *_TAKEN_OVER]
    assert log.of("error")[0]["error"]["code"] == "upstream_reconnecting"
    first, second = (event["response"] for event in log.of("response.done"))
    assert (first["id"], first["status"]) == ("resp_1", "failed")
    assert (second["id"], second["status"]) == ("resp_2", "completed")
    assert log.of("response.output_audio_transcript.done")[0]["transcript"] == "Hello "
    ids = [event["event_id"] for event in log.events]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("fault", _FAULTS, ids=lambda fault: str(fault.__name__))
async def test_a_client_over_websocket_goes_on(serve_with: ServeWith, fault: Any) -> None:
    """However its upstream fails in the middle of an answer: told once, answered by the next, on the same socket."""
    asked = asyncio.Event()
    async with _served(serve_with, _failing(fault, asked), successor) as (url, service):
        async with open_socket(url, "model=any") as client:
            asked.set()
            await client.until("response.done", number=2)
            assert not client.closed.is_set()
            _check(client)
            assert len(outbound_sound(client.events)) == 100 * 48
            await client.send({"type": "response.create"})
            await client.until("response.done", number=3)
        assert service.knocks == 2


@pytest.mark.parametrize("fault", [cut, stall], ids=lambda fault: str(fault.__name__))
async def test_a_caller_over_webrtc_goes_on(serve_with: ServeWith, short_pcm: bytes, fault: Any) -> None:
    """The peer stays connected: the same events come over its data channel, and its sound reaches the next upstream."""
    asked = asyncio.Event()
    async with _served(serve_with, _failing(fault, asked), successor) as (url, service):
        async with RealPeer(url) as peer:
            asked.set()
            await peer.until("response.done", number=2)
            _check(peer)
            visit = await service.visit(2)
            before = visit.sound_events
            await peer.speak(short_pcm[: 48 * 500])
            peer.send({"type": "response.create"})
            await peer.until("response.done", number=3)
            assert not peer.gone.is_set()
            assert visit.sound_events - before >= 20
        assert service.knocks == 2


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_ends_the_call(serve_with: ServeWith, status: int) -> None:
    """With the upstream's own words, after one try; over WebRTC it is the same."""
    refusal = Refusal(status, type="invalid_request_error", code="invalid_api_key", message="Wrong key.")
    async with _served(serve_with, refusal) as (url, service):
        async with open_socket(url, "model=any") as client:
            error = (await client.until("error"))["error"]
            assert await client.close_code() == 1014
        assert (error["code"], error["message"]) == ("invalid_api_key", "Wrong key.")
        assert client.types == ["session.created", "error"]
        assert service.knocks == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_passes_is_waited_for(serve_with: ServeWith, status: int) -> None:
    """An upstream that has no time, or is being restarted, is asked again, and clients hear nothing of it."""
    busy = Refusal(status, retry_after="0.1", code="busy", message="later")
    async with _served(serve_with, busy, successor) as (url, service):
        async with open_socket(url, "model=any") as client:
            await client.send({"type": "response.create"})
            await client.until("response.done")
            assert client.types == ["session.created", "response.created", "response.done"]
        assert service.knocks == 2


@pytest.mark.parametrize(("status", "knocks"), [(401, 2), (500, 4)])
async def test_when_nobody_takes_over(serve_with: ServeWith, status: int, knocks: int) -> None:
    """A call whose upstream is lost and comes back no more ends with what was said last, behind all that was owed."""
    asked = asyncio.Event()
    refusal = Refusal(status, retry_after="0.05", type="server_error", code="closed_today", message="Come tomorrow.")
    async with _served(serve_with, _failing(cut, asked), refusal) as (url, service):
        async with open_socket(url, "model=any") as client:
            asked.set()
            assert await client.close_code() == 1014
        errors = [event["error"]["code"] for event in client.of("error")]
        assert errors == ["upstream_reconnecting", "closed_today"]
        names = [kind for kind in client.types if kind not in _SOUND]
        assert names == ["session.created", *_TURN, *_ANSWER, *_BROUGHT_TO_ITS_END, "error", "error"]
        assert service.knocks == knocks


async def test_a_service_that_takes_calls_and_drops_them(serve_with: ServeWith) -> None:
    """One that greets and is gone, time and again, is given up after as many tries as one that does not answer."""

    async def dropping(visit: Visit) -> None:
        await visit.greet()
        await visit.socket.close(1011, "no capacity")

    async with _served(serve_with, dropping) as (url, service):
        async with open_socket(url, "model=any") as client:
            assert await client.close_code() == 1014
        assert client.of("error")[-1]["error"]["code"] == "upstream_lost"
        assert "no capacity" in client.of("error")[-1]["error"]["message"]
        assert service.knocks == 3


async def test_what_is_asked_meanwhile_is_answered(serve_with: ServeWith) -> None:
    """While no upstream is there, events and sound wait, and are answered by the next one, each once."""

    async def losing(visit: Visit) -> None:
        await visit.greet()
        await visit.cut()

    async def late(visit: Visit) -> None:
        await released.wait()
        await successor(visit)

    released = asyncio.Event()
    async with _served(serve_with, losing, late) as (url, _):
        async with open_socket(url, "model=any") as client:
            await client.until("error")
            for number in range(20):
                content = [{"type": "input_text", "text": str(number)}]
                item = {"id": f"item_{number}", "type": "message", "role": "user", "content": content}
                await client.send({"type": "conversation.item.create", "item": item})
            await client.send({"type": "response.create"})
            released.set()
            await client.until("response.done")
    told: list[Event] = client.of("conversation.item.added", "conversation.item.done")
    expected = [(f"item_{number}", what) for number in range(20) for what in ("added", "done")]
    assert [(event["item"]["id"], event["type"].rpartition(".")[2]) for event in told] == expected
    assert client.types[:3] == ["session.created", "error", "session.updated"]
