"""A carrier's API is asked to do something with a call only if the connection has proved that it is this call."""

import asyncio
import importlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.client.carriers.dialling import SocketWire, open_socket
from bridge.daemon import Daemon
from bridge.session.session import Session
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import request
from tests.machine import scaled
from tests.telephony.calling import gone, new_token, opened, until
from tests.telephony.fake_api import FakeApi
from tests.telephony.rows import SETTINGS
from tests.telephony.test_rest_hang_up import WAYS, Way

_LIMIT_S = scaled(5.0)
_VICTIMS, _OWN = "victims-call", "own-call"
_TELNYX = Way(carrier="telnyx", settings={"telnyx_api_key": "KEY"}, line="POST /calls/call%2F1/actions/hangup HTTP/1.1")
_HUNG_UP_BY_API = [*WAYS, _TELNYX]


def _start(carrier: str, call: str) -> str:
    """The message by which this carrier says that a call with this id has begun."""
    mulaw = {"encoding": "audio/x-mulaw", "sampleRate": 8000}
    pcmu = {"encoding": "PCMU", "sample_rate": 8000}
    l16 = {"event": "websocket:connected", "content-type": "audio/l16;rate=16000"}
    metadata = {"subscriptionId": "s", "encoding": "PCM", "sampleRate": 16000, "channels": 1, "length": 640}
    starts: dict[str, Any] = {
        "telnyx": {"event": "start", "stream_id": "s", "start": {"call_control_id": call, "media_format": pcmu}},
        "plivo": {"event": "start", "start": {"callId": call, "streamId": "s", "mediaFormat": mulaw}},
        "vonage": {**l16, "uuid": call},
        "infobip": {**l16, "callId": call},
        "bandwidth": {"eventType": "start", "metadata": {"callId": call, "streamId": "s"}},
        "acs": {"kind": "AudioMetadata", "audioMetadata": metadata},
        "jambonz": {"callSid": call, "sampleRate": 8000},
    }
    return json.dumps(starts["plivo" if carrier == "vobiz" else carrier])


@asynccontextmanager
async def _line(daemon: Daemon, carrier: str, key: str, call: str) -> AsyncIterator[SocketWire]:
    """A connection that shows a telephone's key, and says that it is this call."""
    url = f"{daemon.url.replace('http', 'ws', 1)}v1/telephony/{carrier}?token={key}"
    headers = {"Authorization": f"Bearer {key}", "x-ms-call-connection-id": call}
    wire = await open_socket(url, headers=headers)
    await wire.send_messages([_start(carrier, call)])
    try:
        yield wire
    finally:
        await wire.close()


async def _hang_up(daemon: Daemon, session: Session) -> None:
    await request("DELETE", f"{daemon.url}v1/realtime/calls/{session.info.id}")
    await gone(daemon)


@asynccontextmanager
async def _serving(serve_with: ServeWith, way: Way, api: FakeApi) -> AsyncIterator[Daemon]:
    settings = SETTINGS | way.settings
    with pytest.MonkeyPatch.context() as patch:
        if way.url_setting:
            settings[way.url_setting] = api.url
        else:
            module = importlib.import_module(f"bridge.telephony.{way.carrier}.carrier")
            patch.setattr(module, "_API", api.url)
            patch.setattr(module, "_TOKEN_URL", f"{api.url}/oauth2/token", raising=False)
        async with serve_with(**settings) as daemon:
            yield daemon


@pytest.mark.parametrize("way", _HUNG_UP_BY_API, ids=lambda way: way.carrier)
async def test_a_telephones_key_ends_no_call_of_somebody_else(serve_with: ServeWith, way: Way) -> None:
    """Whoever has such a key may write any id into the start; the API is asked for the key's own call alone."""
    async with FakeApi(204).serving() as api, _serving(serve_with, way, api) as daemon:
        for key in (new_token(daemon), new_token(daemon, _OWN)):
            async with _line(daemon, way.carrier, key, _VICTIMS):
                session = await opened(daemon)
                with capture_logs() as lines:
                    await _hang_up(daemon, session)
                [told] = [line for line in lines if line["event"] == "telephony.hang_up_left_out"]
                assert (told["carrier_call_id"], told["call_id"]) == (_VICTIMS, session.info.id)
        async with _line(daemon, way.carrier, new_token(daemon, _OWN), _OWN):
            await _hang_up(daemon, await opened(daemon))
            await until(daemon, lambda: bool(api.requests), "hang-up")
    assert [line for line, _, _ in api.requests] == [way.line.replace("call%2F1", _OWN)]


async def test_a_telephones_key_transfers_no_call_of_somebody_else(serve_with: ServeWith) -> None:
    """It is refused without a request to the carrier, says what is missing, and leaves the call as it was."""
    async with FakeApi(200).serving() as api, _serving(serve_with, _TELNYX, api) as daemon:
        async with _line(daemon, "telnyx", new_token(daemon), _VICTIMS):
            call_id = (await opened(daemon)).info.id
            url, body = f"{daemon.url}v1/realtime/calls/{call_id}/refer", '{"target_uri":"tel:+15550003333"}'
            refused = await request("POST", url, body=body)
            assert (refused.status, refused.json["error"]["code"]) == (400, "refer_unsupported")
            assert "carrier_call_id" in refused.json["error"]["message"]
            assert [session.info.id for session in daemon.registry.sessions] == [call_id]
    assert api.requests == []


async def test_the_api_makes_keys_for_a_call(serve_with: ServeWith) -> None:
    """``bridge.carrier_call_id`` names it, as the application learned it by its own webhook."""
    async with FakeApi(204).serving() as api, _serving(serve_with, _TELNYX, api) as daemon:
        body = json.dumps({"bridge": {"role": "telephone", "carrier_call_id": _OWN}})
        made = await request("POST", f"{daemon.url}v1/realtime/client_secrets", body=body)
        async with _line(daemon, "telnyx", made.json["value"], _OWN):
            await _hang_up(daemon, await opened(daemon))
            await until(daemon, lambda: bool(api.requests), "hang-up")
        body = json.dumps({"bridge": {"role": "telephone", "carrier_call_id": ""}})
        refused = await request("POST", f"{daemon.url}v1/realtime/client_secrets", body=body)
        assert (refused.status, refused.json["error"]["param"]) == (400, "bridge.carrier_call_id")


@pytest.mark.parametrize("incoming_wait", [(), ("*",)], ids=["answered", "waiting"])
async def test_a_claimed_id_keeps_nobody_out(serve_with: ServeWith, incoming_wait: tuple[str, ...]) -> None:
    """Whoever took a call's id with any key before the call came gets nothing of it: the call is another one."""
    async with serve_with(**SETTINGS, incoming_wait=incoming_wait, api_key=("k",)) as daemon:
        calls = daemon.telephony.calls

        def there() -> int:
            return calls.running["telnyx"] + calls.waiting["telnyx"]

        async with _line(daemon, "telnyx", new_token(daemon), "call-1") as thief:
            await until(daemon, lambda: there() == 1, "claim")
            claimed = [session.info.id for session in daemon.registry.sessions]
            async with _line(daemon, "telnyx", new_token(daemon, "call-1"), "call-1"):
                async with asyncio.timeout(_LIMIT_S):
                    while await thief.receive_message() is not None:
                        pass
                await until(daemon, lambda: there() == 1, "call")
                assert [session.info.id for session in daemon.registry.sessions if session.info.id in claimed] == []
                async with _line(daemon, "telnyx", new_token(daemon), "call-1") as again:
                    async with asyncio.timeout(_LIMIT_S):
                        while await again.receive_message() is not None:
                            pass
                assert there() == 1
        assert calls.refused == {"telnyx.call_taken": 1}


async def test_a_claimed_id_that_was_hung_up_is_still_taken(serve_with: ServeWith) -> None:
    """A carrier that dials again is refused after a hang-up; not because of a call that only claimed its id."""
    async with serve_with(**SETTINGS) as daemon:
        for key, count in ((new_token(daemon), 0), (new_token(daemon, "call-1"), 0), (new_token(daemon, "call-1"), 1)):
            async with _line(daemon, "plivo", key, "call-1") as wire:
                if count:
                    async with asyncio.timeout(_LIMIT_S):
                        while await wire.receive_message() is not None:
                            pass
                else:
                    await _hang_up(daemon, await opened(daemon))
            assert daemon.telephony.calls.refused["plivo.call_over"] == count
