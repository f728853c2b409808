"""Telnyx calls that the bridge ends are hung up by its API: closing a stream is not enough there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.daemon import Daemon
from bridge.telephony import hang_up
from bridge.telephony.telnyx import carrier
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import request
from tests.machine import scaled
from tests.telephony.calling import Caller, calling, dialling, gone, session_of, until
from tests.telephony.rows import SETTINGS

_CALL = "v3:abc/1"
_REQUEST = "POST /v2/calls/v3%3Aabc%2F1/actions/hangup HTTP/1.1"
_LIMIT_S = scaled(5.0)


class _Api:
    """Answers each request with the next status; the last one stays."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._statuses = list(statuses)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["_Api"]:
        """On a port of its own, where the bridge looks for it."""
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(carrier, "_API", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2")
                yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        await reader.readexactly(int(fields.get("content-length", "0")))
        self.requests.append((head[0], fields))
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def _call(serve_with: ServeWith) -> AsyncIterator[tuple[Daemon, Caller]]:
    async with serve_with(**SETTINGS, telnyx_api_key="KEY-1") as daemon:
        async with calling(dialling(daemon, "telnyx", call=_CALL)) as caller:
            await session_of(daemon, caller)
            yield daemon, caller


async def _end(daemon: Daemon) -> None:
    [session] = daemon.registry.sessions
    await request("DELETE", f"{daemon.url}v1/realtime/calls/{session.info.id}")


async def _failures(daemon: Daemon) -> int:
    return int((await request("GET", f"{daemon.url}v1/telephony")).json["hang_ups_failed"])


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hang_up, "_PAUSE_S", 0.0)


async def test_a_call_that_the_bridge_ends_is_hung_up(serve_with: ServeWith) -> None:
    """Once, with the account's key; whatever characters the call's id has."""
    async with _Api(200).serving() as api, _call(serve_with) as (daemon, caller):
        await _end(daemon)
        await until(daemon, lambda: bool(api.requests), "hang-up")
        await asyncio.wait_for(caller.phone.ended.wait(), _LIMIT_S)
    [(line, fields)] = api.requests
    assert line == _REQUEST
    assert fields["authorization"] == "bearer key-1"


async def test_a_call_that_the_caller_ends_is_not(serve_with: ServeWith) -> None:
    """It is over; and a stream that its application stopped may go on elsewhere."""
    async with _Api(200).serving() as api:
        async with _call(serve_with) as (daemon, caller):
            await caller.phone.hang_up()
            await gone(daemon)
        assert api.requests == []


async def test_it_is_hung_up_at_the_end_of_the_daemon(serve_with: ServeWith) -> None:
    """No caller is left behind in silence."""
    async with _Api(200).serving() as api:
        async with serve_with(**SETTINGS, telnyx_api_key="KEY-1") as daemon:
            context = calling(dialling(daemon, "telnyx", call=_CALL))
            caller = await context.__aenter__()
            await session_of(daemon, caller)
        assert [line for line, _ in api.requests] == [_REQUEST]
        await context.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("statuses", "tries", "failures"),
    [((404,), 1, 0), ((422,), 1, 0), ((503, 200), 2, 0), ((500,), 3, 1), ((429, 429, 200), 3, 0), ((401,), 1, 1)],
)
async def test_answers(serve_with: ServeWith, statuses: tuple[int, ...], tries: int, failures: int) -> None:
    """A call that is not there any more is what was wanted; what may pass is tried again; a failure is counted."""
    async with _Api(*statuses).serving() as api, _call(serve_with) as (daemon, _):
        await _end(daemon)
        await until(daemon, lambda: len(api.requests) == tries, "tries")
        while await _failures(daemon) < failures:
            pass
        assert len(api.requests) == tries
        assert await _failures(daemon) == failures


async def test_api_that_is_not_there(serve_with: ServeWith, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is counted, and the call's end does not wait for it."""
    monkeypatch.setattr(carrier, "_API", "http://127.0.0.1:9/v2")
    async with _call(serve_with) as (daemon, caller):
        await _end(daemon)
        await asyncio.wait_for(caller.phone.ended.wait(), _LIMIT_S)
        while await _failures(daemon) < 1:
            pass
