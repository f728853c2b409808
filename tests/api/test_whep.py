"""WHEP at its endpoint: what is taken, by which keys, and what it counts as; the rules are those of WHIP."""

import asyncio
import re
from typing import Any

import pytest

from tests.api.test_whip import ask, minted
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.one_way import one_way_offer
from tests.end_to_end.web import Reply, request
from tests.machine import scaled

_KEY = "sk-the-api-key-of-these-tests"
_SDP, _FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
_CANDIDATE = "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"
_RESTART = f"a=ice-ufrag:fresh\r\na=ice-pwd:{'n' * 22}\r\n{_CANDIDATE}"


@pytest.fixture
async def recvonly() -> str:
    """A player's offer."""
    return await one_way_offer("recvonly")


async def play(daemon: Any, call_id: str, offer: str, query: str = "", **headers: Any) -> Reply:
    """Posts an offer to play the call."""
    return await ask(daemon, "POST", f"v1/whep/{call_id}{query}", offer, **{"Content_Type": _SDP, **headers})


async def begin_call(daemon: Any, offer: str) -> str:
    """A call, whose peer never comes; its id."""
    headers = {"Content-Type": _SDP, "Authorization": f"Bearer {_KEY}"}
    reply = await request("POST", f"{daemon.url}v1/realtime/calls", headers=headers, body=offer)
    return reply.headers["location"].rpartition("/")[2]


async def test_an_offer_its_answer_and_its_session(serve_with: ServeWith, offer: str, recvonly: str) -> None:
    """201 with sendonly and an ``ETag``; candidates, restarts and ``DELETE`` at ``Location``, as RFC 9725 has them."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        call_id = await begin_call(daemon, offer)
        reply = await play(daemon, call_id, recvonly)
        answer = reply.body.decode()
        assert (reply.status, reply.headers["content-type"]) == (201, _SDP)
        assert re.findall(r"a=(recvonly|sendonly|sendrecv|inactive)", answer) == ["sendonly"]
        assert "a=rtcp-mux-only\r\n" in answer
        assert "a=msid:bridge audio\r\n" in answer
        session, tag = reply.headers["location"].lstrip("/"), reply.headers["etag"]
        assert session.startswith(f"v1/whep/{call_id}/ply_")
        kind = {"Content_Type": _FRAGMENT}
        for body, more, status in (
            (_CANDIDATE, {}, 428),
            (_CANDIDATE, {"If_Match": '"another"'}, 412),
            (_CANDIDATE, {"If_Match": tag}, 204),
            (_RESTART, {"If_Match": "*"}, 200),
            (_CANDIDATE, {"If_Match": tag}, 412),
            ("nonsense", {"If_Match": "*"}, 400),
            (_CANDIDATE, {"If_Match": "*", "Content_Type": _SDP}, 415),
        ):
            assert (await ask(daemon, "PATCH", session, body, **kind | more)).status == status
        for method, status in (("GET", 204), ("HEAD", 204), ("OPTIONS", 200), ("PUT", 405), ("POST", 405)):
            assert (await ask(daemon, method, session)).status == status
        for method, status in (("GET", 204), ("OPTIONS", 200), ("PUT", 405), ("PATCH", 405), ("DELETE", 405)):
            assert (await ask(daemon, method, f"v1/whep/{call_id}")).status == status
        assert (await ask(daemon, "OPTIONS", f"v1/whep/{call_id}", key=None)).headers["accept-post"] == _SDP
        assert (await ask(daemon, "DELETE", session)).status == 200
        async with asyncio.timeout(scaled(10)):
            while daemon.players.ids:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for method in ("DELETE", "GET", "PATCH"):
            assert (await ask(daemon, method, session, **kind)).status == 404
        assert len(daemon.registry.sessions) == 1


@pytest.mark.parametrize(
    ("change", "query", "headers", "status"),
    [
        ({}, "?tracks=input", {}, 201),
        ({}, "?tracks=output,input", {}, 201),
        ({}, "?tracks=caller", {}, 400),
        ({}, "", {"Content_Type": "text/plain"}, 415),
        ({}, "", {"Accept": "text/html"}, 406),
        ({}, "", {"key": None}, 401),
        ({"v=0": "v=1"}, "", {}, 400),
        ({"a=recvonly": "a=sendrecv"}, "", {}, 201),
        ({"a=recvonly": "a=sendonly"}, "", {}, 400),
        ({"a=recvonly": "a=inactive"}, "", {}, 400),
    ],
)
async def test_what_is_taken(
    serve_with: ServeWith,
    offer: str,
    recvonly: str,
    change: dict[str, str],
    query: str,
    headers: dict[str, Any],
    status: int,
) -> None:
    """An offer that hears, and tracks in the words of listeners; what is refused leaves nothing behind."""
    for old, new in change.items():
        recvonly = recvonly.replace(old, new)
    async with serve_with(api_key=(_KEY,)) as daemon:
        call_id = await begin_call(daemon, offer)
        reply = await play(daemon, call_id, recvonly, query, **headers)
        assert reply.status == status
        assert len(daemon.players.ids) == (status == 201)
        if status == 201:
            assert re.findall(r"a=(recvonly|sendonly|sendrecv|inactive)", reply.body.decode()) == ["sendonly"]


async def test_keys_of_players(serve_with: ServeWith, offer: str, recvonly: str) -> None:
    """A key with role ``player`` plays the call that it names and nothing else; other minted keys do not play."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        call_id, other_id = await begin_call(daemon, offer), await begin_call(daemon, offer)
        key = await minted(daemon, role="player", call_id=call_id)
        made = await play(daemon, call_id, recvonly, key=key)
        assert made.status == 201
        assert (await play(daemon, other_id, recvonly, key=key)).status == 404
        assert (await play(daemon, "rtc_nobody", recvonly)).status == 404
        for role in ("controller", "observer", "agent", "publisher"):
            other = await minted(daemon, role=role, call_id=call_id)
            assert (await play(daemon, call_id, recvonly, key=other)).status == 403
        for method, door in (
            ("GET", f"v1/calls/{call_id}"),
            ("DELETE", f"v1/realtime/calls/{call_id}"),
            ("POST", "v1/whip"),
            ("DELETE", f"v1/whip/{call_id}"),
        ):
            assert (await ask(daemon, method, door, key=key)).status == 403
        session = made.headers["location"].lstrip("/")
        stranger = await minted(daemon, role="player", call_id=call_id)
        assert (await ask(daemon, "DELETE", session, key=stranger)).status == 404
        wrong = session.replace(call_id, other_id)
        assert (await ask(daemon, "DELETE", wrong)).status == 404
        assert (await ask(daemon, "DELETE", session, key=key)).status == 200
        spent = await minted(daemon, role="player", call_id=call_id, single_use=True)
        assert [(await play(daemon, call_id, recvonly, key=spent)).status for _ in range(2)] == [201, 401]


async def test_players_are_listeners(serve_with: ServeWith, offer: str, recvonly: str) -> None:
    """They count for the limits of the call and of the key, stand in its list, and give their places back."""
    async with serve_with(api_key=(_KEY,), max_listeners_per_call=2) as daemon:
        call_id = await begin_call(daemon, offer)
        made = [await play(daemon, call_id, recvonly, "?tracks=input") for _ in range(3)]
        assert [reply.status for reply in made] == [201, 201, 429]
        shown = (await ask(daemon, "GET", f"v1/calls/{call_id}")).json["listeners"]
        assert [(each["role"], each["audio"], each["tracks"]) for each in shown] == 2 * [("player", "opus", ["input"])]
        metrics = (await ask(daemon, "GET", "metrics")).body.decode()
        assert 'bridge_listeners{role="player"} 2.0' in metrics
        assert (await ask(daemon, "DELETE", made[0].headers["location"].lstrip("/"))).status == 200
        async with asyncio.timeout(scaled(10)):
            while len(daemon.players.ids) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await play(daemon, call_id, recvonly)).status == 201
    async with serve_with(api_key=(_KEY,), max_listeners_per_key=1) as daemon:
        call_id = await begin_call(daemon, offer)
        assert [(await play(daemon, call_id, recvonly)).status for _ in range(2)] == [201, 429]


async def test_players_go_with_their_call(serve_with: ServeWith, offer: str, recvonly: str) -> None:
    """When the call ends, so do they."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        call_id = await begin_call(daemon, offer)
        await play(daemon, call_id, recvonly)
        assert (await ask(daemon, "DELETE", f"v1/realtime/calls/{call_id}")).status == 200
        async with asyncio.timeout(scaled(10)):
            while daemon.players.ids or daemon.endpoint.peers:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
