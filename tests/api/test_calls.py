"""Endpoints of calls: the dialect that an offer asks for, and the session that a form brings."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.daemon import Daemon
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import Reply, open_socket, request

_BETA = {"OpenAI-Beta": "realtime=v1"}
_FLAT = {"voice": "echo", "temperature": 1.25, "modalities": ["text"], "input_audio_format": "pcm16"}


async def _post_form(daemon: Daemon, path: str, offer: str, session: object, **headers: str) -> Reply:
    parts = (("sdp", "application/sdp", offer), ("session", "application/json", json.dumps(session)))
    body = "".join(
        f'--limit\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: {kind}\r\n\r\n{content}\r\n'
        for name, kind, content in parts
    )
    fields = {"Content-Type": "multipart/form-data; boundary=limit", **headers}
    return await request("POST", daemon.url + path, headers=fields, body=f"{body}--limit--\r\n")


async def _session(daemon: Daemon, reply: Reply, **headers: str) -> Any:
    """The session of the call, as a sideband in the dialect of ``headers`` is told."""
    call_id = reply.headers["location"].rpartition("/")[2]
    async with open_socket(daemon.url, f"call_id={call_id}", additional_headers=headers) as sideband:
        return sideband.events[0]["session"]


@pytest.mark.parametrize(
    ("path", "headers", "is_beta"),
    [
        ("v1/realtime/calls", {}, False),
        ("v1/realtime/calls", {"OpenAI-Beta": "assistants=v2"}, False),
        ("v1/realtime/calls", _BETA, True),
        ("v1/realtime?model=any", {}, True),
        ("v1/realtime?model=any", _BETA, True),
    ],
)
async def test_dialect_of_the_data_channel(daemon: Daemon, path: str, headers: dict[str, str], is_beta: bool) -> None:
    """Beta at beta's endpoint, and for whoever says so in the header at either; GA for the rest."""
    async with RealPeer(daemon.url, path=path, headers=headers) as peer:
        await peer.until("session.created")
        session = peer.of("session.created")[0]["session"]
        assert ("modalities" in session, "audio" in session) == (is_beta, not is_beta)


@pytest.mark.parametrize(("path", "headers"), [("v1/realtime", {}), ("v1/realtime/calls", _BETA)])
async def test_form_of_a_beta_client(daemon: Daemon, offer: str, path: str, headers: dict[str, str]) -> None:
    """Its session is flat, temperature included."""
    reply = await _post_form(daemon, path, offer, _FLAT, **headers)
    assert reply.status == 201
    session = await _session(daemon, reply, **_BETA)
    assert {name: session[name] for name in _FLAT} == _FLAT


async def test_form_of_a_ga_client(daemon: Daemon, offer: str) -> None:
    """Its session is nested; the fields that the server alone sets are not the client's."""
    wanted = {"type": "realtime", "audio": {"output": {"voice": "marin"}}, "id": "mine", "expires_at": 1}
    reply = await _post_form(daemon, "v1/realtime/calls", offer, wanted)
    session = await _session(daemon, reply)
    assert session["audio"]["output"]["voice"] == "marin"
    assert session["id"] == daemon.registry.sessions[0].info.session_id
    assert session["expires_at"] > 1


@pytest.mark.parametrize("path", ["v1/realtime/calls", "v1/realtime"])
async def test_form_whose_session_is_null(daemon: Daemon, offer: str, path: str) -> None:
    """It asks for nothing, as a form without that part does."""
    reply = await _post_form(daemon, path, offer, None)
    assert reply.status == 201
    assert (await _session(daemon, reply))["audio"]["output"]["voice"] == "alloy"


@pytest.mark.parametrize(
    ("path", "session", "code", "param"),
    [
        ("v1/realtime/calls", {"voice": "echo"}, "unknown_parameter", "session.voice"),
        ("v1/realtime/calls", {"audio": 1}, "invalid_value", "session.audio"),
        ("v1/realtime/calls", [], "invalid_value", "session"),
        ("v1/realtime", {"voice": 1}, "invalid_value", "session.voice"),
        ("v1/realtime", {"temperature": 9}, "invalid_value", "session.temperature"),
        ("v1/realtime", [], "invalid_request", "session"),
    ],
)
async def test_form_that_does_not_fit(
    daemon: Daemon, offer: str, path: str, session: object, code: str, param: str
) -> None:
    """400 that names the field as the client wrote it; no call is left behind."""
    reply = await _post_form(daemon, path, offer, session)
    assert reply.status == 400
    assert (reply.json["error"]["code"], reply.json["error"]["param"]) == (code, param)
    assert daemon.registry.sessions == []


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [("a=group:BUNDLE", "no_bundle", "application section"), ("a=sctp-port", None, None)],
    ids=["without a bundle", "as it is"],
)
async def test_what_of_an_offer_is_of_no_use(
    daemon: Daemon, offer: str, change: str, code: str | None, named: str | None
) -> None:
    """An offer of which a part cannot be used is answered; header, log and the call itself tell which."""
    text = "".join(line for line in offer.splitlines(keepends=True) if not line.startswith(change))
    with capture_logs() as log:
        fields = {"Content-Type": "application/sdp"}
        reply = await request("POST", f"{daemon.url}v1/realtime/calls", headers=fields, body=text)
    assert reply.status == 201
    call_id = reply.headers["location"].rpartition("/")[2]
    call = (await request("GET", f"{daemon.url}v1/calls/{call_id}")).json
    told = [entry for entry in log if entry["event"] == "call.warning"]
    if code is None or named is None:
        assert "bridge-warning" not in reply.headers
        assert call["warnings"] == told == []
        return
    assert reply.headers["bridge-warning"].startswith(f"{code}: ")
    assert [warning["code"] for warning in call["warnings"]] == [entry["code"] for entry in told] == [code]
    assert named in call["warnings"][0]["message"]
    assert told[0]["call_id"] == call_id


@pytest.mark.parametrize("is_beta", [False, True])
@pytest.mark.parametrize(
    "session",
    [
        {"type": "realtime", "model": "other", "instructions": "other", "audio": {"output": {"voice": "marin"}}},
        {"model": "other", "voice": "marin", "temperature": 0.7, "modalities": ["text"]},
        {"type": "transcription", "model": "other"},
        {"what": "no server knows"},
        {},
    ],
)
async def test_form_beside_a_key_that_has_its_session(
    daemon: Daemon, offer: str, session: object, *, is_beta: bool
) -> None:
    """A gateway writes a session into every form; the one that the key stands for is what the call gets."""
    wanted: dict[str, Any] = {"model": "minted", "instructions": "Sing."}
    if is_beta:
        minted = await request("POST", f"{daemon.url}v1/realtime/sessions", body=json.dumps(wanted))
        key = minted.json["client_secret"]["value"]
    else:
        body = json.dumps({"session": {"type": "realtime", **wanted}})
        minted = await request("POST", f"{daemon.url}v1/realtime/client_secrets", body=body)
        key = minted.json["value"]
    reply = await _post_form(daemon, "v1/realtime/calls?model=other", offer, session, Authorization=f"Bearer {key}")
    assert reply.status == 201
    told = await _session(daemon, reply)
    fixed = {"type": "realtime", "output_modalities": ["audio"]}
    assert {name: told[name] for name in (*wanted, *fixed)} == {**wanted, **fixed}
    assert told["audio"]["output"]["voice"] == "alloy"
