"""Other spellings of the doors: slashes, Azure's addresses, and keys as gateways send them."""

import json
import logging
from typing import Any

import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, NotFoundError
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bridge.config import NamedUpstream, UpstreamSettings
from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import Reply, request

_DEFAULT_MODEL = UpstreamSettings().default_model
_KEY = "sk-the-api-key-of-these-tests"
_HELD = {"Authorization": f"Bearer {_KEY}"}
_AZURE = "api-version=2024-10-01-preview&deployment=gpt-4o-realtime-preview"


async def _first(daemon: Daemon, path: str, **options: Any) -> dict[str, object]:
    """The session that a socket is told of."""
    url = daemon.url.replace("http", "ws", 1) + path
    async with connect(url, proxy=None, **options) as socket:
        event = json.loads(await socket.recv())
    assert event["type"] == "session.created"
    session: dict[str, object] = event["session"]
    return session


async def _refused(daemon: Daemon, path: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused:
        await _first(daemon, path, **options)
    response = refused.value.response
    return response.status_code, json.loads(response.body or b"")["error"]["code"]


@pytest.mark.parametrize(
    "path",
    ["v1/realtime/", "/v1/realtime", "v1//realtime", "//v1///realtime//", "openai/v1/realtime", "openai//v1/realtime/"],
)
async def test_a_socket_at_each_spelling(daemon: Daemon, path: str) -> None:
    """Slashes more or less, and Azure's GA address: the same door in the same dialect."""
    session = await _first(daemon, f"{path}?model=any")
    assert session["model"] == "any"
    assert "audio" in session


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "v1/calls/", 200),
        ("GET", "/v1//calls", 200),
        ("GET", "/healthz", 200),
        ("GET", "//", 200),
        ("GET", "console.css/", 200),
        ("GET", "v1/models/", 200),
        ("GET", "openai/v1/models", 200),
        ("GET", "openai/models?api-version=2024-10-21", 200),
        ("POST", "v1//realtime/client_secrets/", 200),
        ("POST", "openai/v1/realtime/client_secrets", 200),
        ("POST", "openai/realtime/client_secrets?api-version=2025-04-01-preview", 200),
        ("POST", "openai/realtimeapi/sessions?api-version=2025-04-01-preview", 200),
        ("POST", "openai/v1/realtime/calls/rtc_nope/hangup", 404),
        ("GET", "openai", 404),
        ("GET", "openai/v1/calls", 404),
        ("GET", "openai/realtimes", 404),
        ("GET", "openai/v1/openai/v1/models", 404),
        ("GET", "v1/openai/v1/models", 404),
    ],
)
async def test_a_request_at_each_spelling(daemon: Daemon, method: str, path: str, status: int) -> None:
    """No redirect, which would lose a body and its key; what is no door under any spelling is 404."""
    assert (await request(method, daemon.url + path)).status == status


@pytest.mark.parametrize(
    ("path", "is_beta"),
    [
        ("v1//realtime/calls/", False),
        ("openai/v1/realtime/calls", False),
        (f"openai/realtime?{_AZURE}", True),
        ("v1/realtimertc?model=gpt-4o-realtime-preview", True),
    ],
)
async def test_a_call_at_each_spelling(daemon: Daemon, path: str, is_beta: bool) -> None:
    """Over WebRTC too: Azure's preview speaks the beta dialect; the answer names the call by its one address."""
    async with RealPeer(daemon.url, path=path) as peer:
        await peer.until("session.created")
        session = peer.of("session.created")[0]["session"]
        assert ("modalities" in session) == is_beta
        assert session["model"] == ("gpt-4o-realtime-preview" if is_beta else _DEFAULT_MODEL)
        assert peer.reply.headers["location"].startswith("/v1/realtime/calls/rtc_")


async def test_azures_preview(daemon: Daemon) -> None:
    """The deployment is the model, the dialect beta's; the version is of no use to anyone."""
    for path in (f"openai/realtime?{_AZURE}", f"openai/realtime/?{_AZURE}"):
        session = await _first(daemon, path)
        assert session["model"] == "gpt-4o-realtime-preview"
        assert "modalities" in session
    assert (await _first(daemon, f"openai/realtime?{_AZURE}&model=other"))["model"] == "other"
    assert await _refused(daemon, "openai/realtime?api-version=1") == (400, "invalid_request")


async def test_a_listener_at_azures_address(daemon: Daemon) -> None:
    """What Azure's URL says besides is not taken for a choice of the listener's."""
    async with RealPeer(daemon.url) as peer:
        call_id = peer.reply.headers["location"].rpartition("/")[2]
        path = f"openai/v1/realtime?api-version=2025-08-28&api-key=any&call_id={call_id}&audio=pcm16"
        assert "audio" in await _first(daemon, path)


@pytest.mark.parametrize("path", ["openai/v1/realtime?model=any", f"openai/realtime?{_AZURE}"])
async def test_a_key_in_azures_url(serve_with: ServeWith, path: str, caplog: pytest.LogCaptureFixture) -> None:
    """It opens the door as a header would, is written into no log, and is none in any other URL."""
    caplog.set_level(logging.DEBUG)
    async with serve_with(api_key=(_KEY,)) as daemon:
        assert await _first(daemon, f"{path}&api-key={_KEY}")
        assert await _refused(daemon, f"{path}&api-key={_KEY}x") == (401, "invalid_api_key")
        assert await _refused(daemon, f"{path}&api-key=") == (401, "invalid_api_key")
        assert await _first(daemon, f"{path}&api-key=", additional_headers={"api-key": _KEY})
        assert await _first(daemon, f"{path}&api-key=wrong", additional_headers={"api-key": _KEY})
        assert await _refused(daemon, f"v1/realtime?model=any&api-key={_KEY}") == (401, "invalid_api_key")
    assert _KEY not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("bridge"))


async def test_an_empty_key_beside_a_good_one(serve_with: ServeWith) -> None:
    """A gateway forwards headers that its client left empty; the first that holds something counts."""
    subprotocols = ["realtime", f"openai-insecure-api-key.{_KEY}"]
    async with serve_with(api_key=(_KEY,)) as daemon:
        for empty in ({"api-key": ""}, {"Authorization": "Bearer "}, {"api-key": " ", "x-api-key": ""}):
            assert await _first(daemon, "v1/realtime?model=any", additional_headers=empty, subprotocols=subprotocols)
            assert (await _refused(daemon, "v1/realtime?model=any", additional_headers=empty))[0] == 401


async def _models(daemon: Daemon, path: str = "", **headers: str) -> Reply:
    return await request("GET", f"{daemon.url}v1/models{path}", headers=headers)


async def test_models_as_openai_lists_them(serve_with: ServeWith) -> None:
    """Each that the configuration names with who answers for it, the default first; one alone, or 404."""
    upstreams = {
        "qwen": NamedUpstream(url="wss://qwen.example/realtime", models=("qwen3-omni", "qwen/turbo")),
        "spare": NamedUpstream(url="wss://spare.example/realtime"),
    }
    async with serve_with(api_key=(_KEY,), upstreams=upstreams) as daemon:
        listed = (await _models(daemon, **_HELD)).json
        assert listed.keys() == {"object", "data"}
        assert listed["object"] == "list"
        assert [(model["id"], model["owned_by"]) for model in listed["data"]] == [
            (_DEFAULT_MODEL, "local"),
            ("qwen3-omni", "qwen"),
            ("qwen/turbo", "qwen"),
        ]
        for model in listed["data"]:
            assert model.keys() == {"id", "object", "created", "owned_by"}
            assert (model["object"], type(model["created"])) == ("model", int)
            assert (await _models(daemon, f"/{model['id']}", **_HELD)).json == model
        unknown = await _models(daemon, "/nope", **_HELD)
        assert unknown.status == 404
        assert unknown.json["error"] | {"message": ""} == {
            "type": "invalid_request_error", "code": "model_not_found", "param": "model", "message": "",
        }  # fmt: skip


async def test_models_are_behind_the_key(serve_with: ServeWith) -> None:
    """An API key in any of its places, or a client's key; without one 401, from a foreign page 403."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        minted = (await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=_HELD)).json["value"]
        for headers in (_HELD, {"x-api-key": _KEY}, {"api-key": _KEY}, {"Authorization": f"Bearer {minted}"}):
            for path in ("", f"/{_DEFAULT_MODEL}"):
                assert (await _models(daemon, path, **headers)).status == 200
        for path in ("", f"/{_DEFAULT_MODEL}", "/nope"):
            assert (await _models(daemon, path)).status == 401
            assert (await _models(daemon, path, **_HELD, Origin="https://elsewhere.example")).status == 403


async def test_stock_sdk_lists_models(daemon: Daemon) -> None:
    """As gateways probe: ``models.list`` and ``models.retrieve`` of the stock client."""
    async with AsyncOpenAI(api_key="any", base_url=f"{daemon.url}v1") as client:
        listed = [model.id async for model in client.models.list()]
        assert listed == [_DEFAULT_MODEL]
        assert (await client.models.retrieve(_DEFAULT_MODEL)).owned_by == "local"
        with pytest.raises(NotFoundError):
            await client.models.retrieve("nope")


async def test_stock_azure_client(serve_with: ServeWith) -> None:
    """``AsyncAzureOpenAI`` connects at the addresses that it makes itself, its key in its own header."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        client = AsyncAzureOpenAI(
            api_key=_KEY,
            azure_endpoint=daemon.url,
            api_version="2025-04-01-preview",
            websocket_base_url=daemon.url.replace("http", "ws", 1) + "openai",
        )
        async with client, client.beta.realtime.connect(model="my-deployment") as connection:
            created = await connection.recv()
            assert created.type == "session.created"
            assert str(created.session.model) == "my-deployment"
            assert created.session.modalities is not None
