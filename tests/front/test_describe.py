"""The API's description of itself: complete, and with nothing in it that leads nowhere."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from starlette.routing import Route, WebSocketRoute

from bridge.config import Config
from bridge.daemon import Daemon
from bridge.front.describe import asyncapi, openapi
from bridge.front.server import new_app
from bridge.session.hub import Limits
from bridge.session.registry import Registry
from bridge.upstream.engine.service import Engine
from tests.end_to_end.web import request
from tests.sdk.every_event import every_server_event
from tests.test_events_table import CLIENT


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _refs(inner)


def _resolve(document: Any, ref: str) -> Any:
    assert ref.startswith("#/")
    for step in ref[2:].split("/"):
        document = document[step.replace("~1", "/").replace("~0", "~")]
    return document


@pytest.mark.parametrize("document", [openapi, asyncapi])
def test_every_reference_leads_somewhere(document: Any) -> None:
    """All ``$ref`` resolve inside their document."""
    whole = document()
    refs = set(_refs(whole))
    assert refs
    for ref in refs:
        assert isinstance(_resolve(whole, ref), dict), ref


async def test_documents_are_served(daemon: Daemon) -> None:
    """As JSON, to anybody who may come in."""
    for path, version in (("openapi.json", "openapi"), ("asyncapi.json", "asyncapi")):
        reply = await request("GET", daemon.url + path)
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        assert reply.json[version].startswith("3.")


def test_every_route_is_described() -> None:
    """Each route of the application is in the OpenAPI document with its methods, and nothing else is."""
    limits: Any = {"max_calls": 1, "max_listeners_per_call": 1, "call_limit_s": 1.0, "limits": Limits()}
    app = new_app(Config(), Registry(Engine, **limits), cast(Any, None))
    served = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route) and (route.path in ("/session", "/healthz") or route.path.startswith("/v1/"))
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(path, method) for path, methods in openapi()["paths"].items() for method in methods}
    assert described == served
    sockets = {route.path for route in app.routes if isinstance(route, WebSocketRoute)}
    assert sockets == {channel["address"] for channel in asyncapi()["channels"].values()}


def test_offer_may_be_a_form() -> None:
    """Both ways to post an offer are described."""
    content = openapi()["paths"]["/v1/realtime/calls"]["post"]["requestBody"]["content"]
    assert content.keys() == {"application/sdp", "multipart/form-data"}


def test_every_event_is_described() -> None:
    """Each client and server event is a message, with a schema that names its type, in the direction that it goes."""
    document = asyncapi()
    client = {name for name, row in CLIENT.items() if row.ga}
    server = set(every_server_event())
    assert document["components"]["messages"].keys() == client | server
    for operation, action, names in (("clientEvents", "receive", client), ("serverEvents", "send", server)):
        described = document["operations"][operation]
        assert described["action"] == action
        assert {ref["$ref"].rpartition("/")[2] for ref in described["messages"]} == names
    for name, message in document["components"]["messages"].items():
        schema = message["payload"]
        while "$ref" in schema:
            schema = _resolve(document, schema["$ref"])
        assert schema["properties"]["type"]["enum"] == [name]
        assert message["summary"]
