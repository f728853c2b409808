"""Doors where keys are minted, and what a minted key may do at the others."""

import asyncio
import json
import time
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from bridge.api.secrets import BridgeCaps, ClientSecretRequest
from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import Reply, open_socket, request

_KEY = "sk-the-api-key-of-these-tests"
_PAGE = "https://app.example"
_DOORS = ["client_secrets", "sessions", "transcription_sessions"]
_FLAT_TRANSCRIPTION = {
    "id",
    "object",
    "expires_at",
    "modalities",
    "input_audio_format",
    "input_audio_transcription",
    "input_audio_noise_reduction",
    "turn_detection",
    "include",
    "client_secret",
}
_FLAT = {
    "id",
    "object",
    "model",
    "expires_at",
    "modalities",
    "instructions",
    "voice",
    "input_audio_format",
    "output_audio_format",
    "input_audio_transcription",
    "input_audio_noise_reduction",
    "turn_detection",
    "tools",
    "tool_choice",
    "temperature",
    "max_response_output_tokens",
    "speed",
    "tracing",
    "client_secret",
    "status",
    "metadata",
}


def _auth(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def _mint(daemon: Daemon, door: str, body: Any = None, *, key: str = _KEY, **headers: str) -> Reply:
    content = json.dumps(body) if body is not None else b""
    fields = {"Content-Type": "application/json", **_auth(key), **headers}
    return await request("POST", f"{daemon.url}v1/realtime/{door}", headers=fields, body=content)


async def _secret(daemon: Daemon, **body: Any) -> str:
    reply = await _mint(daemon, "client_secrets", body)
    assert reply.status == 200, reply
    return str(reply.json["value"])


async def _refused(daemon: Daemon, query: str, key: str, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        async with open_socket(daemon.url, query, additional_headers={**_auth(key), **headers}):
            pass
    return refused.value.response.status_code


async def test_client_secret_of_default_settings(serve_with: ServeWith) -> None:
    """Three fields, ten minutes, a whole session."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        bodies: list[Any] = [None, {}]
        for body in bodies:
            reply = await _mint(daemon, "client_secrets", body)
            assert reply.status == 200
            assert reply.json.keys() == {"value", "expires_at", "session"}
            assert abs(reply.json["expires_at"] - time.time() - 600) < 5
            session = reply.json["session"]
            assert (session["type"], session["object"], session["expires_at"]) == ("realtime", "realtime.session", 0)
            assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"


async def test_what_the_server_alone_sets(serve_with: ServeWith) -> None:
    """Ids, kinds and expiries in a body are not taken over."""
    fixed = {"id": "mine", "object": "realtime.transcription_session", "expires_at": 1}
    async with serve_with(api_key=(_KEY,)) as daemon:
        ga = (await _mint(daemon, "client_secrets", {"session": {"type": "realtime", **fixed}})).json["session"]
        beta = (await _mint(daemon, "sessions", {**fixed, "type": "transcription"})).json
    for session in (ga, beta):
        assert session["id"].startswith("sess_")
        assert (session["object"], session["expires_at"]) == ("realtime.session", 0)


async def test_client_secret_for_transcription(serve_with: ServeWith) -> None:
    """The other type of session; the key's socket needs no model."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        key = await _secret(daemon, session={"type": "transcription"})
        async with open_socket(daemon.url, "", additional_headers=_auth(key)) as client:
            assert client.events[0]["session"]["object"] == "realtime.transcription_session"


@pytest.mark.parametrize("door", ["sessions", "transcription_sessions"])
async def test_beta_session(serve_with: ServeWith, door: str) -> None:
    """A flat session, always with the same fields, and a key for a minute."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        for body in (None, {"model": "gpt-4o-realtime-preview"}):
            reply = await _mint(daemon, door, body, **{"OpenAI-Beta": "assistants=v2"})
            fields = _FLAT if door == "sessions" else _FLAT_TRANSCRIPTION
            assert (reply.status, reply.json.keys()) == (200, fields)
            secret = reply.json["client_secret"]
            assert secret.keys() == {"value", "expires_at"}
            assert abs(secret["expires_at"] - time.time() - 60) < 5


@pytest.mark.parametrize(
    ("door", "body", "param"),
    [
        ("client_secrets", {"expires_after": {"seconds": 9}}, "expires_after.seconds"),
        ("client_secrets", {"expires_after": {"seconds": 7201}}, "expires_after.seconds"),
        ("client_secrets", {"expires_after": {"anchor": "now"}}, "expires_after.anchor"),
        ("client_secrets", {"session": {"type": "opera"}}, "session.type"),
        ("client_secrets", {"session": 1}, "session"),
        ("client_secrets", {"session": {"type": "realtime", "voice": "echo"}}, "session.voice"),
        ("client_secrets", {"bridge": {"role": "king"}}, "bridge.role"),
        ("client_secrets", {"bridge": {"allowed_origin": "https://a.example"}}, "bridge.allowed_origin"),
        ("client_secrets", {"bridge": {"max_duration_s": 0}}, "bridge.max_duration_s"),
        ("client_secrets", {"bridge": {"allowed_origins": ["https://a.example/"]}}, "bridge.allowed_origins[0]"),
        ("sessions", {"client_secret": {"expires_after": {"seconds": 9}}}, "client_secret.expires_after.seconds"),
        ("sessions", {"client_secret": {"expires_after": {"seconds": 7201}}}, "client_secret.expires_after.seconds"),
        ("sessions", {"client_secret": {"expires_after": {"anchor": 0}}}, "client_secret.expires_after.anchor"),
        ("sessions", {"client_secret": "ek_mine"}, "client_secret"),
        (
            "transcription_sessions",
            {"client_secret": {"expires_at": {"seconds": 1}}},
            "client_secret.expires_at.seconds",
        ),
        ("sessions", {"temperature": 3}, "temperature"),
        ("sessions", {"voice": 3}, "voice"),
        ("sessions", {"input_audio_format": "mp3"}, "input_audio_format"),
        ("sessions", {"modalities": []}, "modalities"),
        (
            "transcription_sessions",
            {"turn_detection": {"type": "server_vad", "threshold": 2}},
            "turn_detection.threshold",
        ),
    ],
)
async def test_body_that_does_not_fit(serve_with: ServeWith, door: str, body: Any, param: str) -> None:
    """400, naming the field as the body has it."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        reply = await _mint(daemon, door, body)
    assert reply.status == 400
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert reply.json["error"]["param"] == param


@pytest.mark.parametrize("door", _DOORS)
@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"{", b"\xff"])
async def test_body_that_is_no_object(serve_with: ServeWith, door: str, body: bytes) -> None:
    """400, whatever it is."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        reply = await request("POST", f"{daemon.url}v1/realtime/{door}", headers=_auth(_KEY), body=body)
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("door", _DOORS)
async def test_body_that_is_nested_too_deeply(serve_with: ServeWith, door: str) -> None:
    """400 at every depth at which the session could not be told again; a key of less has a session that works."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        for depth in (100, 780, 900, 990, 5000):
            tools = [{"type": "function", "name": "f", "parameters": {"a": 0}}]
            session: Any = {"tools": tools}
            body = json.dumps({"session": session} if door == "client_secrets" else session)
            body = body.replace('"a": 0', f'"a": {"[" * depth}{"]" * depth}')
            reply = await request("POST", f"{daemon.url}v1/realtime/{door}", headers=_auth(_KEY), body=body)
            assert reply.status == (200 if depth == 100 else 400), depth
            if depth == 100:
                key = reply.json["value"] if door == "client_secrets" else reply.json["client_secret"]["value"]
                first = "transcription_session.created" if door == "transcription_sessions" else "session.created"
                async with open_socket(daemon.url, "", first=first, additional_headers=_auth(key)) as client:
                    assert client.events[0]["session"]["id"]


@pytest.mark.parametrize("seconds", [10, 7200])
async def test_expiry_that_is_asked_for(serve_with: ServeWith, seconds: int) -> None:
    """From ten seconds to two hours, ends included; beta's SDKs ask inside ``client_secret``, by two names."""
    asked = {"anchor": "created_at", "seconds": seconds}
    async with serve_with(api_key=(_KEY,)) as daemon:
        reply = await _mint(daemon, "client_secrets", {"expires_after": asked})
        assert abs(reply.json["expires_at"] - time.time() - seconds) < 5
        for door, name in (("sessions", "expires_after"), ("transcription_sessions", "expires_at")):
            reply = await _mint(daemon, door, {"client_secret": {name: asked}})
            assert abs(reply.json["client_secret"]["expires_at"] - time.time() - seconds) < 5


@pytest.mark.parametrize(
    ("door", "body"),
    [
        ("client_secrets", {"session": None, "expires_after": None, "bridge": None}),
        ("client_secrets", {"expires_after": {"anchor": None, "seconds": None}}),
        ("client_secrets", {"bridge": dict.fromkeys(BridgeCaps.__struct_fields__)}),
        ("sessions", {"client_secret": {"expires_after": {"anchor": None, "seconds": None}}}),
        ("transcription_sessions", {"client_secret": {"expires_at": {"seconds": None}, "expires_after": None}}),
    ],
)
async def test_null_stands_for_what_is_not_given(serve_with: ServeWith, door: str, body: Any) -> None:
    """SDKs write null for what their program left open: the answer is that of a body without the field."""
    nothing: dict[str, Any] = {}
    async with serve_with(api_key=(_KEY,)) as daemon:
        replies = [await _mint(daemon, door, given) for given in (body, nothing)]
    assert [reply.status for reply in replies] == [200, 200]
    nulls, left_out = ((reply.json.get("client_secret") or reply.json)["expires_at"] for reply in replies)
    assert abs(nulls - left_out) < 5


async def test_null_hides_no_misspelled_limit(serve_with: ServeWith) -> None:
    """A limit that is misspelled is refused still, whatever stands beside it."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        reply = await _mint(daemon, "client_secrets", {"bridge": {"role": None, "max_duration": 5}})
    assert (reply.status, reply.json["error"]["param"]) == (400, "bridge.max_duration")


@pytest.mark.parametrize("secret", [None, {}, {"expires_after": None}, {"expires_after": {"anchor": "created_at"}}])
async def test_beta_expiry_that_is_left_open(serve_with: ServeWith, secret: Any) -> None:
    """A minute, however little is said of it."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        reply = await _mint(daemon, "sessions", {"client_secret": secret})
    assert abs(reply.json["client_secret"]["expires_at"] - time.time() - 60) < 5


async def test_keys_are_in_no_cache(serve_with: ServeWith) -> None:
    """Whatever carries a key says that nobody may store it."""
    async with serve_with(api_key=(_KEY,), allow_origin=(_PAGE,), page_keys=True) as daemon:
        for reply in (
            *[await _mint(daemon, door) for door in _DOORS],
            await request("GET", f"{daemon.url}session", headers={"Origin": _PAGE}),
        ):
            assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")


@pytest.mark.parametrize("door", _DOORS)
async def test_minted_key_mints_no_other(serve_with: ServeWith, door: str) -> None:
    """403 for a client's key, 401 for none."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        key = await _secret(daemon)
        refusal = await _mint(daemon, door, key=key)
        assert (refusal.status, refusal.json["error"]["code"]) == (403, "forbidden")
        assert (await _mint(daemon, door, key="")).status == 401


async def test_minted_key_sees_its_own_calls(serve_with: ServeWith) -> None:
    """Another's call is as unknown as one that never was, at every door; the API key sees both."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        key, other = await _secret(daemon), await _secret(daemon)
        async with (
            RealPeer(daemon.url, headers=_auth(key)) as peer,
            RealPeer(daemon.url, headers=_auth(other)) as foreign,
        ):
            calls = f"{daemon.url}v1/calls"

            async def seen(with_key: str) -> set[str]:
                return {call["id"] for call in (await request("GET", calls, headers=_auth(with_key))).json["data"]}

            assert (await seen(key), await seen(other)) == ({peer.call_id}, {foreign.call_id})
            assert await seen(_KEY) == {peer.call_id, foreign.call_id}
            unknown = "rtc_" + "x" * (len(foreign.call_id) - 4)
            for method, path in (
                ("GET", "v1/calls/{}"),
                ("POST", "v1/realtime/calls/{}/hangup"),
                ("DELETE", "v1/realtime/calls/{}"),
            ):
                hidden, absent = [
                    await request(method, daemon.url + path.format(call_id), headers=_auth(key))
                    for call_id in (foreign.call_id, unknown)
                ]
                assert hidden.status == absent.status == 404
                assert hidden.body.replace(foreign.call_id.encode(), b"") == absent.body.replace(unknown.encode(), b"")
                assert hidden.headers.keys() == absent.headers.keys()
            assert await _refused(daemon, f"call_id={foreign.call_id}", key) == 404
            assert await _refused(daemon, f"call_id={unknown}", key) == 404
            assert await seen(other) == {foreign.call_id}
            hang_up = f"{daemon.url}v1/realtime/calls/{peer.call_id}/hangup"
            assert (await request("POST", hang_up, headers=_auth(key))).status == 200


async def test_observer_key(serve_with: ServeWith, offer: str) -> None:
    """It listens to its call: events are refused one by one; to steer, to hang up and to call are not for it."""
    async with serve_with(api_key=(_KEY,)) as daemon, RealPeer(daemon.url, headers=_auth(_KEY)) as peer:
        query = f"call_id={peer.call_id}"
        key = await _secret(daemon, bridge={"role": "observer", "call_id": peer.call_id})
        assert await _refused(daemon, f"{query}&role=controller", key) == 403
        assert await _refused(daemon, "", key) == 403
        hang_up = f"{daemon.url}v1/realtime/calls/{peer.call_id}/hangup"
        assert (await request("POST", hang_up, headers=_auth(key))).status == 403
        headers = {**_auth(key), "Content-Type": "application/sdp"}
        assert (await request("POST", f"{daemon.url}v1/realtime/calls", headers=headers, body=offer)).status == 403
        async with open_socket(daemon.url, query, additional_headers=_auth(key)) as observer:
            for event in ({"type": "response.create"}, {"type": "input_audio_buffer.append", "audio": ""}):
                await observer.send(event)
            await observer.wait(lambda: len(observer.of("error")) == 2, "two errors")
        assert [event["error"]["code"] for event in observer.of("error")] == ["forbidden"] * 2
        assert "response.created" not in peer.types


async def test_longest_duration_of_a_key(serve_with: ServeWith) -> None:
    """The session ends with an error that says so, then 1001."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        key = await _secret(daemon, bridge={"max_duration_s": 0.3})
        async with open_socket(daemon.url, "", additional_headers=_auth(key)) as client:
            assert (await client.until("error"))["error"]["code"] == "session_expired"
            assert await client.close_code() == 1001


async def test_idle_timeout_of_a_key(serve_with: ServeWith) -> None:
    """A session in which nothing happens ends; what it is told keeps it."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        key = await _secret(daemon, bridge={"idle_timeout_s": 0.3})
        async with open_socket(daemon.url, "", additional_headers=_auth(key)) as client:
            await client.close_code()
            assert client.connection.close_reason == "idle_timeout"


async def test_origins_of_a_key(serve_with: ServeWith) -> None:
    """Good for its pages, over HTTP and WebSocket, and for nobody else."""
    async with serve_with(api_key=(_KEY,), allow_origin=("https://listed.example",)) as daemon:
        key = await _secret(daemon, bridge={"allowed_origins": [_PAGE]})
        async with open_socket(daemon.url, "", additional_headers={**_auth(key), "Origin": _PAGE}):
            pass
        assert await _refused(daemon, "", key) == 403
        assert await _refused(daemon, "", key, Origin="https://listed.example") == 403
        reply = await request("GET", f"{daemon.url}v1/calls", headers={**_auth(key), "Origin": _PAGE})
        assert reply.status == 200


async def test_one_connection_for_many_at_a_time(serve_with: ServeWith, offer: str) -> None:
    """However many offers come with a beta key at once, one is answered."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        key = (await _mint(daemon, "sessions")).json["client_secret"]["value"]
        headers = {**_auth(key), "Content-Type": "application/sdp"}
        url = f"{daemon.url}v1/realtime?model=gpt-4o-realtime-preview"
        replies = await asyncio.gather(*(request("POST", url, headers=headers, body=offer) for _ in range(100)))
        assert sorted(reply.status for reply in replies) == [201] + [401] * 99
        assert len(daemon.registry.sessions) == 1


async def test_bad_offer_spends_no_key(serve_with: ServeWith, offer: str) -> None:
    """A single use is a connection, not an attempt."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        key = (await _mint(daemon, "sessions")).json["client_secret"]["value"]
        headers = {**_auth(key), "Content-Type": "application/sdp"}
        url = f"{daemon.url}v1/realtime"
        assert (await request("POST", url, headers=headers, body="v=0")).status == 400
        assert (await request("POST", url, headers=headers, body=offer)).status == 201
        assert (await request("POST", url, headers=headers, body=offer)).status == 401


async def test_secrets_stay_secret(serve_with: ServeWith, capfd: pytest.CaptureFixture[str]) -> None:
    """No key is logged, echoed in a handshake or shown in a call's description, used or refused."""
    async with serve_with(api_key=(_KEY,), log_level="debug") as daemon:
        key = await _secret(daemon)
        wrong = "sk-wrong-and-secret-all-the-same"
        refusal = await _mint(daemon, "client_secrets", key=wrong)
        assert wrong not in refusal.body.decode()
        protocols: Any = ["realtime", f"openai-insecure-api-key.{key}"]
        async with open_socket(daemon.url, "", subprotocols=protocols) as client:
            assert client.connection.subprotocol == "realtime"
            assert client.connection.response is not None
            assert key not in str(client.connection.response.headers)
            described = await request("GET", f"{daemon.url}v1/calls", headers=_auth(_KEY))
    output = capfd.readouterr()
    for secret in (_KEY, key, wrong):
        assert secret not in output.out + output.err
        assert secret not in described.body.decode()
        assert all(secret not in json.dumps(event) for event in client.events)


def test_request_has_defaults() -> None:
    """An empty body asks for the least."""
    wanted = ClientSecretRequest()
    assert (wanted.expires_after.seconds, wanted.bridge.role, wanted.bridge.single_use) == (600, "controller", False)
