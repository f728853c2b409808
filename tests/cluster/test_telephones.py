"""Telephone calls outlive their node: the carrier's program streams them again, and any node finds them."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.client.carriers.dialling import Dialling
from tests.cluster.balancer import Balancer
from tests.cluster.nodes import ADMIN, cluster, said_by
from tests.cluster.redis import RunningRedis, redis_running, until
from tests.cluster.talking import items, noted, session_id, type_text
from tests.end_to_end.serving import Serving, logged
from tests.end_to_end.web import EventSocket, open_socket
from tests.machine import scaled
from tests.telephony.calling import Caller, calling

pytestmark = [pytest.mark.foreign, pytest.mark.slow, pytest.mark.timeout(90)]

_SECRET = "0123456789abcdef0123456789abcdef"
_WITHIN_S = scaled(5.0)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The daemons are programs of their own: one loop for the client is enough."""
    return "asyncio", {"use_uvloop": False, "debug": False}


@pytest.fixture
async def redis() -> AsyncIterator[RunningRedis]:
    """One for each test: nodes die here."""
    async with redis_running() as running:
        yield running


@pytest.fixture
async def balancer() -> AsyncIterator[Balancer]:
    """What the carrier knows as the bridge."""
    async with Balancer.serving() as running:
        yield running


@pytest.fixture
async def nodes(redis: RunningRedis, balancer: Balancer, tmp_path: Path) -> AsyncIterator[list[Serving]]:
    """Two that know each other, behind it."""
    flags = ("--twilio-auth-token", _SECRET, "--public-url", balancer.url)
    async with cluster(tmp_path, redis, 2, *flags) as running:
        balancer.ports = [_port(node) for node in running]
        yield running


def _port(node: Serving) -> int:
    return int(node.url.rstrip("/").rpartition(":")[2])


def _twilio(balancer: Balancer) -> Dialling:
    return Dialling(carrier="twilio", url=balancer.url, secret=_SECRET, public_url=balancer.url)


async def _call_ids(node: Serving, *, but: str = "") -> list[str]:
    """The calls that a node lists, as soon as there is one besides that."""
    found: list[str] = []

    async def is_there() -> bool:
        listed = [call["id"] for call in (await said_by(node, "v1/calls")).json["data"]]
        found[:] = [call_id for call_id in listed if call_id != but]
        return bool(found)

    await until(is_there)
    return found


async def _call_id(node: Serving) -> str:
    [call_id] = await _call_ids(node)
    return call_id


def _items(listener: EventSocket) -> dict[str, str]:
    """The words of each complete item that a listener has heard of."""
    done = [event["item"] for event in listener.of("conversation.item.done")]
    transcripts = {
        event["item_id"]: event["transcript"]
        for event in listener.of("conversation.item.input_audio_transcription.completed")
    }
    said = {item["id"]: item["content"][0].get("transcript") for item in done if item["content"]}
    return {item_id: transcripts.get(item_id, words) or "" for item_id, words in said.items()}


async def _noted(redis: RunningRedis, call_id: str, *texts: str) -> None:
    async def are_there() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", redis.port)
        writer.write(f"HGET bridge:call:{{{call_id}}} notes\r\nQUIT\r\n".encode())
        answer = await reader.read()
        writer.close()
        return all(text.encode() in answer for text in texts)

    await until(are_there)


async def _retrieved(listener: EventSocket, item_id: str) -> str:
    before = len(listener.of("conversation.item.retrieved"))
    await listener.send({"type": "conversation.item.retrieve", "item_id": item_id})
    await listener.until("conversation.item.retrieved", number=before + 1)
    item = listener.of("conversation.item.retrieved")[-1]["item"]
    words: str = item["content"][0].get("transcript") or ""
    return words


async def _speaks(caller: Caller, pcm: bytes, listener: EventSocket, number: int = 1) -> None:
    caller.say(pcm)
    await listener.until("output_audio_buffer.started", number=number)


async def test_a_twilio_call_outlives_its_node(
    nodes: list[Serving], redis: RunningRedis, balancer: Balancer, short_pcm: bytes
) -> None:
    """Killed in mid-answer: within five seconds the caller is heard by another node, in the same conversation."""
    loop = asyncio.get_running_loop()
    async with calling(_twilio(balancer)) as caller:
        call_id = await _call_id(nodes[0])
        async with open_socket(nodes[1].url, f"call_id={call_id}", additional_headers=ADMIN) as before:
            await _speaks(caller, short_pcm, before)
            await before.until("output_audio_buffer.stopped")
            kept = _items(before)
            assert len(kept) == 2, kept
            caller.say(short_pcm)
            await before.until("output_audio_buffer.started", number=2)
            await _noted(redis, call_id, *kept)
            nodes[0].process.send_signal(signal.SIGKILL)
            killed_at = loop.time()
        await caller.wait(lambda: caller.phone.wire.streams == 2, "second stream")  # type: ignore[attr-defined]
        async with open_socket(nodes[1].url, f"call_id={call_id}", additional_headers=ADMIN) as after:
            shown = (await said_by(nodes[1], f"v1/calls/{call_id}")).json
            assert shown["state"] == "connected"
            assert loop.time() - killed_at < _WITHIN_S
            for item_id, words in kept.items():
                assert await _retrieved(after, item_id) == words
            heard = len(caller.sounding)
            caller.say(short_pcm)
            await after.until("response.done")
            await after.until("output_audio_buffer.started")
            await caller.wait(lambda: len(caller.sounding) > heard, "answer")
        assert not caller.phone.ended.is_set()
        assert caller.phone.carrier.complaints == []
        hung_up = await said_by(nodes[1], f"v1/realtime/calls/{call_id}/hangup", "POST")
        assert hung_up.status == 200
        await caller.wait(caller.phone.ended.is_set, "end")  # the webhook says that it is over
        assert caller.phone.wire.streams == 2  # type: ignore[attr-defined]


async def test_a_drain_moves_a_twilio_call(
    nodes: list[Serving], redis: RunningRedis, balancer: Balancer, short_pcm: bytes
) -> None:
    """A node that stops closes the stream between two turns, and the call goes on at the other one."""
    async with calling(_twilio(balancer)) as caller:
        call_id = await _call_id(nodes[0])
        async with open_socket(nodes[1].url, f"call_id={call_id}", additional_headers=ADMIN) as before:
            await _speaks(caller, short_pcm, before)
            await before.until("output_audio_buffer.stopped")
            kept = _items(before)
        nodes[0].process.send_signal(signal.SIGTERM)
        await caller.wait(lambda: caller.phone.wire.streams == 2, "second stream")  # type: ignore[attr-defined]
        assert await nodes[0].process.wait() == 0
        async with open_socket(nodes[1].url, f"call_id={call_id}", additional_headers=ADMIN) as after:
            for item_id, words in kept.items():
                assert await _retrieved(after, item_id) == words
        assert not caller.phone.ended.is_set()


async def test_a_node_that_stops_passes_a_moved_call_on(
    nodes: list[Serving], redis: RunningRedis, balancer: Balancer, short_pcm: bytes
) -> None:
    """It has let the call go and still ends another one when the carrier comes back to it, as behind a balancer."""
    async with calling(_twilio(balancer)) as caller, AsyncExitStack() as stack:
        call_id = await _call_id(nodes[0])
        async with open_socket(nodes[1].url, f"call_id={call_id}", additional_headers=ADMIN) as before:
            await _speaks(caller, short_pcm, before)
            await before.until("output_audio_buffer.stopped")
            kept = _items(before)
        await _noted(redis, call_id, *kept)
        other = await stack.enter_async_context(calling(_twilio(balancer)))
        [other_id] = await _call_ids(nodes[0], but=call_id)
        async with open_socket(nodes[0].url, f"call_id={other_id}", additional_headers=ADMIN) as beside:
            await _speaks(other, short_pcm, beside)
        nodes[0].process.send_signal(signal.SIGTERM)  # it waits for the end of that answer
        await caller.wait(lambda: caller.phone.wire.streams == 2, "second stream")  # type: ignore[attr-defined]
        assert (await logged(nodes[1], "cluster.call_taken_over"))["call_id"] == call_id
        async with open_socket(nodes[1].url, f"call_id={call_id}", additional_headers=ADMIN) as after:
            for item_id, words in kept.items():
                assert await _retrieved(after, item_id) == words
        assert not any(line["event"] == "telephony.refused" for line in nodes[0].log_lines())
        assert not caller.phone.ended.is_set()


async def test_an_owner_is_let_in_elsewhere_while_its_node_still_ends_other_calls(
    nodes: list[Serving], redis: RunningRedis, balancer: Balancer, short_pcm: bytes
) -> None:
    """It was told to come back, and its first try at another node goes on with the conversation."""
    async with (
        open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as owner,
        calling(_twilio(balancer)) as other,
    ):
        await type_text(owner, "before", "item_before")
        await owner.until("response.done")
        await noted(redis, session_id(owner), "item_before")
        [other_id] = await _call_ids(nodes[0], but=session_id(owner))
        async with open_socket(nodes[0].url, f"call_id={other_id}", additional_headers=ADMIN) as beside:
            await _speaks(other, short_pcm, beside)
        nodes[0].process.send_signal(signal.SIGTERM)  # it waits for the end of that answer
        assert await owner.close_code() == 1012
        query = f"session_id={session_id(owner)}&after={owner.events[-1]['event_id']}"
        async with open_socket(nodes[1].url, query, first=None, additional_headers=ADMIN) as back:
            assert await items(back, "item_before") == ["before"]


async def test_a_stream_that_breaks_comes_back_through_another_node(
    nodes: list[Serving], redis: RunningRedis, balancer: Balancer, short_pcm: bytes
) -> None:
    """The node that has the call lives: the new stream is passed on to it, and nothing of the call is told anew."""
    async with calling(_twilio(balancer)) as caller:
        call_id = await _call_id(nodes[0])
        await _noted(redis, call_id, call_id)
        balancer.ports.reverse()
        caller.phone.wire.cut()
        await caller.wait(lambda: caller.phone.wire.streams == 2, "second stream")  # type: ignore[attr-defined]
        async with open_socket(nodes[0].url, f"call_id={call_id}", additional_headers=ADMIN) as listener:
            await _speaks(caller, short_pcm, listener)
            await listener.until("output_audio_buffer.stopped")
        [call] = (await said_by(nodes[1], "v1/calls")).json["data"]
        assert (call["id"], call["peer"]["returns"]) == (call_id, 1)
        assert not any(line["event"] == "cluster.call_taken_over" for node in nodes for line in node.log_lines())
        await said_by(nodes[1], f"v1/realtime/calls/{call_id}/hangup", "POST")
        await caller.wait(caller.phone.ended.is_set, "end")
        assert caller.phone.wire.streams == 2  # type: ignore[attr-defined]
        assert caller.phone.carrier.complaints == []


async def test_a_stream_that_breaks_at_once_comes_back_through_another_node(
    nodes: list[Serving], redis: RunningRedis, balancer: Balancer, short_pcm: bytes
) -> None:
    """Its node has not told of the call yet when the carrier asks the other one what is next: that one waits for it."""
    async with calling(_twilio(balancer)) as caller, redis.store() as store:
        call_id = await _call_id(nodes[0])
        await _noted(redis, call_id, call_id)
        [place] = await store.command("KEYS", "bridge:carrier:twilio:*")
        known = await store.command("GET", place)
        await store.command("DEL", place)
        async with _commands_of(redis) as commands:
            balancer.ports.reverse()
            caller.phone.wire.cut()
            while b'"GET" "%b"' % place not in await commands.readline():
                pass
            await store.command("SET", place, known)
        await caller.wait(lambda: caller.phone.wire.streams == 2, "second stream")  # type: ignore[attr-defined]
        async with open_socket(nodes[0].url, f"call_id={call_id}", additional_headers=ADMIN) as listener:
            await _speaks(caller, short_pcm, listener)
            await listener.until("output_audio_buffer.stopped")
        [call] = (await said_by(nodes[1], "v1/calls")).json["data"]
        assert (call["id"], call["peer"]["returns"]) == (call_id, 1)
        await said_by(nodes[0], f"v1/realtime/calls/{call_id}/hangup", "POST")
        await caller.wait(caller.phone.ended.is_set, "end")

        async def is_over() -> bool:  # so that no node waits for news of it
            return bool(await store.command("GET", place) == b"")

        await until(is_over)


@asynccontextmanager
async def _commands_of(redis: RunningRedis) -> AsyncIterator[asyncio.StreamReader]:
    """What Redis is asked from now on, a line for each command."""
    reader, writer = await asyncio.open_connection("127.0.0.1", redis.port)
    try:
        async with asyncio.timeout(_WITHIN_S):
            writer.write(b"MONITOR\r\n")
            assert await reader.readline() == b"+OK\r\n"
            yield reader
    finally:
        writer.close()


_REDIALLING = {"telnyx": ("--telnyx-secret", "tel-secret"), "plivo": ("--plivo-auth-token", _SECRET)}


@pytest.mark.parametrize("carrier", _REDIALLING)
async def test_a_carrier_that_connects_again_finds_its_call_at_another_node(
    redis: RunningRedis, balancer: Balancer, tmp_path: Path, short_pcm: bytes, carrier: str
) -> None:
    """By itself, or because its application has it dial again: the same id of the carrier's is the same call."""
    flags = _REDIALLING[carrier]
    where = Dialling(carrier=carrier, url=balancer.url, secret=flags[1], public_url=balancer.url, call="the-call-1")
    async with cluster(tmp_path, redis, 2, *flags, "--public-url", balancer.url) as nodes:
        balancer.ports = [_port(node) for node in nodes]
        async with calling(where) as caller:
            call_id = await _call_id(nodes[0])
            async with open_socket(nodes[1].url, f"call_id={call_id}", additional_headers=ADMIN) as before:
                await _speaks(caller, short_pcm, before)
                await before.until("output_audio_buffer.stopped")
                kept = _items(before)
            await _noted(redis, call_id, *kept)
            nodes[0].process.send_signal(signal.SIGKILL)
            await caller.wait(caller.phone.ended.is_set, "end of the connection")
        async with calling(where) as again:
            assert await _call_id(nodes[1]) == call_id
            async with open_socket(nodes[1].url, f"call_id={call_id}", additional_headers=ADMIN) as after:
                for item_id, words in kept.items():
                    assert await _retrieved(after, item_id) == words
                await _speaks(again, short_pcm, after)
