"""Who watches a daemon's calls finds each of them by itself, and sees how it is."""

import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import open_socket, open_watch, request

_KEY = "a-key-of-the-server"
_AUTHORIZATION = {"Authorization": f"Bearer {_KEY}"}


async def test_calls_that_begin_and_end(daemon: Daemon) -> None:
    """First those that run already; then each that begins, so that one can attach at once, and each that ends."""
    async with open_socket(daemon.url, "model=one") as first, open_watch(daemon.url) as watch:
        (running,) = (await watch.until("bridge.calls"))["calls"]
        assert running["id"] == first.events[0]["session"]["id"]
        async with RealPeer(daemon.url) as peer:
            opened = (await watch.until("bridge.call.opened"))["call"]
            assert (opened["id"], opened["state"], opened["transport"]) == (peer.call_id, "connecting", "webrtc")
            async with open_socket(daemon.url, f"call_id={opened['id']}&audio=pcm16") as listener:
                await peer.hang_up()
                told = await listener.until("bridge.call.closed")
        closed = await watch.until("bridge.call.closed")
        assert (closed["call_id"], closed["result"], closed["reason"]) == (peer.call_id, told["result"], told["reason"])
        assert watch.types == ["bridge.calls", "bridge.call.opened", "bridge.call.closed"]


async def test_a_watcher_comes_back(daemon: Daemon) -> None:
    """With ``after`` it hears of all that began and ended meanwhile, and of nothing twice."""
    async with open_watch(daemon.url) as watch:
        last = (await watch.until("bridge.calls"))["event_id"]
    ids = []
    for _ in range(3):
        async with open_socket(daemon.url, "model=any") as owner:
            ids.append(owner.events[0]["session"]["id"])
    async with open_watch(daemon.url, f"after={last}") as watch:
        await watch.until("bridge.call.closed", number=3)
    assert watch.types == ["bridge.call.opened", "bridge.call.closed"] * 3
    assert [event["call"]["id"] for event in watch.of("bridge.call.opened")] == ids


async def test_a_watcher_only_listens(daemon: Daemon) -> None:
    """Whatever it sends is answered by an error, and costs it nothing else."""
    async with open_watch(daemon.url) as watch:
        await watch.send({"type": "response.create"})
        error = (await watch.until("error"))["error"]
        assert error["code"] == "forbidden"
        async with open_socket(daemon.url, "model=any"):
            await watch.until("bridge.call.opened")


async def test_watchers_are_told_when_the_daemon_stops(serve_with: ServeWith) -> None:
    """Last of the calls that end with it, then by close code 1001."""
    async with serve_with() as daemon:
        url = f"{daemon.url.replace('http', 'ws', 1)}v1/calls/events"
        watch = await connect(url, proxy=None)
        owner = await connect(f"{daemon.url.replace('http', 'ws', 1)}v1/realtime?model=any", proxy=None)
        types = [json.loads(await watch.recv())["type"] for _ in range(2)]
    types.append(json.loads(await watch.recv())["type"])
    assert types == ["bridge.calls", "bridge.call.opened", "bridge.call.closed"]
    await watch.wait_closed()
    assert watch.close_code == 1001
    await owner.close()


async def _refused(daemon: Daemon, query: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as refused:
        async with open_watch(daemon.url, query, additional_headers=headers):
            pass
    error: dict[str, Any] = json.loads(refused.value.response.body or b"")["error"]
    return refused.value.response.status_code, error


async def test_only_with_a_key_of_the_server(serve_with: ServeWith) -> None:
    """Calls of all keys are no business of a client's key; nor is recording them."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        body = json.dumps({"session": {"type": "realtime"}})
        minted = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=_AUTHORIZATION, body=body)
        headers = {"Authorization": f"Bearer {minted.json['value']}"}
        assert (await _refused(daemon, "", {}))[0] == 401
        assert (await _refused(daemon, "", headers))[0] == 403
        async with open_socket(daemon.url, "", additional_headers=headers) as owner:
            door = f"{daemon.url}v1/calls/{owner.events[0]['session']['id']}/recording"
            assert (await request("POST", door, headers=headers)).status == 403
            assert (await request("POST", door, headers=_AUTHORIZATION)).status == 501
        async with open_watch(daemon.url, additional_headers=_AUTHORIZATION) as watch:
            assert (await watch.until("bridge.calls"))["calls"] == []


@pytest.mark.parametrize(
    ("query", "param"), [("audio=pcm16", "audio"), ("after=event_x_1", "after"), ("events=calls", "events")]
)
async def test_choices_of_a_watcher(daemon: Daemon, query: str, param: str) -> None:
    """It has two, and what it cannot have is refused by name."""
    status, error = await _refused(daemon, query, {})
    assert (status, error["param"]) == (400, param)


async def test_one_call_in_full(daemon: Daemon) -> None:
    """Its legs with their formats and quality, its listeners with what they chose and are behind, its session."""
    async with (
        RealPeer(daemon.url) as peer,
        open_socket(daemon.url, f"call_id={peer.call_id}&audio=g711_ulaw&latency=low&tracks=input&events=response"),
    ):
        call = (await request("GET", f"{daemon.url}v1/calls/{peer.call_id}")).json
    (leg,) = call["legs"]
    assert (leg["kind"], leg["input"], leg["output"]) == ("webrtc", "pcm16", "pcm16")
    assert {"packets", "lost", "jitter_ms", "concealed_ms"} <= leg["quality"].keys()
    _, listener = call["listeners"]
    expected = {"audio": "g711_ulaw", "chunk_ms": 20, "tracks": ["input"], "events": ["response"], "framing": "json"}
    assert {name: listener[name] for name in expected} == expected
    assert {"backlog_bytes", "dropped_events", "dropped_ms", "last_event_id"} <= listener.keys()
    assert call["session"]["audio"]["input"]["format"]["type"] == "audio/pcm"
