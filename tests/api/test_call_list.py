"""``GET /v1/calls``: which calls run, which are over, and the one that somebody looks for."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled
from tests.telephony.calling import calling, dialling, session_of
from tests.telephony.rows import SETTINGS

_LIMIT_S = scaled(15.0)
_KEY = "sk-of-the-server"
_AUTH = {"Authorization": f"Bearer {_KEY}"}


async def _list(daemon: Daemon, query: str = "", headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    reply = await request("GET", f"{daemon.url}v1/calls{query}", headers=headers)
    assert (reply.status, reply.json["object"]) == (200, "list")
    calls: list[dict[str, Any]] = reply.json["data"]
    return calls


async def _open_and_hang_up(daemon: Daemon, headers: dict[str, str]) -> str:
    async with open_socket(daemon.url, "model=parrot", additional_headers=headers) as owner:
        call_id = str(owner.events[0]["session"]["id"])
        assert (await request("DELETE", f"{daemon.url}v1/realtime/calls/{call_id}", headers=headers)).status == 200
        await asyncio.wait_for(owner.closed.wait(), _LIMIT_S)
    return call_id


async def test_calls_that_are_over(daemon: Daemon) -> None:
    """With their figures and how they ended, the last one first; a running call is in the other list."""
    ended = [await _open_and_hang_up(daemon, {}) for _ in range(2)]
    async with open_socket(daemon.url, "model=parrot") as owner:
        running = owner.events[0]["session"]["id"]
        assert [call["id"] for call in await _list(daemon, "?ended=1")] == ended[::-1]
        assert [call["id"] for call in await _list(daemon)] == [running]
        assert [call["id"] for call in await _list(daemon, "?ended=0")] == [running]
    [call] = [call for call in await _list(daemon, "?ended=1") if call["id"] == ended[0]]
    assert (call["state"], call["status"], call["result"], call["reason"]) == ("closed", "ended", "success", "hangup")
    assert call["ended_at"] >= call["started_at"]
    assert (call["transport"], call["listeners"], call["upstream"]["name"]) == ("websocket", [], "local")


async def test_a_running_call_has_no_end(daemon: Daemon) -> None:
    """What says how a call ended is left out until then."""
    async with open_socket(daemon.url, "model=parrot"):
        [call] = await _list(daemon)
        assert {"ended_at", "result", "reason"} & call.keys() == set()
        assert call["key_id"] == "api"


async def test_a_key_sees_its_own_ended_calls(serve_with: ServeWith) -> None:
    """As with calls that run; the server's keys see all, and find a key's calls by its id."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        url = f"{daemon.url}v1/realtime/client_secrets"
        keys = [(await request("POST", url, headers=_AUTH)).json["value"] for _ in range(2)]
        ended = [await _open_and_hang_up(daemon, {"Authorization": f"Bearer {key}"}) for key in keys]
        for key, call_id in zip(keys, ended, strict=True):
            [call] = await _list(daemon, "?ended=1", {"Authorization": f"Bearer {key}"})
            assert call["id"] == call_id
            [found] = await _list(daemon, f"?ended=1&q={call['key_id']}", _AUTH)
            assert found["id"] == call_id
        assert len(await _list(daemon, "?ended=1", _AUTH)) == 2


async def test_as_many_as_the_setting_says(serve_with: ServeWith) -> None:
    """Or none."""
    async with serve_with(ended_calls=1) as daemon:
        last = [await _open_and_hang_up(daemon, {}) for _ in range(3)][-1]
        assert [call["id"] for call in await _list(daemon, "?ended=1")] == [last]
    async with serve_with(ended_calls=0) as daemon:
        await _open_and_hang_up(daemon, {})
        assert await _list(daemon, "?ended=1") == []


async def test_a_telephone_call_is_found(serve_with: ServeWith) -> None:
    """While it runs and afterwards: by its caller's number, its carrier's id, its own; by no other number."""
    async with serve_with(**SETTINGS) as daemon:
        where = dialling(daemon, "twilio", call="CA77", parameters={"from": "+49 30 123456", "to": "+15550001111"})
        async with calling(where) as caller:
            call_id = (await session_of(daemon, caller)).info.id
            for wanted in ("+4930123456", "030 123456", "ca77", call_id[4:], "127.0.0.1", "5550001111"):
                assert [call["id"] for call in await _list(daemon, f"?q={quote(wanted)}")] == [call_id], wanted
            assert [call["id"] for call in await _list(daemon, "?q=+4930123456")] == [call_id]  # a blank, in a URL
            assert await _list(daemon, "?q=030999") == []
            assert await _list(daemon, "?q=ca77&ended=1") == []
            daemon.registry.find(call_id).close("hangup")
            await caller.wait(lambda: not daemon.registry.sessions, "end of the call")
        assert [call["id"] for call in await _list(daemon, "?q=%2B4930123456&ended=1")] == [call_id]
        assert await _list(daemon, "?q=ca77") == []


@pytest.mark.parametrize(
    ("query", "param"), [("ended=2", "ended"), ("ended=true", "ended"), (f"q={'x' * 257}", "q"), ("ended=1&q=%00", "")]
)
async def test_what_cannot_be_asked(daemon: Daemon, query: str, param: str) -> None:
    """Refused by its name; whatever else is looked for is only not found."""
    reply = await request("GET", f"{daemon.url}v1/calls?{query}")
    if param:
        assert (reply.status, reply.json["error"]["param"]) == (400, param)
    else:
        assert (reply.status, reply.json["data"]) == (200, [])
