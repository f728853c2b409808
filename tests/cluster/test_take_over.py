"""A node dies, a call does not: three daemons, a real Redis, and callers that come back to another node."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.cluster.nodes import ADMIN, cluster, list_nodes, node_flags, said_by
from tests.cluster.redis import RunningRedis, redis_running, until
from tests.cluster.talking import come_back, items, noted, session_id, type_text, typed
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.serving import Serving, serving
from tests.end_to_end.web import EventSocket, open_socket
from tests.machine import scaled

pytestmark = [pytest.mark.foreign, pytest.mark.slow, pytest.mark.timeout(60)]

_LIMIT_S = scaled(15.0)
_GOES_ON_S = scaled(5.0)
"""The time within which a call goes on after its node was killed."""
_STOPPED_S = 10.0
_OWN = "&events=!mcp_list_tools"
"""What makes a listener one that knows the bridge's own events."""


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
async def nodes(redis: RunningRedis, tmp_path: Path) -> AsyncIterator[list[Serving]]:
    """Two that know each other."""
    async with cluster(tmp_path, redis, 2) as running:
        yield running


def _kill(node: Serving) -> None:
    node.process.send_signal(signal.SIGKILL)


async def test_a_sockets_call_outlives_its_node(nodes: list[Serving], redis: RunningRedis) -> None:
    """Killed in mid-answer: its owner goes on at the other node with the same items, and the answer is given anew.

    A listener that stopped behind an event of the dead node goes on there as well, and both are told where the gap is.
    """
    async with (
        open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as owner,
        open_socket(nodes[1].url, f"call_id={session_id(owner)}{_OWN}", additional_headers=ADMIN) as far,
    ):
        await type_text(owner, "the first thing", "item_first")
        await owner.until("response.done")
        await type_text(owner, "a long thing\n" * 200, "item_second")
        await owner.until("response.created", number=2)
        await owner.until("response.output_text.delta", number=20)
        await noted(redis, session_id(owner), '"owes_answer":true')
        _kill(nodes[0])
        began = asyncio.get_running_loop().time()
        assert await far.close_code() == 1012
        await owner.closed.wait()
        back = await come_back(nodes[1], f"session_id={session_id(owner)}&after={owner.events[-1]['event_id']}")
        listening = await come_back(nodes[1], f"call_id={session_id(owner)}&after={far.events[-1]['event_id']}{_OWN}")
        answered = await back.until("response.done")
        took_s = asyncio.get_running_loop().time() - began
        assert answered["response"]["status"] == "completed"
        assert took_s < _GOES_ON_S
        assert await items(back, "item_first", "item_second") == ["the first thing", "a long thing\n" * 200]
        await type_text(back, "the third thing", "item_third")
        await back.until("response.done", number=2)
        await listening.until("response.done", number=2)
        ids = [event["event_id"] for event in (*owner.events, *back.events)]
        assert len(ids) == len(set(ids))
        shown = (await said_by(nodes[1], f"v1/calls/{session_id(owner)}")).json
        assert shown["state"] == "connected"
        for socket in (back, listening):
            await socket.leave(None, None, None)  # type: ignore[attr-defined]


async def test_a_peers_call_outlives_its_node(nodes: list[Serving], redis: RunningRedis, short_pcm: bytes) -> None:
    """Killed while its answer is played: with its resume key, a peer goes on at the other node in the same words."""
    async with RealPeer(nodes[0].url, headers=ADMIN) as peer:
        key = peer.reply.headers["bridge-resume-key"]
        peer.send({"type": "conversation.item.create", "item": typed("remember this", "item_kept")})
        await peer.until("conversation.item.done")
        await peer.speak(short_pcm)
        await peer.until("response.created")
        await peer.until("output_audio_buffer.started")
        await noted(redis, peer.call_id, '"role":"assistant"')
        _kill(nodes[0])
        began = asyncio.get_running_loop().time()
        await nodes[0].process.wait()
        path = f"v1/realtime/calls/{peer.call_id}"
        async with RealPeer(nodes[1].url, path=path, headers={**ADMIN, "Bridge-Resume-Key": key}) as again:
            assert again.call_id == peer.call_id
            again.send({"type": "conversation.item.retrieve", "item_id": "item_kept"})
            kept = await again.until("conversation.item.retrieved")
            assert kept["item"]["content"][0]["text"] == "remember this"
            assert asyncio.get_running_loop().time() - began < _GOES_ON_S
            await again.speak(short_pcm)
            await again.until("output_audio_buffer.started")


async def test_an_owner_that_wakes_up_late_gives_way(nodes: list[Serving], redis: RunningRedis) -> None:
    """Stopped for ten seconds: the other node takes the call; the one that wakes up closes its side, and no more.

    Whoever asks it for the call afterwards is passed on to the node that has it.
    """
    async with open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as owner:
        await type_text(owner, "before", "item_before")
        await owner.until("response.done")
        await noted(redis, session_id(owner), "item_before")
        nodes[0].process.send_signal(signal.SIGSTOP)
        wakes_at = asyncio.get_running_loop().time() + _STOPPED_S

        async def is_missed() -> bool:
            return len(await list_nodes(nodes[1])) == 1

        await until(is_missed)
        back = await come_back(nodes[1], f"session_id={session_id(owner)}")
        await type_text(back, "meanwhile", "item_meanwhile")
        await back.until("response.done")
        await noted(redis, session_id(owner), "item_meanwhile")
        await asyncio.sleep(wakes_at - asyncio.get_running_loop().time())
        nodes[0].process.send_signal(signal.SIGCONT)
        assert await owner.close_code() == 1012
        await type_text(back, "after", "item_after")
        await back.until("response.done", number=2)
        await noted(redis, session_id(owner), "item_after")
        assert any(line["event"] == "cluster.call_lost" for line in nodes[0].log_lines())
        query = f"call_id={session_id(owner)}"
        async with open_socket(nodes[0].url, query, additional_headers=ADMIN) as listener:
            await type_text(back, "still there", "item_still")
            await listener.until("response.done")
        await back.leave(None, None, None)  # type: ignore[attr-defined]


async def test_one_node_wins(redis: RunningRedis, tmp_path: Path) -> None:
    """Two nodes are asked at once for a dead node's call: both answer for it, and one has it."""
    async with cluster(tmp_path, redis, 3) as nodes:
        async with open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as owner:
            await type_text(owner, "before", "item_before")
            await owner.until("response.done")
            await noted(redis, session_id(owner), "item_before")
            _kill(nodes[0])
            await owner.closed.wait()
        query = f"call_id={session_id(owner)}"
        sockets = await asyncio.gather(*(come_back(node, query) for node in (nodes[1], nodes[2]) for _ in range(4)))
        for socket in sockets:
            await socket.until("session.created")
        taken = [line for node in nodes[1:] for line in node.log_lines() if line["event"] == "cluster.call_taken_over"]
        assert len(taken) == 1
        for socket in sockets:
            await socket.leave(None, None, None)  # type: ignore[attr-defined]


async def test_a_drain_moves_calls(nodes: list[Serving], redis: RunningRedis) -> None:
    """A node that stops tells owners to come back, between two turns; the conversation goes on at the other node."""
    async with open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as owner:
        await type_text(owner, "before", "item_before")
        await owner.until("response.done")
        await noted(redis, session_id(owner), "item_before")
        nodes[0].process.send_signal(signal.SIGTERM)
        assert await owner.close_code() == 1012
        back = await come_back(nodes[1], f"session_id={session_id(owner)}&after={owner.events[-1]['event_id']}")
        assert await items(back, "item_before") == ["before"]
        await type_text(back, "after", "item_after")
        await back.until("response.done")
        await back.leave(None, None, None)  # type: ignore[attr-defined]
    async with asyncio.timeout(_LIMIT_S):
        assert await nodes[0].process.wait() == 0


async def test_an_owner_whose_call_has_moved_is_waited_for_again(nodes: list[Serving], redis: RunningRedis) -> None:
    """Its connection to the new node breaks before it has said anything there, as it does if a third one relayed it."""
    async with open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as owner:
        await type_text(owner, "before", "item_before")
        await owner.until("response.done")
        await noted(redis, session_id(owner), "item_before")
        nodes[0].process.send_signal(signal.SIGTERM)
        assert await owner.close_code() == 1012
    query = f"session_id={session_id(owner)}&after={owner.events[-1]['event_id']}"
    silent = await come_back(nodes[1], query)
    silent.connection.transport.abort()
    await silent.leave(None, None, None)  # type: ignore[attr-defined]
    back = await come_back(nodes[1], query)
    assert await items(back, "item_before") == ["before"]
    await back.leave(None, None, None)  # type: ignore[attr-defined]


class _Client:
    """An owner that comes back to whichever node lets it in, as often as it must, and talks all the while."""

    def __init__(self, number: int) -> None:
        self.turns = 0
        self.moves = 0
        self._number = number

    async def talk(self, urls: list[str], is_over: asyncio.Event) -> None:
        """Until it is over: one turn after the other. What was said in any of them must be there at the end."""
        query, said = "model=m", 0
        asked: list[tuple[str, str]] = []
        before_moves: list[tuple[str, str]] = []
        while True:
            socket = await self._open(urls, query)
            try:
                if query == "model=m":
                    query = f"session_id={(await socket.until('session.created'))['session']['id']}"
                while not is_over.is_set():
                    item_id = f"item_{self._number}_{said}"
                    said += 1
                    done = len(socket.of("response.done"))
                    await type_text(socket, f"turn {said}", item_id)
                    await _one_more(socket, "response.done", done)
                    asked.append((item_id, f"turn {said}"))
                    self.turns += 1
                looked_at = [*before_moves, *asked[:1], *asked[-20:]]
                texts = await items(socket, *(item_id for item_id, _ in looked_at))
                assert texts == [text for _, text in looked_at]
                return
            except (ConnectionError, ConnectionClosed):
                self.moves += 1
                before_moves += asked[-1:]
            finally:
                await socket.leave(None, None, None)  # type: ignore[attr-defined]

    async def _open(self, urls: list[str], query: str) -> EventSocket:
        while True:
            for url in urls:
                opening = open_socket(url, query, first=None, additional_headers=ADMIN)
                try:
                    socket = await opening.__aenter__()
                except (InvalidHandshake, OSError, ConnectionClosed):
                    await asyncio.sleep(0.1)
                    continue
                socket.leave = opening.__aexit__  # type: ignore[attr-defined]
                return socket


async def _one_more(socket: EventSocket, kind: str, before: int) -> None:
    """Waits for one more event of this type; raises ``ConnectionError`` if the connection ends instead."""

    async def is_either() -> bool:
        return len(socket.of(kind)) > before or socket.closed.is_set()

    await until(is_either)
    if len(socket.of(kind)) == before:
        raise ConnectionError


async def test_a_rolling_restart_loses_no_conversation(redis: RunningRedis, tmp_path: Path) -> None:
    """Three nodes are stopped one after the other, and another one started for each, under clients that talk."""
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(cluster(tmp_path, redis, 3))
        urls = [node.url for node in nodes]
        is_over = asyncio.Event()
        clients = [_Client(number) for number in range(6)]

        async def all_talk() -> bool:
            return all(client.turns for client in clients)

        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.talk(urls, is_over))  # the list grows with each node that is started
            await until(all_talk)
            for number, node in enumerate(nodes):
                node.process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(2 * _LIMIT_S):
                    assert await node.process.wait() == 0
                fresh = await stack.enter_async_context(serving(tmp_path / f"fresh{number}.log", *node_flags(redis)))
                urls.append(fresh.url)
            is_over.set()
        assert sum(client.moves for client in clients) >= len(clients)
