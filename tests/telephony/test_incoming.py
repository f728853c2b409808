"""Telephone calls that wait for the application: told by a webhook, and decided by a stock SDK."""

import asyncio
import contextlib
import importlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import openai
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from openai.types.webhooks import RealtimeCallIncomingWebhookEvent
from structlog.testing import capture_logs

from bridge.config.answering import NamedUpstream
from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled
from tests.observe.receiver import SECRET, Receiver
from tests.sdk.live import MODEL, live_listening
from tests.settings import config_for_tests
from tests.telephony.calling import Caller, calling, dialling, figures, gone, opened
from tests.telephony.fake_api import FakeApi
from tests.telephony.rows import ROWS, SETTINGS, rows_that
from tests.upstream.live_service import LiveService

_LIMIT_S = scaled(15.0)
_PEM = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
_NUMBERS = {"from": "+15550001111", "to": "+15550002222"}


class House:
    """A daemon whose telephone calls wait, the application that is told of them, and its SDK."""

    def __init__(self, daemon: Daemon, receiver: Receiver) -> None:
        self.daemon = daemon
        self.receiver = receiver
        self.sdk = openai.AsyncOpenAI(api_key="any", base_url=f"{daemon.url}v1", max_retries=0)

    async def incoming(self, number: int = 1) -> RealtimeCallIncomingWebhookEvent:
        """The call that waits, as the stock SDK reads its webhook."""
        event = (await self.receiver.until(number))[number - 1]
        assert isinstance(event, RealtimeCallIncomingWebhookEvent)
        return event

    async def outcomes(self, carrier: str) -> dict[str, float]:
        """How many calls of the carrier had which end, by the metrics; those that none had are left out."""
        text = (await request("GET", f"{self.daemon.url}metrics")).body.decode()
        found = {}
        for line in text.splitlines():
            if line.startswith(f'bridge_incoming_calls_total{{carrier="{carrier}",') and not line.endswith(" 0.0"):
                found[line.partition('outcome="')[2].partition('"')[0]] = float(line.rpartition(" ")[2])
        return found

    async def waiting(self) -> int:
        """How many calls wait."""
        endpoints = (await request("GET", f"{self.daemon.url}v1/telephony")).json["endpoints"]
        return sum(carrier["waiting"] for carrier in endpoints.values())


@asynccontextmanager
async def _house(serve_with: ServeWith, folder: Path, **settings: Any) -> AsyncIterator[House]:
    async with Receiver.receiving() as receiver:
        hooks = {
            "webhook_url": (receiver.url,),
            "webhook_secret": (SECRET,),
            "webhook_queue": str(folder / "hooks.db"),
            "webhook_private": True,
        }
        async with serve_with(**{**SETTINGS, **hooks, "incoming_wait": ("*",), **settings}) as daemon:
            house = House(daemon, receiver)
            async with house.sdk:
                yield house


async def _ended(caller: Caller) -> None:
    async with asyncio.timeout(_LIMIT_S):
        await caller.phone.ended.wait()


async def test_a_call_is_accepted_by_the_stock_sdk(serve_with: ServeWith, tmp_path: Path, short_pcm: bytes) -> None:
    """It is told with who calls whom; nobody answers before it is accepted; then it is a call as the SDK wants it."""
    async with _house(serve_with, tmp_path) as house:
        where = dialling(house.daemon, "twilio", call="CA1", parameters={**_NUMBERS, "tier": "gold"})
        async with calling(where) as caller:
            event = await house.incoming()
            headers = {header.name: header.value for header in event.data.sip_headers}
            assert headers == {"From": _NUMBERS["from"], "To": _NUMBERS["to"], "Call-ID": "CA1", "X-tier": "gold"}
            assert house.daemon.registry.sessions == []
            assert await house.waiting() == 1
            call_id = event.data.call_id
            await house.sdk.realtime.calls.accept(
                call_id,
                type="realtime",
                model="gpt-realtime-2.1",
                instructions="Be brief.",
                audio={"output": {"speed": 1}},
            )
            assert await house.waiting() == 0
            async with house.sdk.realtime.connect(extra_query={"call_id": call_id}) as sideband:
                created: Any = await sideband.recv()
                assert created.session.instructions == "Be brief."
                assert created.session.audio.input.format.type == "audio/pcmu"
                caller.say(short_pcm)
                await caller.hear_answer()
                assert caller.likeness(short_pcm) > 0.5
                await house.sdk.realtime.calls.hangup(call_id)
            await _ended(caller)
        kinds = [told.type for told in await house.receiver.until(3)]
        assert kinds == ["realtime.call.incoming", "call.opened", "call.closed"]
        assert await house.outcomes("twilio") == {"accepted": 1}
        assert caller.phone.carrier.complaints == []


async def test_a_live_client_answers_a_call(serve_with: ServeWith, tmp_path: Path, short_pcm: bytes) -> None:
    """It accepts the call with a Live session, follows it by a sideband, and ends it; another call it rejects."""
    session: Any = {"type": "live", "model": MODEL, "delegation": {"type": "responses", "responses": {"model": "m"}}}
    stored: Any = {**session, "store": True}
    async with _house(serve_with, tmp_path) as house:
        live = house.sdk.live
        async with calling(dialling(house.daemon, "twilio", call="CA1")) as caller:
            call_id = (await house.incoming()).data.call_id
            with pytest.raises(openai.BadRequestError) as refused:
                await live.sessions.accept(call_id, session=stored)
            assert refused.value.param == "session.store"
            assert await house.waiting() == 1
            await live.sessions.accept(call_id, session=session)
            async with live.sideband.connect(session_id=call_id) as connection:
                async with live_listening(connection, is_sideband=True) as sideband:
                    started = await sideband.until("session.started")
                    caller.say(short_pcm)
                    await caller.hear_answer()
                    await sideband.until("session.output_transcript.delta")
                    await live.sessions.hangup(call_id)
                    closed = await sideband.until("session.closed")
            await _ended(caller)
            assert caller.likeness(short_pcm) > 0.5
        await house.receiver.until(3)  # webhooks of two calls may come in any order
        async with calling(dialling(house.daemon, "twilio", call="CA2")) as caller:
            await live.sessions.reject((await house.incoming(4)).data.call_id, status_code=486)
            await _ended(caller)
        assert await house.outcomes("twilio") == {"accepted": 1, "rejected": 1}
    assert (started["session"]["id"], closed["session"]["id"]) == (call_id, call_id)
    assert closed["reason"] == "close_requested"
    assert sideband.of("session.input_audio.append")


@pytest.mark.parametrize("who", ["engine", "live_service"])
async def test_a_live_client_sends_and_is_told_keys(
    serve_with: ServeWith, tmp_path: Path, short_pcm: bytes, who: str
) -> None:
    """Keys are between the telephone and the sideband, whoever answers: a Live service knows of no telephone here."""
    session: Any = {"type": "live", "model": MODEL}
    async with LiveService.serving() as service:
        theirs = NamedUpstream(kind="live", url=service.socket_url, key="sk-theirs", models=(MODEL,))
        given: dict[str, Any] = {"upstreams": {"theirs": theirs}} if who == "live_service" else {}
        async with _house(serve_with, tmp_path, **given) as house:
            live = house.sdk.live
            async with calling(dialling(house.daemon, "plivo")) as caller:
                call_id = (await house.incoming()).data.call_id
                await live.sessions.accept(call_id, session=session)
                beside = live.sideband.connect(session_id=call_id)
                async with beside as connection, live_listening(connection, is_sideband=True) as sideband:
                    await sideband.until("session.started")
                    await connection.send({"type": "transport.dtmf.send", "event": "5", "event_id": "five"})
                    sent = await sideband.until("transport.dtmf.sent")
                    player: Any = caller.phone.carrier
                    await caller.wait(lambda: player.keys == "5", "the key")
                    await connection.send({"type": "transport.dtmf.send", "event": "55", "event_id": "two"})
                    error = (await sideband.until("error"))["error"]
                    await caller.phone.press("7")
                    received = await sideband.until("transport.dtmf.received")
        for model in service.models:
            assert [event for event in model.events if event["type"].startswith("transport.")] == []
        assert len(service.models) == (who == "live_service")
    assert (sent["event"], sent["client_event_id"], received["event"]) == ("5", "five", "7")
    assert (error["code"], error["param"], error["client_event_id"]) == ("invalid_value", "event", "two")


@pytest.mark.parametrize("carrier", sorted(ROWS))
async def test_a_call_is_rejected_by_the_stock_sdk(serve_with: ServeWith, tmp_path: Path, carrier: str) -> None:
    """The caller's leg ends, whatever its carrier's way is; no session was ever there, and the place is free again."""
    async with _house(serve_with, tmp_path, max_calls=1) as house:
        for number in (1, 2):
            async with calling(dialling(house.daemon, carrier, call=f"call-{number}")) as caller:
                event = await house.incoming(number)
                await house.sdk.realtime.calls.reject(event.data.call_id, status_code=486)
                await _ended(caller)
            assert caller.phone.carrier.complaints == []
            assert caller.sounding == []
        with pytest.raises(openai.NotFoundError):
            await house.sdk.realtime.calls.accept(event.data.call_id, type="realtime")
        assert await house.outcomes(ROWS[carrier].transport) == {"rejected": 2}
        assert len(house.receiver.taken) == 2


@pytest.mark.parametrize("carrier", rows_that(has_buffer=False))
async def test_a_carrier_that_wants_sound_all_the_time_gets_silence(
    serve_with: ServeWith, tmp_path: Path, carrier: str
) -> None:
    """Until the call is accepted, and then the same connection goes on."""
    async with _house(serve_with, tmp_path) as house, calling(dialling(house.daemon, carrier)) as caller:
        event = await house.incoming()
        before = caller.phone.messages
        if carrier == "audiosocket":
            await caller.wait(lambda: caller.phone.messages > before + 10, "silence")
        await house.sdk.realtime.calls.accept(event.data.call_id, type="realtime")
        session = await opened(house.daemon)
        await caller.wait(lambda: figures(session)["messages"] > 10, "the caller's sound")


async def test_nobody_decides(serve_with: ServeWith, tmp_path: Path) -> None:
    """After `incoming_wait_s` the caller is hung up."""
    async with _house(serve_with, tmp_path, incoming_wait_s=1.0) as house:
        async with calling(dialling(house.daemon, "asterisk")) as caller:
            await house.incoming()
            await _ended(caller)
        assert await house.outcomes("asterisk") == {"expired": 1}
        assert await house.waiting() == 0


@pytest.mark.parametrize("carrier", ["twilio", "genesys", "audiosocket"])
async def test_the_caller_hangs_up_first(serve_with: ServeWith, tmp_path: Path, carrier: str) -> None:
    """There is nothing left to accept."""
    async with _house(serve_with, tmp_path) as house:
        async with calling(dialling(house.daemon, carrier)):
            event = await house.incoming()
        async with asyncio.timeout(_LIMIT_S):
            while await house.waiting():
                pass
        with pytest.raises(openai.NotFoundError):
            await house.sdk.realtime.calls.accept(event.data.call_id, type="realtime")
        assert await house.outcomes(carrier) == {"caller_hung_up": 1}


async def test_the_application_hangs_up(serve_with: ServeWith, tmp_path: Path) -> None:
    """A call that waits can be ended as one that runs."""
    async with _house(serve_with, tmp_path) as house:
        async with calling(dialling(house.daemon, "jambonz")) as caller:
            await house.sdk.realtime.calls.hangup((await house.incoming()).data.call_id)
            await _ended(caller)
        assert await house.outcomes("jambonz") == {"hung_up": 1}


async def test_a_session_that_is_wrong_leaves_the_call_waiting(serve_with: ServeWith, tmp_path: Path) -> None:
    """It is refused as everywhere, naming the field, and can be accepted with another one; once."""
    async with _house(serve_with, tmp_path) as house, calling(dialling(house.daemon, "twilio")):
        call_id = (await house.incoming()).data.call_id
        wrong: Any = {"output": {"speed": 9}}
        with pytest.raises(openai.BadRequestError) as refused:
            await house.sdk.realtime.calls.accept(call_id, type="realtime", audio=wrong)
        assert refused.value.param == "body.audio.output.speed"
        assert await house.waiting() == 1
        await house.sdk.realtime.calls.accept(call_id, type="realtime")
        for again in (
            house.sdk.realtime.calls.accept(call_id, type="realtime"),
            house.sdk.realtime.calls.reject(call_id),
        ):
            with pytest.raises(openai.BadRequestError) as late:
                await again
            assert late.value.code == "call_not_waiting"
        for body in ({"status_code": 200}, {"status_code": "busy"}):
            answer = await request(
                "POST", f"{house.daemon.url}v1/realtime/calls/{call_id}/reject", body=json.dumps(body)
            )
            assert (answer.status, answer.json["error"]["param"]) == (400, "status_code")


async def test_a_call_that_waits_has_its_place(serve_with: ServeWith, tmp_path: Path) -> None:
    """One more call than there may be is refused meanwhile; keys of clients decide nothing."""
    async with _house(serve_with, tmp_path, max_calls=1, api_key=("key",)) as house:
        sdk = house.sdk.with_options(api_key="key")
        async with calling(dialling(house.daemon, "twilio")) as caller:
            call_id = (await house.incoming()).data.call_id
            path = f"{house.daemon.url}v1/realtime/client_secrets"
            key = (await request("POST", path, headers={"Authorization": "Bearer key"}, body="{}")).json["value"]
            client = house.sdk.with_options(api_key=key)
            for wrong in (
                client.realtime.calls.accept(call_id, type="realtime"),
                client.realtime.calls.reject(call_id),
            ):
                with pytest.raises(openai.PermissionDeniedError):
                    await wrong
            with pytest.raises(openai.NotFoundError):
                await client.realtime.calls.hangup(call_id)
            with pytest.raises(Exception, match="429"):
                async with open_socket(
                    house.daemon.url, "model=any", additional_headers={"Authorization": "Bearer key"}
                ):
                    pass
            await sdk.realtime.calls.reject(call_id)
            await _ended(caller)


async def test_only_the_carriers_that_are_named_wait(serve_with: ServeWith, tmp_path: Path) -> None:
    """Others are answered at once, and so is a call that the application has fetched itself."""
    async with _house(serve_with, tmp_path, incoming_wait=("telnyx",)) as house:
        async with calling(dialling(house.daemon, "twilio")):
            await opened(house.daemon)
            assert await house.waiting() == 0
        await gone(house.daemon)
        async with calling(dialling(house.daemon, "telnyx")):
            async with asyncio.timeout(_LIMIT_S):
                while not await house.waiting():
                    pass
            assert house.daemon.registry.sessions == []


async def test_a_closed_carrier_that_is_waited_for_is_told(serve_with: ServeWith) -> None:
    """At the start and at a reload: no call of it can come. `*` means those that are open."""
    with capture_logs() as lines:
        async with serve_with(incoming_wait=("twilio", "telnyx"), telnyx_secret=("s",)) as daemon:
            daemon.telephony.apply(config_for_tests(incoming_wait=("acs", "telnyx")).telephony, (), queue_limit_s=600)
        async with serve_with(incoming_wait=("*",)):
            pass
    told = [line["carrier"] for line in lines if line["event"] == "telephony.waits_for_closed"]
    assert told == ["twilio", "telnyx", "acs"]


async def test_the_daemon_stops(serve_with: ServeWith, tmp_path: Path) -> None:
    """Who waits is hung up."""
    async with _house(serve_with, tmp_path) as house:
        caller_context = calling(dialling(house.daemon, "asterisk"))
        caller = await caller_context.__aenter__()
        await house.incoming()
    await _ended(caller)
    await caller_context.__aexit__(None, None, None)


# Transfers

_WAYS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "twilio": (
        {"twilio_account_sid": "AC1"},
        "POST /Accounts/AC1/Calls/call%2F1.json HTTP/1.1",
        {"Twiml": ["<Response><Dial><Number>+15550003333</Number></Dial></Response>"]},
    ),
    "acs": (
        {"acs_access_key": "MDEyMzQ1Njc4OWFiY2RlZg==", "acs_endpoint": "{api}"},
        "POST /calling/callConnections/call%2F1:transferToParticipant?api-version=2024-09-15 HTTP/1.1",
        {"targetParticipant": {"rawId": "4:+15550003333", "phoneNumber": {"value": "+15550003333"}}},
    ),
    "telnyx": ({"telnyx_api_key": "KEY"}, "POST /calls/call%2F1/actions/transfer HTTP/1.1", {"to": "+15550003333"}),
    "vonage": (
        {"vonage_application_id": "app-1", "vonage_private_key": _PEM},
        "PUT /calls/call%2F1 HTTP/1.1",
        {
            "action": "transfer",
            "destination": {
                "type": "ncco",
                "ncco": [
                    {
                        "action": "connect",
                        "endpoint": [{"type": "phone", "number": "15550003333"}],
                        "randomFromNumber": True,
                    }
                ],
            },
        },
    ),
}
"""By carrier: the settings that it takes, and what its API is asked for."""


@pytest.mark.parametrize("is_running", [False, True], ids=["waiting", "running"])
@pytest.mark.parametrize("carrier", _WAYS)
async def test_a_call_is_transferred_by_the_stock_sdk(
    serve_with: ServeWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carrier: str, is_running: bool
) -> None:
    """By the carrier's API, once; then the stream ends, and the call itself is not hung up."""
    settings, line, wanted = _WAYS[carrier]
    given = {"application_id": "app-1"} if carrier == "vonage" else {}
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(FakeApi(200).serving())
        settings = {name: value.replace("{api}", api.url) for name, value in settings.items()}
        house = await stack.enter_async_context(_house(serve_with, tmp_path, **settings))
        monkeypatch.setattr(importlib.import_module(f"bridge.telephony.{carrier}.carrier"), "_API", api.url, False)
        async with calling(dialling(house.daemon, carrier, call="call/1", parameters=given)) as caller:
            call_id = (await house.incoming()).data.call_id
            if is_running:
                await house.sdk.realtime.calls.accept(call_id, type="realtime")
                session = await opened(house.daemon)
                await caller.wait(lambda: figures(session)["messages"] > 0, "sound")
            await house.sdk.realtime.calls.refer(call_id, target_uri="tel:+1-555-000-3333")
            await _ended(caller)
        await gone(house.daemon)
        if is_running:
            assert session.lifetime.result[1] == "referred"
        else:
            assert await house.outcomes(carrier) == {"referred": 1}
    [(asked, fields, body)] = api.requests
    assert asked == line
    said = parse_qs(body.decode()) if fields["content-type"].startswith("application/x-www") else json.loads(body)
    assert said == wanted


_AT = "https://bridge.example.com/v1/telephony/{}/transfer?to=tel%3A%2B1-555-000-3333&token={}"
_PLIVOS = '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Dial><Number>+15550003333</Number></Dial></Response>\n'


def _plivos_url(said: dict[str, Any]) -> str:
    url = str(said.pop("aleg_url"))
    assert said == {"legs": "aleg", "aleg_method": "GET"}
    return url


@pytest.mark.parametrize("who", ["engine", "live_service", "nobody"])
async def test_a_live_client_transfers_a_call(
    serve_with: ServeWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_pcm: bytes, who: str
) -> None:
    """A call that the engine or a Live service has answered, or that waits, goes on elsewhere; the session ends."""
    _, line, wanted = _WAYS["twilio"]
    session: Any = {"type": "live", "model": MODEL, "delegation": {"type": "responses", "responses": {"model": "m"}}}
    async with FakeApi(200).serving() as api, LiveService.serving() as service:
        monkeypatch.setattr("bridge.telephony.twilio.carrier._API", api.url)
        theirs = NamedUpstream(kind="live", url=service.socket_url, key="sk-theirs", models=(MODEL,))
        given: dict[str, Any] = {"upstreams": {"theirs": theirs}} if who == "live_service" else {}
        async with _house(serve_with, tmp_path, twilio_account_sid="AC1", **given) as house:
            live = house.sdk.live
            async with calling(dialling(house.daemon, "twilio", call="call/1")) as caller:
                call_id = (await house.incoming()).data.call_id
                if who == "nobody":
                    await live.sessions.refer(call_id, target_uri="tel:+1-555-000-3333")
                else:
                    await live.sessions.accept(call_id, session=session)
                    beside = live.sideband.connect(session_id=call_id)
                    async with beside as connection, live_listening(connection, is_sideband=True) as sideband:
                        caller.say(short_pcm)
                        await sideband.until("session.output_transcript.delta")
                        await live.sessions.refer(call_id, target_uri="tel:+1-555-000-3333")
                        closed = await sideband.until("session.closed")
                    assert (closed["reason"], closed["session"]["id"]) == ("close_requested", call_id)
                    assert sideband.of("error") == []
                await _ended(caller)
            await gone(house.daemon)
            with pytest.raises(openai.NotFoundError):
                await live.sessions.refer(call_id, target_uri="tel:+1-555-000-3333")
        assert [model.is_closed for model in service.models] == [True] * (who == "live_service")
    [(asked, _, body)] = api.requests
    assert (asked, parse_qs(body.decode())) == (line, wanted)


_PARTS: dict[str, tuple[dict[str, Any], str, Callable[[dict[str, Any]], str], str]] = {
    "plivo": (
        {"plivo_auth_id": "MA1"},
        "POST /Account/MA1/Call/call%2F1/ HTTP/1.1",
        _plivos_url,
        _PLIVOS,
    ),
    "vobiz": (
        {"vobiz_auth_id": "MA1"},
        "POST /Account/MA1/Call/call%2F1/ HTTP/1.1",
        _plivos_url,
        _PLIVOS,
    ),
    "jambonz": (
        {"jambonz_account_sid": "A1", "jambonz_api_key": "KEY", "jambonz_api_url": "{api}"},
        "PUT /Accounts/A1/Calls/call%2F1 HTTP/1.1",
        lambda said: str(said["call_hook"]["url"]) if said["call_hook"]["method"] == "GET" else "",
        '[{"verb":"dial","target":[{"type":"phone","number":"+15550003333"}]}]',
    ),
    "signalwire": (
        {"twilio_account_sid": "AC1", "twilio_api_url": "{api}"},
        "POST /Accounts/AC1/Calls/call%2F1.json HTTP/1.1",
        lambda said: str(said["Url"][0]) if said["Method"] == ["GET"] else "",
        "<Response><Dial><Number>+15550003333</Number></Dial></Response>",
    ),
}
"""By simulator: the settings that it takes, what its API is asked for, where the address stands, and what is there."""


@pytest.mark.parametrize("carrier", _PARTS)
async def test_a_call_is_transferred_by_a_document(
    serve_with: ServeWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carrier: str
) -> None:
    """The carrier is asked once to fetch how the call goes on, and only who has the address gets it, once."""
    settings, line, address_in, document = _PARTS[carrier]
    endpoint = ROWS[carrier].transport
    async with FakeApi(202).serving() as api:
        settings = {name: value.format(api=api.url) for name, value in settings.items()}
        monkeypatch.setattr(importlib.import_module(f"bridge.telephony.{endpoint}.carrier"), "_API", api.url, False)
        async with _house(serve_with, tmp_path, **settings) as house:
            async with calling(dialling(house.daemon, carrier, call="call/1")) as caller:
                call_id = (await house.incoming()).data.call_id
                await house.sdk.realtime.calls.refer(call_id, target_uri="tel:+1-555-000-3333")
                await _ended(caller)
            [(asked, fields, body)] = api.requests
            assert asked == line
            is_form = fields["content-type"].startswith("application/x-www")
            url = address_in(parse_qs(body.decode()) if is_form else json.loads(body))
            token = url.rpartition("=")[2]
            assert url == _AT.format(endpoint, token)
            here = url.replace("https://bridge.example.com/", house.daemon.url)
            assert (await request("GET", here)).body.decode() == document
            for wrong in (here, here.replace(token, "x"), here.partition("&")[0]):
                refused = await request("GET", wrong)
                assert (refused.status, refused.json["error"]["code"]) == (401, "invalid_token")
            refusals = house.daemon.telephony.calls.refused
            assert refusals[f"{endpoint}.invalid_token"] == 3
            if carrier in ("plivo", "vobiz"):  # which take our closing for a broken line, and dial again
                async with calling(dialling(house.daemon, carrier, call="call/1")) as again:
                    await _ended(again)
                assert refusals[f"{endpoint}.call_over"] == 1


@pytest.mark.parametrize("is_running", [False, True], ids=["waiting", "running"])
async def test_genesys_transfers_by_a_variable_of_its_flow(
    serve_with: ServeWith, tmp_path: Path, is_running: bool
) -> None:
    """The Architect flow goes on with the target in `transfer_to`."""
    said: list[dict[str, Any]] = []
    async with _house(serve_with, tmp_path) as house, calling(dialling(house.daemon, "genesys")) as caller:
        caller.phone.on_message = lambda text: said.append(json.loads(text)) if isinstance(text, str) else None
        call_id = (await house.incoming()).data.call_id
        if is_running:
            await house.sdk.realtime.calls.accept(call_id, type="realtime")
            await opened(house.daemon)
        await house.sdk.realtime.calls.refer(call_id, target_uri="sip:desk@example.com")
        await _ended(caller)
    (disconnect,) = [message for message in said if message["type"] == "disconnect"]
    assert disconnect["parameters"]["outputVariables"] == {"transfer_to": "sip:desk@example.com"}


async def test_what_cannot_be_transferred(
    serve_with: ServeWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said which carriers can, or which setting is missing; the call goes on as it was."""
    async with FakeApi(404).serving() as api, _house(serve_with, tmp_path, telnyx_api_key="KEY") as house:
        monkeypatch.setattr("bridge.telephony.telnyx.carrier._API", api.url)
        for number, (carrier, says) in enumerate(
            {
                "exotel": "can: twilio, telnyx, vonage, plivo, vobiz, jambonz, acs, bandwidth, genesys",
                "twilio": "without the settings twilio_account_sid and twilio_auth_token",
                "telnyx": "HTTP status 404",
            }.items(),
            1,
        ):
            async with calling(dialling(house.daemon, carrier)) as caller:
                call_id = (await house.incoming(number)).data.call_id
                with pytest.raises(openai.BadRequestError, match=says):
                    await house.sdk.realtime.calls.refer(call_id, target_uri="tel:+15550003333")
                assert await house.waiting() == 1
                assert not caller.phone.ended.is_set()
                await house.sdk.realtime.calls.reject(call_id)
                await _ended(caller)
        for target in ("+15550003333", "tel:", "sip:a b", 'sip:"><Hangup/>', "https://a.example", None):
            body = {"target_uri": target}
            answer = await request(
                "POST", f"{house.daemon.url}v1/realtime/calls/{call_id}/refer", body=json.dumps(body)
            )
            assert (answer.status, answer.json["error"]["param"]) == (400, "target_uri")
    async with serve_with() as daemon, open_socket(daemon.url, "model=any") as owner:
        call_id = owner.events[0]["session"]["id"]
        body = {"target_uri": "tel:+15550003333"}
        answer = await request("POST", f"{daemon.url}v1/realtime/calls/{call_id}/refer", body=json.dumps(body))
        assert (answer.status, answer.json["error"]["code"]) == (400, "refer_unsupported")
