"""Any node answers for any call: three daemons, a real Redis, and clients that ask the wrong one."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from bridge.cluster.proof import PROOF, Origin, Proofs
from tests.cluster.nodes import ADMIN, cluster, list_nodes, node_flags, said_by
from tests.cluster.redis import SECRET, RunningRedis, redis_running, until
from tests.end_to_end.event_log import outbound_sound
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.serving import Serving, serving
from tests.end_to_end.web import EventSocket, open_socket, open_watch, request

pytestmark = [pytest.mark.foreign, pytest.mark.slow, pytest.mark.timeout(60)]

_TYPED = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "are you there?"}]}


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The daemons are programs of their own: one loop for the client is enough."""
    return "asyncio", {"use_uvloop": False, "debug": False}


@pytest.fixture(scope="module")
async def redis() -> AsyncIterator[RunningRedis]:
    """For all tests here."""
    async with redis_running() as running:
        yield running


@pytest.fixture(scope="module")
async def nodes(redis: RunningRedis, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Serving]]:
    """Three that know each other."""
    async with cluster(tmp_path_factory.mktemp("nodes"), redis, 3, "--max-calls", "10") as running:
        yield running
        assert [line for node in running for line in node.complaints() if line["level"] == "error"] == []


def _now_ms() -> int:
    return int(time.time() * 1000)


def _id(owner: EventSocket) -> str:
    session_id: str = owner.events[0]["session"]["id"]
    return session_id


def _opened(watcher: EventSocket) -> list[str]:
    return [event["call"]["id"] for event in watcher.of("bridge.call.opened")]


def _closed(watcher: EventSocket) -> list[str]:
    return [event["call_id"] for event in watcher.of("bridge.call.closed")]


async def _type(socket: EventSocket) -> None:
    await socket.send({"type": "conversation.item.create", "item": _TYPED})
    await socket.send({"type": "response.create"})


async def test_the_nodes_are_listed_for_operators(nodes: list[Serving]) -> None:
    """Each knows all, their addresses and their calls; a stranger is told nothing."""

    async def know_each_other() -> bool:
        known = await asyncio.gather(*map(list_nodes, nodes))
        return all({f"{one['url']}/" for one in told} == {one.url for one in nodes} for told in known)

    await until(know_each_other)
    assert (await request("GET", f"{nodes[0].url}v1/nodes")).status == 401


async def test_a_listener_at_another_node_misses_nothing(nodes: list[Serving]) -> None:
    """It hears every event under the same id as one at the node that has the call, and can come back to a third."""
    async with (
        open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as owner,
        open_socket(nodes[0].url, f"call_id={_id(owner)}", additional_headers=ADMIN) as near,
        open_socket(nodes[1].url, f"call_id={_id(owner)}", additional_headers=ADMIN) as far,
    ):
        await _type(owner)
        await near.until("response.done")
        await far.until("response.done")
        assert [event["event_id"] for event in far.events[1:]] == [event["event_id"] for event in near.events[1:]]
        far.connection.transport.abort()
        await far.closed.wait()
        await _type(owner)
        await near.until("response.done", number=2)
        query = f"call_id={_id(owner)}&after={far.events[-1]['event_id']}"
        async with open_socket(nodes[2].url, query, first=None, additional_headers=ADMIN) as again:
            await again.until("response.done")
            whole = [event["event_id"] for event in (*far.events[1:], *again.events)]
            assert whole == [event["event_id"] for event in near.events[1:]]


async def test_a_controller_at_another_node_is_heard(nodes: list[Serving]) -> None:
    """What it says reaches the call; a message that is none is answered, and its goodbye is one."""
    async with open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as owner:
        async with open_socket(nodes[2].url, f"call_id={_id(owner)}", additional_headers=ADMIN) as controller:
            await _type(controller)
            await owner.until("response.done")
            await controller.connection.send("nonsense")
            await controller.until("error")
        shown = (await said_by(nodes[1], f"v1/calls/{_id(owner)}")).json

        async def has_left() -> bool:
            shown = (await said_by(nodes[1], f"v1/calls/{_id(owner)}")).json
            return [one["role"] for one in shown["listeners"]] == ["owner"]

        await until(has_left)
        assert shown["id"] == _id(owner)


async def test_an_owner_comes_back_through_another_node(nodes: list[Serving]) -> None:
    """Its broken connection is seen as broken, and it goes on behind its last event."""
    async with open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as owner:
        await _type(owner)
        await owner.until("response.done")
        owner.connection.transport.abort()
        await owner.closed.wait()
        query = f"session_id={_id(owner)}&after={owner.events[-1]['event_id']}"
        async with open_socket(nodes[1].url, query, first=None, additional_headers=ADMIN) as again:
            await _type(again)
            await again.until("response.done")
            again.connection.transport.abort()
            await again.closed.wait()
            async with open_socket(nodes[2].url, query, first=None, additional_headers=ADMIN) as last:
                await last.until("response.done")


async def test_refusals_are_those_of_the_node_that_has_the_call(nodes: list[Serving]) -> None:
    """A wrong key, a call that is over and a choice that is none are answered as they would be there."""
    async with open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as owner:
        for query, headers, status in (
            (f"call_id={_id(owner)}", {"Authorization": "Bearer wrong"}, 401),
            (f"call_id={_id(owner)}x", ADMIN, 404),
            (f"call_id={_id(owner)}&audio=wax", ADMIN, 400),
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with open_socket(nodes[1].url, query, additional_headers=headers):
                    pass
            assert refused.value.response.status_code == status
            assert json.loads(refused.value.response.body)["error"]["message"]


async def test_calls_are_listed_shown_and_hung_up_anywhere(nodes: list[Serving]) -> None:
    """All of them, oldest first, at each node; hanging up at one ends the call at another."""
    async with (
        open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as first,
        open_socket(nodes[1].url, "model=m", additional_headers=ADMIN) as second,
    ):
        for node in nodes:
            listed = (await said_by(node, "v1/calls")).json["data"]
            ids = [call["id"] for call in listed]
            assert ids.index(_id(first)) < ids.index(_id(second))
            found = (await said_by(node, f"v1/calls?q={_id(second)[:20]}")).json["data"]
            assert [call["id"] for call in found] == [_id(second)]
        assert (await said_by(nodes[2], f"v1/realtime/calls/{_id(first)}/hangup", "POST")).status == 200
        assert await first.close_code() == 1000

        async def is_remembered() -> bool:
            ended = (await said_by(nodes[2], "v1/calls?ended=1")).json["data"]
            return [call["reason"] for call in ended if call["id"] == _id(first)] == ["hangup"]

        await until(is_remembered)
    unknown = await said_by(nodes[2], f"v1/calls/{_id(first)}")
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "call_id_not_found")


async def test_watchers_hear_of_calls_of_every_node(nodes: list[Serving]) -> None:
    """Which run already, and which begin and end."""
    async with (
        open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as running,
        open_watch(nodes[1].url, additional_headers=ADMIN) as watcher,
    ):
        begun = await watcher.until("bridge.calls")
        assert _id(running) in [call["id"] for call in begun["calls"]]
        async with open_socket(nodes[2].url, "model=m", additional_headers=ADMIN) as owner:
            await watcher.wait(lambda: _id(owner) in _opened(watcher), "opening")
        await watcher.wait(lambda: _id(owner) in _closed(watcher), "end")
    assert _opened(watcher).count(_id(owner)) == 1


async def test_a_key_minted_at_one_node_is_good_for_one_call_at_another(nodes: list[Serving]) -> None:
    """And it sees its own calls alone, also where it has none."""
    body = json.dumps({"bridge": {"single_use": True}})
    headers = {**ADMIN, "Content-Type": "application/json"}
    minted = await request("POST", f"{nodes[0].url}v1/realtime/client_secrets", headers=headers, body=body)
    key = {"Authorization": f"Bearer {minted.json['value']}"}
    async with (
        open_socket(nodes[2].url, "model=m", additional_headers=ADMIN),
        open_socket(nodes[1].url, "model=m", additional_headers=key) as owner,
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with open_socket(nodes[2].url, "model=m", additional_headers=key):
                pass
        assert refused.value.response.status_code == 401
        listed = await request("GET", f"{nodes[0].url}v1/calls", headers=key)
        assert [call["id"] for call in listed.json["data"]] == [_id(owner)]


async def test_a_peer_is_heard_and_comes_back_through_other_nodes(nodes: list[Serving], short_pcm: bytes) -> None:
    """Its sound reaches a listener elsewhere; its resume key is good at any node, and brings it to its own."""
    async with (
        RealPeer(nodes[0].url, headers=ADMIN) as peer,
        open_socket(nodes[1].url, f"call_id={peer.call_id}&audio=pcm16", additional_headers=ADMIN) as far,
    ):
        await peer.speak(short_pcm)
        await far.until("response.done")
        assert len(outbound_sound(far.events)) > len(short_pcm) // 4
        path = f"v1/realtime/calls/{peer.call_id}"
        headers = {**ADMIN, "Bridge-Resume-Key": peer.reply.headers["bridge-resume-key"]}
        async with RealPeer(nodes[2].url, path=path, headers=headers) as again:
            assert again.call_id == peer.call_id
            await again.speak(short_pcm)
            await far.until("response.done", number=2)


async def test_a_full_node_passes_new_calls_on(
    redis: RunningRedis, tmp_path_factory: pytest.TempPathFactory, nodes: list[Serving]
) -> None:
    """To the one with the most room, over WebSocket as over WebRTC, whose peer then sends straight there."""
    folder = tmp_path_factory.mktemp("full")
    async with serving(folder / "node.log", *node_flags(redis, "--max-calls", "1")) as small:

        async def is_known() -> bool:
            return len(await list_nodes(small)) == len(await list_nodes(nodes[0])) == 4

        await until(is_known)
        async with (
            open_socket(small.url, "model=m", additional_headers=ADMIN) as own,
            open_socket(small.url, "model=m", additional_headers=ADMIN) as passed,
            RealPeer(small.url, headers=ADMIN) as peer,
        ):
            here, *there = (_id(own)[:11], _id(passed)[:11], peer.call_id[:10])
            assert here.removeprefix("sess_") not in [one.partition("_")[2] for one in there]
            await _type(passed)
            await passed.until("response.done")
        await small.stop()


async def test_a_body_that_is_too_long_is_read_no_further(nodes: list[Serving]) -> None:
    """A stranger's request is passed on only if its body is no longer than an endpoint takes."""
    async with open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as owner:
        url = f"{nodes[1].url}v1/realtime/calls/{_id(owner)}/hangup"
        reply = await request("POST", url, body=b"x" * 600_000)
        assert (reply.status, reply.json["error"]["param"]) == (400, "body")
        assert (await request("POST", url, body=b"x" * 1000)).status == 401


async def test_only_nodes_reach_what_is_for_nodes(nodes: list[Serving]) -> None:
    """Neither an API key nor an invented, an old or a borrowed proof opens it, nor one for another node."""
    target, origin = "/cluster/calls?key_id=api&q=", Origin("192.0.2.1", 1, "http", "127.0.0.1")
    url = f"{nodes[0].url.rstrip('/')}{target}"
    ids = {str(node["url"]): str(node["id"]) for node in await list_nodes(nodes[0])}
    here, there = (ids[node.url.rstrip("/")] for node in nodes[:2])

    def signed(secret: str = SECRET, method: str = "GET", asked: str = target, to: str = here, age_ms: int = 0) -> str:
        return Proofs(secret, there, lambda: _now_ms() - age_ms).sign(method, asked, origin, to=to)

    assert (await request("GET", url, headers={PROOF: signed()})).status == 200
    for proof in (
        "nonsense",
        signed(secret="another secret"),
        signed(age_ms=120_000),
        signed(asked="/v1/calls"),
        signed(method="POST"),
        signed(to=there),
        signed().replace("192.0.2.1", "127.0.0.1"),
    ):
        assert (await request("GET", url, headers={**ADMIN, PROOF: proof})).status == 403
    assert (await request("GET", url, headers=ADMIN)).status == 403


async def test_a_nodes_clients_do_not_share_the_limit_of_its_address(
    redis: RunningRedis, tmp_path_factory: pytest.TempPathFactory, nodes: list[Serving]
) -> None:
    """A node that lets one stranger wait at each address takes any number that another node has let in."""
    folder = tmp_path_factory.mktemp("narrow")
    flags = node_flags(redis, "--max-pending-per-address", "1")
    async with serving(folder / "node.log", *flags) as narrow:

        async def is_known() -> bool:
            return len(await list_nodes(narrow)) == len(await list_nodes(nodes[0])) == 4

        await until(is_known)
        async with open_socket(narrow.url, "model=m", additional_headers=ADMIN) as owner, AsyncExitStack() as stack:
            query = f"call_id={_id(owner)}"
            asking = [open_socket(nodes[0].url, query, additional_headers=ADMIN) for _ in range(12)]
            listeners = await asyncio.gather(*map(stack.enter_async_context, asking))
            assert {_id(listener) for listener in listeners} == {_id(owner)}
        await narrow.stop()
