"""The API described from its own types: /openapi.json for HTTP, /asyncapi.json for events.

The schemas are those that msgspec validates with, so they cannot say anything else than the code does.
"""

import re
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, get_args

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge import __version__
from bridge.api.calls import RESUME_KEY, WARNING
from bridge.api.ice_servers import IceServerList
from bridge.api.live import OPERATIONS as LIVE_OPERATIONS
from bridge.api.operation import LOCATION, Operation
from bridge.api.patching import FRAGMENT, ICE_HEADERS, SDP
from bridge.api.secrets import BetaRequest, ClientSecretRequest, TranslationSecretRequest
from bridge.api.shapes import (
    BetaSession,
    CallList,
    CallListQuery,
    CallQuery,
    ClientSecret,
    ErrorBody,
    HeardInput,
    Model,
    ModelList,
    OfferForm,
    PageQuery,
    ReferRequest,
    RejectRequest,
    ResumeQuery,
    SocketQuery,
    TranslationQuery,
    TranslationSecret,
    WatchQuery,
)
from bridge.api.whep import OPERATIONS as WHEP_OPERATIONS
from bridge.api.whip import OPERATIONS as WHIP_OPERATIONS
from bridge.wire.audio import PACKETS
from bridge.wire.binary import FORMAT_NUMBERS
from bridge.wire.client_events import ClientEvent
from bridge.wire.live.client_events import live_client_event_types
from bridge.wire.live.server_events import live_server_event_types
from bridge.wire.own_events import server_event_types
from bridge.wire.sessions import SessionConfig
from bridge.wire.stats import CallStats, CarrierLegStats, LegStats, PeerStats, RecordingStats
from bridge.wire.translations import CLIENT_EVENTS as TRANSLATION_CLIENT_EVENTS
from bridge.wire.translations import SERVER_EVENTS as TRANSLATION_SERVER_EVENTS

__all__ = ["asyncapi", "description_routes", "openapi"]

_LEGS = (PeerStats, CarrierLegStats)
_REF = "#/components/schemas/{name}"
_INFO = {"title": "bridge", "version": __version__, "license": {"name": "Apache-2.0"}}
_SPELLINGS = (
    "`/openai/v1/realtime…` and `/openai/v1/models` are the same as those without `/openai`; `/openai/realtime` is "
    "`/v1/realtime` in the beta dialect, with the model in `deployment`. There, `api-version` is ignored, and the key "
    "may be in the URL as `api-key`. Double and trailing slashes are accepted."
)
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
    "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


_SOUND = {
    "name": "bridge.sound",
    "title": "Sound in a binary message",
    "summary": "Sound for listeners with `framing=binary`.",
    "description": "Big-endian: version (1 byte, 1), track (1: 0 input, 1 output), format (1: "
    f"{', '.join(f'{number} {name}' for name, number in FORMAT_NUMBERS.items())}), rate in kHz (1), sequence (4), "
    "timestamp (8: number of samples of the track before these). "
    f"After the header: samples, or {PACKETS}; for Opus, nothing if packets were lost.",
    "contentType": "application/octet-stream",
    "payload": {"type": "string", "format": "binary"},
}
_OF_CALLS = [
    "bridge.calls",
    "bridge.call.incoming",
    "bridge.call.settled",
    "bridge.call.opened",
    "bridge.call.closed",
    "bridge.recording.started",
    "bridge.recording.ended",
    "bridge.upstream.dialled",
    "bridge.upstream.down",
    "bridge.upstream.up",
    "error",
]
_LIVE_CHANNELS = {
    "live": "/v1/live/sessions",
    "liveSideband": "/v1/live/sessions/{call_id}/attach",
    "liveFork": "/v1/live/sessions/{call_id}/fork",
}
_RESUME = {RESUME_KEY: "A secret of this call. An offer that shows it replaces a peer that was lost."}
_WARNING = {
    WARNING: "Parts of the offer that could not be used: a code and a sentence each, as in the call's `warnings`."
}
_BETA_KEY: dict[str, Any] = {"request": BetaRequest, "response": BetaSession}
_OFFER: dict[str, Any] = {
    "request": SDP, "takes_form": True, "status": 201, "response": SDP,
    "query": CallQuery, "headers": LOCATION | ICE_HEADERS | _RESUME | _WARNING
}  # fmt: skip
_CALL = "/v1/realtime/calls/{call_id}"
_OPERATIONS = [
    Operation(
        method="post",
        path="/v1/realtime/calls",
        summary="Opens a call: the request is an SDP offer, the response its answer.",
        **_OFFER,
    ),
    Operation(method="post", path="/v1/realtime", summary="Opens a call in the beta dialect.", **_OFFER),
    Operation(
        method="get",
        path="/v1/realtime",
        summary="A WebSocket of Realtime events: a new session, or a listener on a running call. See /asyncapi.json.",
        status=101,
        query=SocketQuery,
    ),
    Operation(method="post", path=f"{_CALL}/hangup", summary="Ends the call."),
    Operation(method="delete", path=_CALL, summary="Ends the call."),
    Operation(
        method="post",
        path=_CALL,
        summary="Reconnects a call: an ICE restart, or another peer. Needs the call's `Bridge-Resume-Key`.",
        **_OFFER | {"query": ResumeQuery},
    ),
    Operation(
        method="patch",
        path=_CALL,
        summary="Adds ICE candidates (204) or restarts ICE (200), with `If-Match`; or takes another offer from the "
        "same peer.",
        request=FRAGMENT,
        other_request=SDP,
        response=FRAGMENT,
        headers=ICE_HEADERS,
    ),
    Operation(
        method="post",
        path=f"{_CALL}/accept",
        summary="Accepts an incoming telephone call with this session; see `incoming_wait`.",
        request=SessionConfig,
    ),
    Operation(
        method="post",
        path=f"{_CALL}/reject",
        summary="Rejects an incoming telephone call.",
        request=RejectRequest,
    ),
    Operation(
        method="post",
        path=f"{_CALL}/refer",
        summary="Transfers an incoming or running telephone call to somebody else, if its carrier supports that.",
        request=ReferRequest,
    ),
    Operation(
        method="post",
        path="/v1/realtime/client_secrets",
        summary="Mints a key for a client.",
        request=ClientSecretRequest,
        response=ClientSecret,
    ),
    Operation(
        method="post",
        path="/v1/realtime/translations/client_secrets",
        summary="Mints a key that is valid for translations only.",
        request=TranslationSecretRequest,
        response=TranslationSecret,
    ),
    Operation(
        method="get",
        path="/v1/realtime/translations",
        summary="A WebSocket for a translation: sound in; sound in another language and its words out. See "
        "/asyncapi.json.",
        status=101,
        query=TranslationQuery,
    ),
    Operation(
        method="post",
        path="/v1/realtime/translations/calls",
        summary="Opens a translation over WebRTC. With a key for translations, `/v1/realtime/calls` does the same.",
        **_OFFER | {"query": TranslationQuery},
    ),
    Operation(
        method="post",
        path="/v1/realtime/sessions",
        summary="Mints a beta key, which is good for one connection.",
        **_BETA_KEY,
    ),
    Operation(
        method="post",
        path="/v1/realtime/transcription_sessions",
        summary="Mints a beta key for a transcription session.",
        **_BETA_KEY,
    ),
    Operation(
        method="get",
        path="/session",
        summary="Gives a beta key to a page of an allowed origin; see `page_keys`.",
        response=BetaSession,
        query=PageQuery,
        is_public=True,
    ),
    Operation(
        method="get",
        path="/v1/realtime/ice_servers",
        summary="The TURN servers for a caller, with credentials that expire. Needs a key that may make calls.",
        response=IceServerList,
    ),
    Operation(method="get", path="/v1/models", summary="The models that the upstreams serve.", response=ModelList),
    Operation(method="get", path="/v1/models/{model}", summary="One model.", response=Model),
    Operation(
        method="get",
        path="/v1/calls",
        summary="The running calls, or with `ended=1` the calls that ended last.",
        response=CallList,
        query=CallListQuery,
    ),
    Operation(method="get", path="/v1/calls/{call_id}", summary="One running call.", response=CallStats),
    Operation(
        method="post",
        path="/v1/calls/{call_id}/recording",
        summary="Starts recording the call; if it is being recorded already, returns that recording. Needs an API key.",
        status=201,
        response=RecordingStats,
    ),
    Operation(
        method="delete",
        path="/v1/calls/{call_id}/recording",
        summary="Ends the recording of the call. Needs an API key.",
        response=RecordingStats,
    ),
    Operation(
        method="get",
        path="/v1/calls/events",
        summary="A WebSocket that reports which calls run, begin and end. Needs an API key. See /asyncapi.json.",
        status=101,
        query=WatchQuery,
    ),
    Operation(
        method="get",
        path="/healthz",
        summary="Answers as long as the process is alive.",
        response="text/plain",
        is_public=True,
    ),
]


def description_routes(operations: Sequence[Operation]) -> list[Route]:
    """Makes the routes of the two documents.

    ``operations`` are those of other rooms, which the HTTP server serves as well.
    """
    return [
        Route("/openapi.json", _serve(cache(partial(openapi, operations))), methods=["GET"]),
        Route("/asyncapi.json", _serve(asyncapi), methods=["GET"]),
    ]


def openapi(operations: Sequence[Operation] = ()) -> dict[str, Any]:
    """Describes the HTTP endpoints, and ``operations`` besides."""
    described = [*_OPERATIONS, *WHIP_OPERATIONS, *WHEP_OPERATIONS, *LIVE_OPERATIONS, *operations]
    kinds = {kind for operation in described for kind in (operation.request, operation.response) if _is_struct(kind)}
    ordered = sorted({ErrorBody, OfferForm, *kinds}, key=lambda kind: str(kind.__name__))
    schemas, components = _described(ordered)
    by_kind = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, Any] = {}
    for operation in described:
        paths.setdefault(operation.path, {})[operation.method] = _description(operation, by_kind)
    return {
        "openapi": "3.1.0",
        "info": _INFO | {"description": _SPELLINGS},
        "security": [{name: []} for name in _SECURITY],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


def _description(operation: Operation, by_kind: dict[Any, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done.", **_content(operation.response, by_kind)}
    if operation.headers:
        done["headers"] = {name: _header(meaning, "string") for name, meaning in operation.headers.items()}
    refused = {
        "description": "Refused.",
        "headers": {"Retry-After": _header("In seconds, with 429 and 503.", "integer")},
        **_content(ErrorBody, by_kind),
    }
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {str(operation.status): done, "default": refused},
    }
    if operation.request is not None:
        described["requestBody"] = {"required": operation.request == SDP, **_content(operation.request, by_kind)}
    if operation.other_request is not None:
        described["requestBody"]["content"] |= _content(operation.other_request, by_kind)["content"]
    if operation.takes_form:
        encoding = {"sdp": {"contentType": SDP}, "session": {"contentType": "application/json"}}
        form = {"schema": by_kind[OfferForm], "encoding": encoding}
        described["requestBody"]["content"]["multipart/form-data"] = form
    parameters = _query_parameters(operation.query) if operation.query is not None else []
    for name in re.findall(r"{(\w+)}", operation.path):
        parameters.append({"name": name, "in": "path", "required": True, "schema": {"type": "string"}})
    if parameters:
        described["parameters"] = parameters
    if operation.is_public:
        described["security"] = []
    return described


def _query_parameters(kind: type[Struct]) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": schema} for name, schema in _query_schema(kind).items()]


def _query_schema(kind: type[Struct]) -> dict[str, Any]:
    """Returns the properties of a query.

    A parameter that is left out is not described as null, which no URL can say.
    """
    properties: dict[str, Any] = {}
    for name, schema in msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"].items():
        (said,) = (choice for choice in schema["anyOf"] if choice != {"type": "null"})
        properties[name] = said if schema["default"] is None else {**said, "default": schema["default"]}
    return properties


def _described(kinds: Sequence[Any]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """Returns the schema of each kind, and all that they refer to.

    The figures of a leg are those of one kind of leg.
    """
    schemas, components = msgspec.json.schema_components([*kinds, *_LEGS], ref_template=_REF)
    components[LegStats.__name__] = {"anyOf": list(schemas[len(kinds) :]), "description": LegStats.__doc__}
    return schemas[: len(kinds)], components


def _header(meaning: str, kind: str) -> dict[str, Any]:
    return {"description": meaning, "schema": {"type": kind}}


@cache
def asyncapi() -> dict[str, Any]:
    """Describes the events of ``/v1/realtime`` and of the data channel ``oai-events``, in the GA dialect, those of
    translations, and those of Live.
    """
    client = list(get_args(ClientEvent))
    server = server_event_types()
    kinds = [*client, *server, HeardInput]
    of_translations = [*TRANSLATION_CLIENT_EVENTS, *TRANSLATION_SERVER_EVENTS]
    live_client, live_server = live_client_event_types(), live_server_event_types()
    described, components = _described([*kinds, *of_translations, *live_client, *live_server])
    schemas = described[: len(kinds) + len(of_translations)]
    ids = _message_ids(kinds)
    translation_ids = [f"translation.{name}" for name in _message_ids(of_translations)]
    messages = {
        message_id: {
            "name": str(kind.__struct_config__.tag),
            "summary": (kind.__doc__ or "").splitlines()[0],
            "payload": schema,
        }
        for message_id, kind, schema in zip([*ids, *translation_ids], [*kinds, *of_translations], schemas, strict=True)
    }
    translation_ids.append("error")
    ids.append(str(_SOUND["name"]))
    messages[ids[-1]] = _SOUND
    of_live, live = _live_messages(live_client, live_server, described[len(schemas) :])
    messages |= live
    channel = "#/channels/realtime/messages/"
    translation = "#/channels/translations/messages/"
    query, watched = _query_schema(SocketQuery), _query_schema(WatchQuery)
    translated = _query_schema(TranslationQuery)
    said = len(TRANSLATION_CLIENT_EVENTS)
    return {
        "asyncapi": "3.0.0",
        "info": _INFO,
        "channels": {
            "realtime": {
                "address": "/v1/realtime",
                "bindings": {"ws": {"method": "GET", "query": {"type": "object", "properties": query}}},
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in ids},
            },
            "translations": {
                "address": "/v1/realtime/translations",
                "bindings": {"ws": {"method": "GET", "query": {"type": "object", "properties": translated}}},
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in translation_ids},
            },
            "calls": {
                "address": "/v1/calls/events",
                "bindings": {"ws": {"method": "GET", "query": {"type": "object", "properties": watched}}},
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _OF_CALLS},
            },
            **{
                name: {"address": address, "messages": {one: {"$ref": f"#/components/messages/{one}"} for one in live}}
                for name, address in _LIVE_CHANNELS.items()
            },
        },
        "operations": {
            "clientEvents": _events("receive", ids[: len(client)], channel),
            "serverEvents": _events("send", ids[len(client) :], channel),
            "translationClientEvents": _events("receive", translation_ids[:said], translation, name="translations"),
            "translationServerEvents": _events("send", translation_ids[said:], translation, name="translations"),
            "callEvents": _events("send", _OF_CALLS, "#/channels/calls/messages/", name="calls"),
            **{
                f"{name}{side}Events": _events(action, names, f"#/channels/{name}/messages/", name=name)
                for name in _LIVE_CHANNELS
                for side, action, names in (("Client", "receive", of_live), ("Server", "send", [*live][len(of_live) :]))
            },
        },
        "components": {"messages": messages, "schemas": _without_discriminators(components)},
    }


def _message_ids(kinds: Sequence[Any]) -> list[str]:
    """Returns the names of events; of one that both sides send, the client's is told apart."""
    names = [str(kind.__struct_config__.tag) for kind in kinds]
    return [f"client.{name}" if name in names[at + 1 :] else name for at, name in enumerate(names)]


def _live_messages(
    client: Sequence[Any], server: Sequence[Any], schemas: Sequence[dict[str, Any]]
) -> tuple[list[str], dict[str, Any]]:
    """Returns the ids of the client's messages, and all messages of Live; the client's are first."""
    ids = [f"live.client.{kind.__struct_config__.tag}" for kind in client]
    ids += [f"live.{kind.__struct_config__.tag}" for kind in server]
    messages = {
        message_id: {
            "name": str(kind.__struct_config__.tag),
            "summary": (kind.__doc__ or "").splitlines()[0],
            "payload": schema,
        }
        for message_id, kind, schema in zip(ids, (*client, *server), schemas, strict=True)
    }
    return ids[: len(client)], messages


def _without_discriminators(schema: Any) -> Any:
    """Returns a schema without discriminators.

    AsyncAPI's are of another form than OpenAPI's and say less; each type names itself in its ``type`` anyway.
    """
    if isinstance(schema, list):
        return [_without_discriminators(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _without_discriminators(inner)
        for name, inner in schema.items()
        if not (name == "discriminator" and "mapping" in inner)
    }


def _events(action: str, names: list[str], channel: str, *, name: str = "realtime") -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"{channel}{message}"} for message in names],
    }


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _content(kind: Any, by_kind: dict[Any, Any]) -> dict[str, Any]:
    """Returns the ``content`` of a body: a media type by its name, a type by its schema."""
    if kind is None:
        return {}
    if isinstance(kind, str):
        return {"content": {kind: {"schema": {"type": "string"}}}}
    schema = by_kind.get(kind, {"type": "object"})
    return {"content": {"application/json": {"schema": schema}}}


def _serve(document: Any) -> Any:
    async def serve(request: Request) -> Response:
        return Response(msgspec.json.encode(document()), media_type="application/json")

    return serve
