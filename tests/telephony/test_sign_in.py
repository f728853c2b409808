"""Who is let in: each endpoint closed without its secret, and nothing heard before it was shown."""

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4
from xml.etree import ElementTree

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.client import CallFailed
from bridge.client.phone import dial
from bridge.daemon import Daemon
from bridge.telephony.audiosocket.dialect import frame
from bridge.telephony.table import CARRIERS
from bridge.telephony.twilio.sign_in import SETTINGS_HEADER, SIGNATURE_HEADER, sign
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import Reply, open_socket, request
from tests.machine import scaled
from tests.telephony.calling import calling, dialling, gone, new_token, opened, session_of, until
from tests.telephony.rows import SETTINGS

_PATH = "/v1/telephony/twilio"
_TOKEN = SETTINGS["twilio_auth_token"][0]
_PUBLIC = SETTINGS["public_url"]
_STREAM = f"wss{_PUBLIC.removeprefix('https')}{_PATH}"
_FORM = {"CallSid": "CA1", "From": "+15550001111", "To": "+15550002222"}
_LIMIT_S = scaled(5.0)


@asynccontextmanager
async def _socket(daemon: Daemon, path: str, **headers: str) -> AsyncIterator[ClientConnection]:
    url = f"{daemon.url.replace('http', 'ws', 1)}v1/telephony/{path}"
    async with connect(url, additional_headers=headers, compression=None, proxy=None) as connection:
        yield connection


async def _refusal(daemon: Daemon, path: str, **headers: str) -> tuple[int, str]:
    """Status and code of an upgrade that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with _socket(daemon, path, **headers):
            pass
    return caught.value.response.status_code, json.loads(caught.value.response.body)["error"]["code"]


async def _closing(connection: ClientConnection, *messages: str | bytes) -> tuple[int, str]:
    """Code and reason with which the bridge closes after these messages, before it has sent anything."""
    for message in messages:
        await connection.send(message)
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(connection.recv(), _LIMIT_S)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def _webhook(daemon: Daemon, form: dict[str, str], **headers: str) -> Reply:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return await request("POST", f"{daemon.url}v1/telephony/twilio", headers=kind | headers, body=urlencode(form))


async def _token(daemon: Daemon) -> str:
    """A fresh one, from the webhook."""
    reply = await _webhook(daemon, _FORM, **{SIGNATURE_HEADER: sign(_TOKEN, f"{_PUBLIC}{_PATH}", _FORM)})
    root = ElementTree.fromstring(reply.body)
    return next(str(entry.get("value")) for entry in root.iter("Parameter") if entry.get("name") == "token")


def _start(token: str | None = None, *, call: str = "CA1") -> str:
    parameters = {"token": token} if token is not None else {}
    start = {"streamSid": "MZ1", "callSid": call, "customParameters": parameters}
    return json.dumps({"event": "start", "streamSid": "MZ1", "start": start})


def _asterisk_start(_: str) -> str:
    return "MEDIA_START channel_id:pbx format:ulaw"


def _telnyx_start(**fields: Any) -> str:
    return json.dumps({"event": "start", "stream_id": "s", "start": {"call_control_id": "c"} | fields})


# Closed


async def test_endpoints_are_closed_by_default(daemon: Daemon) -> None:
    """Without its secret each carrier's socket and webhook refuse, AudioSocket has no port, and all is counted."""
    expected: Counter[str] = Counter()
    for carrier in CARRIERS:
        if carrier.socket is not None:
            assert await _refusal(daemon, carrier.name) == (403, "endpoint_closed")
            expected[f"{carrier.name}.endpoint_closed"] += 1
        for endpoint in carrier.endpoints:
            url = f"{daemon.url.rstrip('/')}{endpoint.operation.path}"
            reply = await request(endpoint.operation.method.upper(), url, body='{"connection_id": "a"}')
            assert (reply.status, reply.json["error"]["code"]) == (403, "endpoint_closed")
            expected[f"{carrier.name}.endpoint_closed"] += carrier.name not in ("asterisk", "audiosocket")
    assert daemon.telephony.ports == {}
    told = (await request("GET", f"{daemon.url}v1/telephony")).json
    assert told["endpoints"] == {carrier.name: {"is_open": False, "calls": 0, "waiting": 0} for carrier in CARRIERS}
    assert told["refused"] == {name: count for name, count in expected.items() if count}
    assert daemon.registry.sessions == []


async def test_state_is_for_api_keys(serve_with: ServeWith) -> None:
    """Clients' keys do not see what others tried, and open no lines."""
    async with serve_with(api_key=("sk-1",)) as daemon:
        url = f"{daemon.url}v1/telephony"
        assert (await request("GET", url)).status == 401
        key = {"Authorization": "Bearer sk-1"}
        assert (await request("GET", url, headers=key)).status == 200
        minted = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=key)
        client = {"Authorization": f"Bearer {minted.json['value']}"}
        for method, path in (("GET", ""), ("POST", "/audiosocket"), ("POST", "/asterisk")):
            assert (await request(method, f"{url}{path}", headers=client)).status == 403


# Twilio


async def test_twilio_signature(serve_with: ServeWith) -> None:
    """Of the public address by ``wss://``, with SHA-1 or SHA-256; whatever else is refused before the upgrade."""
    async with serve_with(**SETTINGS | {"twilio_sign_in": "signature"}) as daemon:
        for algorithm, settings in (
            ("HMAC_SHA1", {}),
            ("HMAC_SHA256", {SETTINGS_HEADER: "key=SK1,algorithm=HMAC_SHA256"}),
        ):
            signature = sign(_TOKEN, _STREAM, algorithm=algorithm)
            async with _socket(daemon, "twilio", **{SIGNATURE_HEADER: signature, **settings}):
                pass
        assert await _refusal(daemon, "twilio") == (403, "missing_signature")
        for signed in (
            sign(_TOKEN, _STREAM.replace("wss", "https")),
            sign(_TOKEN, f"{_STREAM}/"),
            sign(_TOKEN, f"{daemon.url.replace('http', 'ws', 1)}v1/telephony/twilio"),
            sign("another", _STREAM),
            sign(_TOKEN, _STREAM, algorithm="HMAC_SHA256"),
        ):
            refused = await _refusal(daemon, "twilio", **{SIGNATURE_HEADER: signed})
            assert refused == (403, "invalid_signature")
        assert daemon.telephony.calls.refused["twilio.invalid_signature"] == 5


async def test_twilio_webhook(open_daemon: Daemon) -> None:
    """A signed one is answered with a stream to the public address, with a token and who calls whom; no other is."""
    signature = sign(_TOKEN, f"{_PUBLIC}{_PATH}", _FORM)
    reply = await _webhook(open_daemon, _FORM, **{SIGNATURE_HEADER: signature})
    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (200, "text/xml")
    stream = ElementTree.fromstring(reply.body).find("./Connect/Stream")
    assert stream is not None
    assert stream.get("url") == _STREAM
    given = {entry.get("name"): entry.get("value") for entry in stream}
    assert given.pop("token")
    assert given == {"from": "+15550001111", "to": "+15550002222", "comes_back": "1"}
    for form, headers in (
        (_FORM, {}),
        ({**_FORM, "From": "+15550009999"}, {SIGNATURE_HEADER: signature}),
        (_FORM, {SIGNATURE_HEADER: sign(_TOKEN, _STREAM, _FORM)}),
    ):
        assert (await _webhook(open_daemon, form, **headers)).status == 403


async def test_twilio_token_is_for_one_stream(open_daemon: Daemon) -> None:
    """A signature never changes, so it is not enough: the start message brings a token, good once."""
    signed = {SIGNATURE_HEADER: sign(_TOKEN, _STREAM)}
    token = await _token(open_daemon)
    async with _socket(open_daemon, "twilio", **signed) as first:
        await first.send(_start(token, call="CA1"))
        await opened(open_daemon)
        for start, code in ((_start(token, call="CA2"), "invalid_token"), (_start("ek_made_up"), "invalid_token"),
                            (_start(call="CA3"), "missing_token")):  # fmt: skip
            async with _socket(open_daemon, "twilio", **signed) as other:
                assert await _closing(other, start) == (1008, code)
        assert len(open_daemon.registry.sessions) == 1
    assert open_daemon.telephony.calls.refused["twilio.missing_token"] == 1


async def test_key_of_another_kind_is_no_token(open_daemon: Daemon) -> None:
    """A key that was minted for a client, a listener or an agent opens no telephone call, single use or not."""
    secrets = f"{open_daemon.url}v1/realtime/client_secrets"
    bodies: list[Any] = [
        {},
        *({"bridge": {"single_use": True, "role": role}} for role in ("controller", "observer", "agent")),
    ]
    tokens = [(await request("POST", secrets, body=json.dumps(body))).json["value"] for body in bodies]
    beta = await request("POST", f"{open_daemon.url}v1/realtime/sessions", body=b"{}")
    for token in (*tokens, beta.json["client_secret"]["value"]):
        async with _socket(open_daemon, "twilio", **{SIGNATURE_HEADER: sign(_TOKEN, _STREAM)}) as connection:
            assert await _closing(connection, _start(token)) == (1008, "invalid_token")


@pytest.mark.parametrize("endpoint", ["twilio", "telnyx", "asterisk"])
async def test_key_of_a_page_is_no_token(serve_with: ServeWith, endpoint: str) -> None:
    """What ``GET /session`` gives to pages of one origin opens no call by telephone, for a page of another origin."""
    page = "https://app.example"
    start: dict[str, Callable[[str], str]] = {
        "twilio": _start,
        "telnyx": lambda key: _telnyx_start(stream_auth_token=key),
        "asterisk": _asterisk_start,
    }
    async with serve_with(**SETTINGS, api_key=("sk-1",), allow_origin=(page,), page_keys=True) as daemon:
        minted = await request("GET", f"{daemon.url}session", headers={"Origin": page})
        key = minted.json["client_secret"]["value"]
        headers = {SIGNATURE_HEADER: sign(_TOKEN, _STREAM), "Origin": "https://evil.example"}
        path = f"asterisk?token={key}" if endpoint == "asterisk" else endpoint
        async with _socket(daemon, path, **headers) as connection:
            assert await _closing(connection, start[endpoint](key)) == (1008, "invalid_token")
        assert daemon.registry.sessions == []


async def test_single_use_key_brings_its_session(open_daemon: Daemon) -> None:
    """An application that answers the webhook itself mints the token with the session that the call is to have."""
    wanted = {
        "bridge": {"role": "telephone", "max_duration_s": 60},
        "session": {"type": "realtime", "instructions": "Be brief.", "audio": {"output": {"voice": "marin"}}},
    }
    minted = await request("POST", f"{open_daemon.url}v1/realtime/client_secrets", body=json.dumps(wanted))
    async with _socket(open_daemon, "twilio", **{SIGNATURE_HEADER: sign(_TOKEN, _STREAM)}) as connection:
        await connection.send(_start(minted.json["value"]))
        session = await opened(open_daemon)
        config: Any = session.state.config
        assert (config.instructions, config.audio.output.voice) == ("Be brief.", "marin")
        assert config.audio.input.format.__class__.__name__ == "PcmuFormat"


async def test_telephones_key_opens_nothing_else(open_daemon: Daemon) -> None:
    """It is for one call at the carriers' endpoints: no other endpoint takes it, and an attempt does not spend it."""
    body = json.dumps({"bridge": {"role": "telephone"}})
    minted = await request("POST", f"{open_daemon.url}v1/realtime/client_secrets", body=body)
    auth = {"Authorization": f"Bearer {minted.json['value']}"}
    for reply in (
        await request("POST", f"{open_daemon.url}v1/realtime/calls", headers=auth),
        await request("GET", f"{open_daemon.url}v1/calls", headers=auth),
        await request("POST", f"{open_daemon.url}v1/realtime/client_secrets", headers=auth),
    ):
        assert (reply.status, reply.json["error"]["code"]) == (403, "forbidden")
    for query in ("", "role=agent", "call_id=rtc_any"):
        with pytest.raises(InvalidStatus) as refused:
            async with open_socket(open_daemon.url, query, additional_headers=auth):
                pass
        assert refused.value.response.status_code == 403
    async with _socket(open_daemon, "twilio", **{SIGNATURE_HEADER: sign(_TOKEN, _STREAM)}) as connection:
        await connection.send(_start(minted.json["value"]))
        await opened(open_daemon)


async def test_twilio_without_tokens(serve_with: ServeWith) -> None:
    """Who can mint none may do without; one that is given must be good all the same."""
    async with serve_with(**SETTINGS, twilio_require_token=False) as daemon:
        signed = {SIGNATURE_HEADER: sign(_TOKEN, _STREAM)}
        async with _socket(daemon, "twilio", **signed) as connection:
            assert await _closing(connection, _start("ek_wrong")) == (1008, "invalid_token")
        async with _socket(daemon, "twilio", **signed) as connection:
            await connection.send(_start())
            await opened(daemon)


@pytest.mark.parametrize("mode", ["token", "either"])
async def test_token_in_place_of_a_signature(serve_with: ServeWith, mode: str) -> None:
    """Who signs nothing shows a single-use token, as Bearer or in the start message; without one there is no call."""
    async with serve_with(**SETTINGS | {"twilio_sign_in": mode}) as daemon:
        for shown, start in (
            ({}, _start(new_token(daemon))),
            ({"Authorization": f"Bearer {new_token(daemon)}"}, _start()),
        ):
            async with _socket(daemon, "twilio", **shown) as connection:
                await connection.send(start)
                await opened(daemon)
            await gone(daemon)
        for start, code in ((_start(), "missing_token"), (_start("ek_made_up"), "invalid_token"),
                            (_start(_TOKEN), "invalid_token")):  # fmt: skip
            async with _socket(daemon, "twilio") as connection:
                assert await _closing(connection, start) == (1008, code)
        token = new_token(daemon)
        async with _socket(daemon, "twilio") as connection:
            await connection.send(_start(token, call="CA1"))
            await opened(daemon)
            for call in ("CA1", "CA2"):  # its own call may come back; a second one may not
                async with _socket(daemon, "twilio") as other:
                    await other.send(_start(token, call=call))
                    if call == "CA2":
                        assert await _closing(other) == (1008, "invalid_token")


async def test_wrong_signature_is_no_token(open_daemon: Daemon) -> None:
    """Where either is good, a signature that is there and wrong is refused, whatever the token."""
    refused = await _refusal(
        open_daemon, "twilio", **{SIGNATURE_HEADER: "wrong", "Authorization": f"Bearer {new_token(open_daemon)}"}
    )
    assert refused == (403, "invalid_signature")


async def test_token_alone_needs_no_secret(serve_with: ServeWith) -> None:
    """The endpoint is open without an auth token; the webhook, which is signed, is not."""
    async with serve_with(twilio_sign_in="token") as daemon:
        async with _socket(daemon, "twilio") as connection:
            await connection.send(_start(new_token(daemon)))
            await opened(daemon)
        assert (await _webhook(daemon, _FORM, **{SIGNATURE_HEADER: "x"})).status == 403
        told = (await request("GET", f"{daemon.url}v1/telephony")).json
        assert told["endpoints"]["twilio"]["is_open"] is True


# Telnyx


@pytest.mark.parametrize(
    ("path", "headers", "start"),
    [
        ("telnyx", {"x-telnyx-streaming-auth-token": "tel-secret"}, {}),
        ("telnyx", {"Authorization": "Bearer tel-secret"}, {}),
        ("telnyx?token=tel-secret", {}, {}),
        ("telnyx", {}, {"custom_parameters": {"token": "tel-secret"}}),
        ("telnyx", {}, {"stream_auth_token": "tel-secret"}),
    ],
)
async def test_telnyx_secret(open_daemon: Daemon, path: str, headers: dict[str, str], start: dict[str, Any]) -> None:
    """Wherever Telnyx, or who told it the address, puts it."""
    async with _socket(open_daemon, path, **headers) as connection:
        await connection.send(_telnyx_start(**start))
        await opened(open_daemon)


async def test_telnyx_refusals(open_daemon: Daemon) -> None:
    """A wrong secret or none, before any sound."""
    for path, headers, code in (
        ("telnyx", {}, "missing_token"),
        ("telnyx", {"x-telnyx-streaming-auth-token": "wrong"}, "invalid_token"),
        ("telnyx?token=wrong", {}, "invalid_token"),
    ):
        async with _socket(open_daemon, path, **headers) as connection:
            media = json.dumps({"event": "media", "stream_id": "s", "media": {"payload": "/w=="}})
            assert await _closing(connection, media, _telnyx_start()) == (1008, code)
    assert open_daemon.registry.sessions == []


async def test_format_that_is_not_served(open_daemon: Daemon) -> None:
    """The call is refused with the reason, not answered with noise."""
    async with _socket(open_daemon, "telnyx?token=tel-secret") as connection:
        start = _telnyx_start(media_format={"encoding": "OPUS", "sample_rate": 16000})
        assert await _closing(connection, start) == (1008, "unsupported_format")


# What the log says of it


def _refusals(lines: Iterable[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [line for line in lines if line["event"] == "telephony.refused"]


async def test_log_says_what_was_checked(open_daemon: Daemon) -> None:
    """The signed address or the setting, the carrier's id of the call and the sender's address; never a secret."""
    uuid = uuid4()
    with capture_logs() as lines:
        await _refusal(open_daemon, "twilio?a=sesame", **{SIGNATURE_HEADER: "wrong-signature"})
        basic = f"Basic {base64.b64encode(b'a:wrong-password').decode()}"
        await _refusal(open_daemon, "asterisk", Authorization=basic)
        async with _socket(open_daemon, "telnyx", **{"x-telnyx-streaming-auth-token": "wrong-secret"}) as connection:
            await _closing(connection, _telnyx_start())
        async with _socket(open_daemon, "twilio", **{SIGNATURE_HEADER: sign(_TOKEN, _STREAM)}) as connection:
            await _closing(connection, _start("wrong-token", call="CA7"))
        await _audiosocket(open_daemon, frame(0x01, uuid.bytes), frame(0x10, bytes(320)))
    refusals = _refusals(lines)
    assert all(line.pop("sender").startswith("127.0.0.1:") for line in refusals)
    assert [(line["carrier"], line.get("carrier_call_id"), line["checked_against"]) for line in refusals] == [
        ("twilio", None, f"{_STREAM}?… signed by twilio_auth_token (1 value)"),
        ("asterisk", None, "asterisk_secret (1 value)"),
        ("telnyx", "c", "telnyx_secret (1 value), telephones' keys"),
        ("twilio", "CA7", "telephones' keys"),
        ("audiosocket", None, "audiosocket_uuid (1 value), single-use UUIDs"),
    ]
    shown = json.dumps(refusals)
    for secret in ("wrong-", "sesame", _TOKEN, "tel-secret", "ast-secret", str(uuid), uuid.hex):
        assert secret not in shown


async def test_log_names_the_call_of_a_webhook(open_daemon: Daemon) -> None:
    """Whose signature covers the address by ``https://``."""
    with capture_logs() as lines:
        await _webhook(open_daemon, _FORM, **{SIGNATURE_HEADER: "wrong-signature"})
    [line] = _refusals(lines)
    assert (line["carrier_call_id"], line["reason"]) == ("CA1", "invalid_signature")
    assert line["checked_against"] == f"{_PUBLIC}{_PATH} signed by twilio_auth_token (1 value)"


# Asterisk


async def test_asterisk_password(open_daemon: Daemon) -> None:
    """By HTTP Basic; a wrong one or none is refused before the upgrade, and the subprotocol is given back."""
    basic = {name: f"Basic {base64.b64encode(name.encode()).decode()}" for name in ("a:ast-secret", "a:wrong", "a")}
    for authorization in (basic["a:wrong"], basic["a"], "Basic !", "Basic"):
        assert (await _refusal(open_daemon, "asterisk", Authorization=authorization))[1] == "invalid_secret"
    assert await _refusal(open_daemon, "asterisk") == (401, "missing_secret")
    assert await _refusal(open_daemon, "asterisk", Authorization="Bearer ast-secret") == (401, "missing_secret")
    async with calling(dialling(open_daemon, "asterisk")) as caller:
        wire: Any = caller.phone.wire
        assert wire.connection.subprotocol == "media"
        assert "sec-websocket-extensions" not in wire.connection.response.headers
        await session_of(open_daemon, caller)


async def test_asterisk_token_on_the_url(open_daemon: Daemon) -> None:
    """A channel whose URI has parameters brings a single-use key; the other parameters are its metadata."""
    body = json.dumps({"bridge": {"role": "telephone"}})
    token = (await request("POST", f"{open_daemon.url}v1/realtime/client_secrets", body=body)).json["value"]
    start = "MEDIA_START channel_id:pbx-1.1 format:ulaw"
    async with _socket(open_daemon, f"asterisk?token={token}&lang=en") as connection:
        await connection.send(start)
        session = await opened(open_daemon)
        assert session.info.metadata == {"lang": "en", "carrier_call_id": "pbx-1.1"}
    async with _socket(open_daemon, "asterisk?token=wrong") as connection:
        assert await _closing(connection, start) == (1008, "invalid_token")


# AudioSocket


async def _audiosocket(daemon: Daemon, *messages: bytes) -> bytes:
    """What comes back, silence left out, until the bridge hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.telephony.ports["audiosocket"])
    writer.write(b"".join(messages))
    try:
        answer = await asyncio.wait_for(reader.read(), _LIMIT_S)
    except ConnectionError:
        answer = b""
    writer.close()
    return answer.replace(frame(0x10, bytes(320)), b"")


async def test_audiosocket_uuid(open_daemon: Daemon) -> None:
    """A UUID that is not known is hung up on; one that was asked for is good once, for as long as was said."""
    sound = frame(0x10, bytes(320))
    assert await _audiosocket(open_daemon, frame(0x01, uuid4().bytes), sound) == frame(0x00)
    assert open_daemon.telephony.calls.refused["audiosocket.invalid_token"] == 1
    reply = await request("POST", f"{open_daemon.url}v1/telephony/audiosocket", body='{"seconds": 30}')
    assert abs(reply.json["expires_at"] - time.time() - 30) < 5
    where = dialling(open_daemon, "audiosocket", secret=reply.json["uuid"])
    async with calling(where) as caller:
        await session_of(open_daemon, caller)
    await gone(open_daemon)
    async with calling(where) as caller:
        await asyncio.wait_for(caller.phone.ended.wait(), _LIMIT_S)
    assert caller.phone.carrier.has_hung_up
    assert open_daemon.telephony.calls.refused["audiosocket.invalid_token"] == 2


async def test_audiosocket_sends_silence_from_the_first_moment(open_daemon: Daemon) -> None:
    """Some versions of Asterisk send nothing before they have got something."""
    reader, writer = await asyncio.open_connection("127.0.0.1", open_daemon.telephony.ports["audiosocket"])
    began = asyncio.get_running_loop().time()
    assert await asyncio.wait_for(reader.readexactly(5 * 323), _LIMIT_S) == frame(0x10, bytes(320)) * 5
    assert asyncio.get_running_loop().time() - began > 0.06
    writer.close()


async def test_uuid_request_is_checked(open_daemon: Daemon) -> None:
    """The field that is wrong is named."""
    reply = await request("POST", f"{open_daemon.url}v1/telephony/audiosocket", body='{"seconds": 1}')
    assert (reply.status, reply.json["error"]["param"]) == (400, "seconds")


# All of them


async def test_a_call_that_is_not_started_in_time_is_closed(
    open_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection alone costs little, but not for ever."""
    monkeypatch.setattr("bridge.telephony.carrier_calls.START_TIMEOUT_S", 0.2)
    monkeypatch.setattr("bridge.telephony.audiosocket.connection.START_TIMEOUT_S", 0.2)
    async with _socket(open_daemon, "telnyx?token=tel-secret") as connection:
        assert await _closing(connection) == (1008, "start_timeout")
    assert await _audiosocket(open_daemon) == frame(0x00)
    refused = open_daemon.telephony.calls.refused
    assert (refused["telnyx.start_timeout"], refused["audiosocket.start_timeout"]) == (1, 1)


async def test_one_call_too_many(serve_with: ServeWith) -> None:
    """Is told to come back later, by the webhook already where there is one."""
    async with serve_with(**SETTINGS, max_calls=1) as daemon, dial(dialling(daemon, "telnyx")) as phone:
        await opened(daemon)
        async with _socket(daemon, "telnyx?token=tel-secret") as connection:
            assert await _closing(connection, _telnyx_start()) == (1013, "too_many_calls")
        signed = {SIGNATURE_HEADER: sign(_TOKEN, f"{_PUBLIC}{_PATH}", _FORM)}
        assert (await _webhook(daemon, _FORM, **signed)).status == 429
        assert not phone.ended.is_set()


def _has_sessions(daemon: Daemon, number: int) -> bool:
    return len(daemon.registry.sessions) == number


async def test_a_call_is_not_counted_among_strangers(serve_with: ServeWith) -> None:
    """A connection with a call has shown what it is for: more calls of one address than may wait there come in."""
    async with serve_with(**SETTINGS, max_pending_per_address=2) as daemon, AsyncExitStack() as stack:
        for number in range(1, 5):
            connection = await stack.enter_async_context(_socket(daemon, "telnyx?token=tel-secret"))
            await connection.send(_telnyx_start(call_control_id=f"c{number}"))
            await until(daemon, partial(_has_sessions, daemon, number), "session")


async def test_wrong_secret_is_explained(open_daemon: Daemon) -> None:
    """``bridge call --as`` says which endpoint said no."""
    with pytest.raises(CallFailed, match="HTTP 403"):
        async with dial(dialling(open_daemon, "twilio", secret="wrong")):
            pass
