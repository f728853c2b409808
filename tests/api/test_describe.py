"""The API's description of itself: complete, and with nothing in it that leads nowhere."""

import ast
import inspect
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from openai.types.realtime import RealtimeTranslationClientEvent, RealtimeTranslationServerEvent
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import InvalidStatus

from bridge.api import realtime
from bridge.api.describe import asyncapi
from bridge.api.describe import openapi as openapi_of
from bridge.api.ice_servers import TurnServers
from bridge.api.keys import Keys
from bridge.api.proxies import TrustedProxies
from bridge.api.server import new_app
from bridge.calls.keys import LocalKeyStore
from bridge.calls.quotas import LocalKeyAllowance, LocalQuotas
from bridge.calls.registry import CallLimits, Registry
from bridge.calls.service import CallService
from bridge.config import TelephonySettings, TurnSettings
from bridge.daemon import Daemon
from bridge.engine.parrot import Parrot
from bridge.engine.service import Engine
from bridge.session.fanout.backlog import Limits
from bridge.telephony.carrier import TELEPHONY
from bridge.telephony.service import Telephony, operations_of
from bridge.wire.choices import CHOICES
from bridge.wire.live.client_events import live_client_event_types
from bridge.wire.live.server_events import live_server_event_types
from tests.end_to_end.web import open_socket, request
from tests.sdk.every_event import every_server_event
from tests.sdk.stock import event_names
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


def openapi() -> dict[str, Any]:
    """As the daemon serves it, with the carriers' endpoints."""
    return openapi_of(operations_of())


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
    limits: Any = {"max_calls": 1, "max_listeners_per_call": 1, "call_limit_s": 1.0, "backlog": Limits()}
    registry = Registry(lambda info: Engine(Parrot(), info.context), CallLimits(**limits))
    keys = Keys((), (), LocalKeyStore())
    calls = CallService(registry, keys.store, LocalQuotas.of(calls=1))
    telephony = Telephony(TelephonySettings(), calls, keys)
    app = new_app(
        calls,
        keys,
        models=dict,
        page_keys=LocalKeyAllowance(10),
        proxies=TrustedProxies(),
        turn=TurnServers(TurnSettings()),
        routes=telephony.routes,
    )
    served = {
        (route.path_format, method.lower())
        for route in app.routes
        if isinstance(route, Route) and (route.path in ("/session", "/healthz") or route.path.startswith("/v1/"))
        for method in (route.methods or set()) - {"HEAD"}
    }
    sockets = {route.path for route in app.routes if isinstance(route, WebSocketRoute)}
    sockets = {path for path in sockets if not path.endswith("/{rest:path}")}  # as the path above it
    described = {(path, method) for path, methods in openapi()["paths"].items() for method in methods}
    assert described == served | {(path, "get") for path in sockets}
    of_events = {path for path in sockets if not path.startswith(TELEPHONY)}  # carriers speak languages of their own
    assert of_events == {channel["address"] for channel in asyncapi()["channels"].values()}


def test_openapi_is_valid() -> None:
    """By the rules of OpenAPI 3.1, schemas included."""
    document = json.loads(msgspec.json.encode(openapi()))
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_validator_finds_mistakes() -> None:
    """The test above could fail."""
    document = json.loads(msgspec.json.encode(openapi()))
    document["paths"]["/v1/realtime"]["post"]["parameters"][0]["in"] = "nowhere"
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) != []


@pytest.mark.parametrize("path", ["/v1/realtime/calls", "/v1/realtime"])
def test_offer_and_its_call(path: str) -> None:
    """Both ways to post an offer are described, the model on the URL, and where the call is found."""
    operation = openapi()["paths"][path]["post"]
    assert operation["requestBody"]["content"].keys() == {"application/sdp", "multipart/form-data"}
    assert [(parameter["name"], parameter["in"]) for parameter in operation["parameters"]] == [
        ("model", "query"),
        ("intent", "query"),
    ]
    headers = {"Location", "ETag", "Accept-Patch", "Bridge-Resume-Key", "Bridge-Warning"}
    assert operation["responses"]["201"]["headers"].keys() == headers


def _socket_query() -> dict[str, Any]:
    query: dict[str, Any] = asyncapi()["channels"]["realtime"]["bindings"]["ws"]["query"]["properties"]
    return query


def test_query_of_the_socket_is_described() -> None:
    """In both documents, and each name that the endpoint reads from its URL is there, with nothing else."""
    read = {name for node in ast.walk(ast.parse(inspect.getsource(realtime))) for name in _names_read(node, "query")}
    assert read | set(CHOICES) == _socket_query().keys() != set()
    parameters = openapi()["paths"]["/v1/realtime"]["get"]["parameters"]
    assert {parameter["name"]: parameter["schema"] for parameter in parameters} == _socket_query()


def _names_read(node: ast.AST, mapping: str) -> Iterator[str]:
    """The keys of ``mapping`` that an expression asks for: ``"x" in query``, ``query["x"]``, ``query.get("x")``."""
    match node:
        case ast.Compare(left=ast.Constant(value=str(name)), comparators=[ast.Name(id=owner)]):
            pass
        case ast.Subscript(value=ast.Name(id=owner), slice=ast.Constant(value=str(name))):
            pass
        case ast.Call(func=ast.Attribute(value=ast.Name(id=owner)), args=[ast.Constant(value=str(name)), *_]):
            pass
        case _:
            return
    if owner == mapping:
        yield name


async def test_described_values_are_those_that_the_endpoint_takes(daemon: Daemon) -> None:
    """Each value of a choice opens a socket; one that is not in the list is refused by name."""
    choices = {name: schema["enum"] for name, schema in _socket_query().items() if "enum" in schema}
    assert choices.keys() >= {"intent", "audio", "role"}
    async with open_socket(daemon.url, "model=any") as owner:
        call = f"call_id={owner.events[0]['session']['id']}"
        for name, values in choices.items():
            sound = "" if name in ("audio", "role") else "audio=pcm16&"
            rest = "" if name == "intent" else f"{call}&{sound}"
            for value in values:
                first = None if value == "agent" else "session.created"  # an agent waits for a call of its own
                async with open_socket(daemon.url, f"{rest}{name}={value}", first=first):
                    pass
            with pytest.raises(InvalidStatus) as refused:
                async with open_socket(daemon.url, f"{rest}{name}=other"):
                    pass
            assert refused.value.response.status_code == 400
            assert json.loads(refused.value.response.body or b"")["error"]["param"] == name


_APPEND = "session.input_audio_buffer.append"


def _told_apart(name: str) -> str:
    """The name of a client's event, which a listener may hear under the same name."""
    return f"client.{name}" if name == _APPEND else name


def test_every_event_is_described() -> None:
    """Each client and server event is a message, with a schema that names its type, in the direction that it goes."""
    document = asyncapi()
    heard = {"input_audio_buffer.append", "bridge.sound"}
    server = set(every_server_event()) | heard
    client = {f"client.{name}" if name in server else name for name, row in CLIENT.items() if row.ga}
    said, told = event_names(RealtimeTranslationClientEvent), event_names(RealtimeTranslationServerEvent)
    translation_client = {f"translation.{_told_apart(name)}" for name in said}
    translation_server = {f"translation.{name}" for name in told if name != "error"} | {
        "error",
        f"translation.{_APPEND}",
    }
    live_client = {f"live.client.{kind.__struct_config__.tag}" for kind in live_client_event_types()}
    live_server = {f"live.{kind.__struct_config__.tag}" for kind in live_server_event_types()}
    known = client | server | translation_client | translation_server | live_client | live_server
    assert document["components"]["messages"].keys() == known
    for operation, action, names in (
        ("clientEvents", "receive", client),
        ("serverEvents", "send", server),
        ("translationClientEvents", "receive", translation_client),
        ("translationServerEvents", "send", translation_server),
        ("liveClientEvents", "receive", live_client),
        ("liveSidebandServerEvents", "send", live_server),
    ):
        described = document["operations"][operation]
        assert described["action"] == action
        assert {ref["$ref"].rpartition("/")[2] for ref in described["messages"]} == names
    messages = dict(document["components"]["messages"])
    sound = messages.pop("bridge.sound")
    assert (sound["contentType"], sound["payload"]["format"]) == ("application/octet-stream", "binary")
    for message in messages.values():
        schema = message["payload"]
        while "$ref" in schema:
            schema = _resolve(document, schema["$ref"])
        assert schema["properties"]["type"]["enum"] == [message["name"]]
        assert message["summary"]


def test_the_figures_of_a_call_are_described() -> None:
    """A leg's are those of a peer or of a carrier's leg; those of a listener are named one by one."""
    schemas = openapi()["components"]["schemas"]
    call = schemas["CallStats"]["properties"]
    assert call["listeners"]["items"] == {"$ref": "#/components/schemas/ListenerStats"}
    assert schemas["ListenerStats"]["properties"]["role"] == {"$ref": "#/components/schemas/ListenerRole"}
    assert schemas["CallState"]["enum"] == ["closed", "connected", "connecting", "lost"]
    assert call["session"]["$ref"] == "#/components/schemas/SessionConfig"
    kinds = [choice["$ref"].rpartition("/")[2] for choice in schemas["LegStats"]["anyOf"]]
    assert kinds == ["PeerStats", "CarrierLegStats"]
    assert {"packets", "jitter_ms"} <= schemas["PeerStats"]["properties"].keys()
    assert asyncapi()["components"]["schemas"]["LegStats"]["anyOf"] == schemas["LegStats"]["anyOf"]
