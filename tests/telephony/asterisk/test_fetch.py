"""The other way round: a channel waits in Asterisk, and the bridge connects to it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from bridge.client.carriers.asterisk import AsteriskCarrier
from bridge.client.carriers.dialling import SocketWire
from bridge.client.phone import Phone
from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.sound import match, resample, samples_of
from tests.end_to_end.web import Reply, open_socket, request
from tests.machine import scaled
from tests.telephony.calling import Caller, gone

_ID = "32966726-4388-456b-a333-fdf5dbecc60d"
_LIMIT_S = scaled(5.0)


class _Pbx:
    """Asterisk's HTTP server with one channel dialled as ``WebSocket/INCOMING``."""

    def __init__(self, *, starts: bool = True) -> None:
        self.url = ""
        self.callers: list[Caller] = []
        self.requests: list[Request] = []
        self._starts = starts

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """404 for an id that nobody dialled, 409 for one that is connected."""
        self.requests.append(request)
        if request.path != f"/media/{_ID}":
            return connection.respond(HTTPStatus.NOT_FOUND, "")
        return connection.respond(HTTPStatus.CONFLICT, "") if self.callers else None

    async def answer(self, connection: ServerConnection) -> None:
        """The channel, with its caller."""
        carrier = AsteriskCarrier("pbx-1.42", codec="slin16")
        wire: Any = connection
        phone = Phone(carrier, SocketWire(wire))
        caller = Caller(phone)
        self.callers.append(caller)
        if not self._starts:
            await connection.close()
            return
        await phone.wire.send_messages(carrier.opening_messages())
        async with asyncio.TaskGroup() as tasks:
            living = tasks.create_task(caller.live())
            await phone.read()
            living.cancel()


@asynccontextmanager
async def _asterisk(serve_with: ServeWith, **choices: Any) -> AsyncIterator[tuple[_Pbx, Daemon]]:
    pbx = _Pbx(**choices)
    options: Any = {"process_request": pbx.check, "subprotocols": ["media"], "ping_interval": None}
    async with serve(pbx.answer, "127.0.0.1", 0, **options) as server:
        [listening] = server.sockets
        pbx.url = f"ws://127.0.0.1:{listening.getsockname()[1]}/media"
        async with serve_with(asterisk_url=pbx.url) as daemon:
            yield pbx, daemon


async def _fetch(daemon: Daemon, **body: Any) -> Reply:
    return await request("POST", f"{daemon.url}v1/telephony/asterisk", body=json.dumps(body))


@pytest.mark.slow
async def test_a_waiting_channel_becomes_a_call(serve_with: ServeWith, short_pcm: bytes) -> None:
    """With an id for listeners and the session that was asked for; plain text is answered in kind."""
    async with _asterisk(serve_with) as (pbx, daemon):
        session = {"type": "realtime", "instructions": "Be brief."}
        reply = await _fetch(daemon, connection_id=_ID, session=session)
        call_id = reply.json["id"]
        assert (reply.status, reply.headers["location"]) == (201, f"/v1/realtime/calls/{call_id}")
        [caller] = pbx.callers
        async with open_socket(daemon.url, f"call_id={call_id}") as listener:
            assert listener.events[0]["session"]["instructions"] == "Be brief."
            caller.say(short_pcm)
            await caller.hear_answer()
            assert (await request("DELETE", f"{daemon.url}v1/realtime/calls/{call_id}")).status == 200
            assert await listener.close_code() == 1000
            await asyncio.wait_for(caller.phone.ended.wait(), _LIMIT_S)
    assert caller.phone.carrier.has_hung_up
    assert caller.phone.carrier.complaints == []
    assert match(caller.heard, resample(samples_of(short_pcm), 24_000, 16_000)).correlation > 0.95


async def test_what_asterisk_is_asked(serve_with: ServeWith) -> None:
    """The subprotocol ``media``, and no extension, which it would fail on."""
    async with _asterisk(serve_with) as (pbx, daemon):
        await _fetch(daemon, connection_id=_ID)
        [asked] = pbx.requests
        assert asked.headers["Sec-WebSocket-Protocol"] == "media"
        assert "Sec-WebSocket-Extensions" not in asked.headers


async def test_caller_hangs_up(serve_with: ServeWith) -> None:
    """Asterisk closes, and the session is over."""
    async with _asterisk(serve_with) as (pbx, daemon):
        await _fetch(daemon, connection_id=_ID)
        assert len(daemon.registry.sessions) == 1
        await pbx.callers[0].phone.hang_up()
        await gone(daemon)


@pytest.mark.parametrize("connection_id", ["other", _ID])
async def test_asterisk_refuses(serve_with: ServeWith, connection_id: str) -> None:
    """An id that it does not know, or one that is connected already: 502, with its status."""
    async with _asterisk(serve_with) as (_, daemon):
        await _fetch(daemon, connection_id=_ID)
        reply = await _fetch(daemon, connection_id=connection_id)
        assert (reply.status, reply.json["error"]["code"]) == (502, "carrier_refused")
        assert ("404" if connection_id == "other" else "409") in reply.json["error"]["message"]


async def test_channel_that_starts_no_call(serve_with: ServeWith) -> None:
    """Is an error of the request, not a call that waits for ever."""
    async with _asterisk(serve_with, starts=False) as (_, daemon):
        reply = await _fetch(daemon, connection_id=_ID)
        assert (reply.status, reply.json["error"]["code"]) == (502, "no_call")


async def test_asterisk_is_not_there(serve_with: ServeWith) -> None:
    """502 as well."""
    async with serve_with(asterisk_url="ws://127.0.0.1:9/media") as daemon:
        reply = await _fetch(daemon, connection_id=_ID)
        assert (reply.status, reply.json["error"]["code"]) == (502, "carrier_unreachable")


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "connection_id"), ({"connection_id": "../ari"}, "connection_id"), ({"connection_id": ""}, "connection_id")],
)
async def test_request_is_checked(serve_with: ServeWith, body: dict[str, Any], param: str) -> None:
    """An id cannot lead elsewhere on Asterisk's server."""
    async with serve_with(asterisk_url="ws://127.0.0.1:9/media") as daemon:
        reply = await _fetch(daemon, **body)
        assert (reply.status, reply.json["error"]["param"]) == (400, param)
