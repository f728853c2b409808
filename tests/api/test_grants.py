"""What minted keys may not do at the endpoints: another's call, too many calls, too many seats, a server that stops."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import EventSocket, Reply, open_socket, request
from tests.machine import scaled

_KEY = "sk-the-api-key-of-these-tests"
_PAGE = "https://app.example"


def _auth(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def _post(daemon: Daemon, path: str, body: Any = None, *, key: str = _KEY) -> Reply:
    fields = {"Content-Type": "application/json", **_auth(key)}
    return await request("POST", f"{daemon.url}{path}", headers=fields, body=json.dumps(body or {}))


async def _minted(daemon: Daemon, **caps: Any) -> str:
    return str((await _post(daemon, "v1/realtime/client_secrets", {"bridge": caps})).json["value"])


async def _refusal(daemon: Daemon, query: str, key: str) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused:
        async with open_socket(daemon.url, query, additional_headers=_auth(key)):
            pass
    return refused.value.response.status_code, json.loads(refused.value.response.body)["error"]["code"]


async def _open(stack: AsyncExitStack, daemon: Daemon, query: str, key: str, **options: Any) -> EventSocket:
    return await stack.enter_async_context(open_socket(daemon.url, query, additional_headers=_auth(key), **options))


async def test_agents_key_answers_the_call_that_it_is_for(serve_with: ServeWith) -> None:
    """A key for call A gets call A, asked for by its id or not; call B is as unknown to it as one that never was."""
    async with serve_with(api_key=(_KEY,), upstream="agent") as daemon, AsyncExitStack() as stack:
        first = await _open(stack, daemon, "model=m", _KEY, first=None)
        await _open(stack, daemon, "model=m", _KEY, first=None)
        a, b = [session.info.id for session in daemon.registry.sessions]
        key = await _minted(daemon, role="agent", call_id=a)
        assert await _refusal(daemon, f"role=agent&call_id={b}", key) == (404, "call_id_not_found")
        assert await _refusal(daemon, "role=agent&call_id=rtc_nobody", key) == (404, "call_id_not_found")
        agent = await _open(stack, daemon, "role=agent", key)
        assert agent.events[0]["session"]["id"] == a
        await first.until("session.created")
        await _open(stack, daemon, f"role=agent&call_id={a}", key, first=None)
        # The second one waits for call A, and call B's caller for somebody else.
        assert [session.info.id for session in daemon.registry.sessions if session.state.config.id == b] == [b]
        api = await _open(stack, daemon, f"role=agent&call_id={b}", _KEY)
        assert api.events[0]["session"]["id"] == b


async def test_agents_key_is_no_listeners(serve_with: ServeWith) -> None:
    """It neither listens to its call as anybody else does, nor steers, ends, lists or opens one."""
    async with serve_with(api_key=(_KEY,)) as daemon, AsyncExitStack() as stack:
        await _open(stack, daemon, "model=m", _KEY)
        call_id = daemon.registry.sessions[0].info.id
        key = await _minted(daemon, role="agent", call_id=call_id)
        for query in (f"call_id={call_id}", f"call_id={call_id}&role=controller", "", "model=m"):
            assert await _refusal(daemon, query, key) == (403, "forbidden")
        for method, path in (
            ("GET", "v1/calls"),
            ("GET", f"v1/calls/{call_id}"),
            ("DELETE", f"v1/realtime/calls/{call_id}"),
        ):
            assert (await request(method, daemon.url + path, headers=_auth(key))).status == 403


async def test_controllers_key_attaches_and_hangs_nothing_up(serve_with: ServeWith) -> None:
    """A key for somebody's call may attach to it and send events; only who opened it, and the server, hang it up."""
    async with serve_with(api_key=(_KEY,)) as daemon, AsyncExitStack() as stack:
        await _open(stack, daemon, "model=m", _KEY)
        call_id = daemon.registry.sessions[0].info.id
        key = await _minted(daemon, call_id=call_id)
        controller = await _open(stack, daemon, f"call_id={call_id}", key)
        path = f"v1/realtime/calls/{call_id}"
        for method, door in (("DELETE", path), ("POST", f"{path}/hangup")):
            reply = await request(method, daemon.url + door, headers=_auth(key))
            assert (reply.status, reply.json["error"]["code"]) == (403, "forbidden")
        update = {"type": "session.update", "session": {"type": "realtime", "instructions": "Sing."}}
        await controller.send(update)
        await controller.wait(lambda: bool(controller.of("session.updated")), "an answer")
        assert [session.info.id for session in daemon.registry.sessions] == [call_id]
        assert (await request("DELETE", daemon.url + path, headers=_auth(_KEY))).status == 200


async def test_agents_of_a_call_that_has_ended(serve_with: ServeWith) -> None:
    """Whoever waited for it alone is let go, and who comes later is refused: no seat is held for nothing."""
    async with serve_with(api_key=(_KEY,)) as daemon, AsyncExitStack() as stack:
        await _open(stack, daemon, "model=m", _KEY)
        [session] = daemon.registry.sessions
        key = await _minted(daemon, role="agent", call_id=session.info.id)
        waiting = await _open(stack, daemon, "role=agent", key, first=None)
        session.close("hangup")
        assert await waiting.close_code() == 1000
        assert await _refusal(daemon, "role=agent", key) == (404, "call_id_not_found")


async def test_seats_of_one_key(serve_with: ServeWith) -> None:
    """A key's agents are counted, waiting or talking; one more gets 429 until one leaves, other keys do not."""
    async with serve_with(api_key=(_KEY,), max_calls_per_key=2, upstream="agent") as daemon, AsyncExitStack() as stack:
        key, other = await _minted(daemon, role="agent"), await _minted(daemon, role="agent")
        first = await _open(stack, daemon, "role=agent", key, first=None)
        await _open(stack, daemon, "role=agent", key, first=None)
        assert await _refusal(daemon, "role=agent", key) == (429, "rate_limit_exceeded")
        for allowed in (other, _KEY, _KEY, _KEY):
            await _open(stack, daemon, "role=agent", allowed, first=None)
        await first.connection.close()
        await first.close_code()
        await _open(stack, daemon, "role=agent", key, first=None)


async def test_refused_agent_spends_no_key(serve_with: ServeWith) -> None:
    """A single use is a connection, not an attempt."""
    async with serve_with(api_key=(_KEY,), upstream="agent") as daemon:
        key = await _minted(daemon, role="agent", single_use=True)
        assert (await _refusal(daemon, "role=agent&call_id=rtc_nobody", key))[0] == 404
        async with open_socket(daemon.url, "role=agent", first=None, additional_headers=_auth(key)):
            assert (await _refusal(daemon, "role=agent", key))[0] == 401


async def test_calls_of_one_key(serve_with: ServeWith, offer: str) -> None:
    """A minted key has so many calls at a time, by offer or by socket; other keys and API keys are not concerned."""
    async with serve_with(api_key=(_KEY,), max_calls=8) as daemon, AsyncExitStack() as stack:
        key, other = await _minted(daemon), await _minted(daemon)
        await _open(stack, daemon, "model=m", key)
        second = await _open(stack, daemon, "model=m", key)
        assert await _refusal(daemon, "model=m", key) == (429, "too_many_calls")
        headers = {**_auth(key), "Content-Type": "application/sdp"}
        reply = await request("POST", f"{daemon.url}v1/realtime/calls", headers=headers, body=offer)
        assert (reply.status, reply.json["error"]["code"]) == (429, "too_many_calls")
        assert int(reply.headers["retry-after"]) > 0
        for allowed in (other, _KEY, _KEY, _KEY):
            await _open(stack, daemon, "model=m", allowed)
        await second.connection.close()
        await second.close_code()
        await _open(stack, daemon, "model=m", key)


async def test_slots_that_are_kept_for_api_keys(serve_with: ServeWith) -> None:
    """However many minted keys there are, together they leave room for the operator's own calls."""
    async with serve_with(api_key=(_KEY,), max_calls=3, reserved_calls=1) as daemon, AsyncExitStack() as stack:
        for _ in range(2):
            await _open(stack, daemon, "model=m", await _minted(daemon))
        assert await _refusal(daemon, "model=m", await _minted(daemon)) == (429, "too_many_calls")
        await _open(stack, daemon, "model=m", _KEY)
        assert await _refusal(daemon, "model=m", _KEY) == (429, "too_many_calls")


async def test_no_key_is_minted_by_a_server_that_stops(serve_with: ServeWith) -> None:
    """Every endpoint that gives keys answers like one that takes calls: 503, and when to come back."""
    settings = {"allow_origin": (_PAGE,), "page_keys": True, "audiosocket_port": 0}
    async with serve_with(api_key=(_KEY,), **settings) as daemon:
        daemon.registry.stop_accepting()
        for path in (
            "v1/realtime/client_secrets",
            "v1/realtime/sessions",
            "v1/realtime/transcription_sessions",
            "v1/telephony/audiosocket",
        ):
            reply = await _post(daemon, path)
            assert (reply.status, reply.json["error"]["code"]) == (503, "server_draining"), path
            assert int(reply.headers["retry-after"]) > 0
            assert (await _post(daemon, path, key="wrong")).status == 401
        reply = await request("GET", f"{daemon.url}session", headers={"Origin": _PAGE})
        assert (reply.status, reply.json["error"]["code"]) == (503, "server_draining")


async def test_owner_that_never_said_anything_is_not_waited_for(serve_with: ServeWith) -> None:
    """Its broken connection frees its slot at once; that of an owner who has spoken is kept for it."""
    async with serve_with(resume_grace_s=30) as daemon:
        async with open_socket(daemon.url, "model=m") as silent:
            [session] = daemon.registry.sessions
            silent.connection.transport.abort()
            await asyncio.wait_for(session.lifetime.closed.wait(), scaled(10))
        assert daemon.registry.sessions == []
        async with open_socket(daemon.url, "model=m") as spoken:
            [session] = daemon.registry.sessions
            await spoken.send({"type": "session.update", "session": {"type": "realtime", "instructions": "Hm."}})
            await spoken.until("session.updated")
            async with open_socket(daemon.url, f"call_id={session.info.id}&events=bridge") as listener:
                spoken.connection.transport.abort()
                await listener.until("bridge.call.lost")
            assert daemon.registry.sessions == [session]
