"""The API described from its own types: /openapi.json for HTTP, /asyncapi.json for events.

The schemas are those that msgspec validates with, so they cannot say anything else than the code does.
"""

from functools import cache
from typing import Any, get_args

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge import __version__
from bridge.front.secrets import ClientSecretRequest
from bridge.wire.client_events import ClientEvent
from bridge.wire.server_events import ErrorDetail, ServerEvent
from bridge.wire.sessions import SessionConfig

__all__ = ["asyncapi", "description_routes", "openapi", "server_event_types"]

_REF = "#/components/schemas/{name}"
_INFO = {"title": "bridge", "version": __version__, "license": {"name": "Apache-2.0"}}
_SDP = "application/sdp"


class ClientSecret(Struct, frozen=True):
    """A key for clients."""

    value: str
    expires_at: int
    session: SessionConfig


class ErrorBody(Struct, frozen=True):
    """Why a request was refused."""

    error: ErrorDetail


class OfferForm(Struct, frozen=True):
    """An offer and the session that it is for."""

    sdp: str
    session: SessionConfig | None = None


class Call(Struct, frozen=True):
    """A running call."""

    id: str
    session_id: str
    state: str
    transport: str
    model: str
    started_at: float
    seconds: float
    listeners: list[dict[str, Any]]
    peer: dict[str, Any] | None
    object: str = "realtime.call"


class CallList(Struct, frozen=True):
    """All calls that the key may see."""

    data: list[Call]
    object: str = "list"


# method, path, what it does, request type or media type, status, response type or media type
_DOORS: list[tuple[str, str, str, Any, int, Any]] = [
    ("post", "/v1/realtime/calls", "Offer in, answer out.", _SDP, 201, _SDP),
    ("post", "/v1/realtime", "The same, in the beta dialect.", _SDP, 201, _SDP),
    ("post", "/v1/realtime/calls/{call_id}/hangup", "Ends the call.", None, 200, None),
    ("delete", "/v1/realtime/calls/{call_id}", "Ends the call.", None, 200, None),
    ("post", "/v1/realtime/client_secrets", "A key for clients.", ClientSecretRequest, 200, ClientSecret),
    ("post", "/v1/realtime/sessions", "A beta key: a minute, one connection.", dict, 200, dict),
    ("post", "/v1/realtime/transcription_sessions", "The same for transcription.", dict, 200, dict),
    ("get", "/session", "A beta key for a page of an allowed origin.", None, 200, dict),
    *(
        ("post", f"/v1/realtime/calls/{{call_id}}/{verb}", "Of SIP calls, which are not taken here.", None, 501, None)
        for verb in ("accept", "reject", "refer")
    ),
    ("get", "/v1/calls", "The running calls.", None, 200, CallList),
    ("get", "/v1/calls/{call_id}", "One running call.", None, 200, Call),
    ("get", "/healthz", "Whether calls are taken.", None, 200, "text/plain"),
]


def server_event_types() -> list[type[ServerEvent]]:
    """Every server event, by name."""
    return sorted(ServerEvent.__subclasses__(), key=lambda kind: str(kind.__struct_config__.tag))


def description_routes() -> list[Route]:
    """The two documents."""
    return [
        Route("/openapi.json", _serve(openapi), methods=["GET"]),
        Route("/asyncapi.json", _serve(asyncapi), methods=["GET"]),
    ]


@cache
def openapi() -> dict[str, Any]:
    """The HTTP doors."""
    kinds = [ErrorBody, OfferForm, *(kind for door in _DOORS for kind in (door[3], door[5]) if _is_struct(kind))]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for method, path, summary, request, status, response in _DOORS:
        operation: dict[str, Any] = {
            "summary": summary,
            "responses": {
                str(status): {"description": "Done.", **_content(response, by_kind)},
                "default": {"description": "Refused.", **_content(ErrorBody, by_kind)},
            },
        }
        if request is not None:
            operation["requestBody"] = {"required": True, **_content(request, by_kind)}
        if request == _SDP:
            operation["requestBody"]["content"]["multipart/form-data"] = {"schema": by_kind[OfferForm]}
        if "{call_id}" in path:
            operation["parameters"] = [
                {"name": "call_id", "in": "path", "required": True, "schema": {"type": "string"}}
            ]
        paths.setdefault(path, {})[method] = operation
    security = {"bearer": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": _INFO,
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": security},
    }


@cache
def asyncapi() -> dict[str, Any]:
    """The events of ``/v1/realtime`` and of the data channel ``oai-events``, GA dialect."""
    client = list(get_args(ClientEvent))
    server = server_event_types()
    schemas, components = msgspec.json.schema_components([*client, *server], ref_template=_REF)
    names = [str(kind.__struct_config__.tag) for kind in (*client, *server)]
    messages = {
        name: {"name": name, "summary": (kind.__doc__ or "").splitlines()[0], "payload": schema}
        for name, kind, schema in zip(names, (*client, *server), schemas, strict=True)
    }
    channel = "#/channels/realtime/messages/"
    return {
        "asyncapi": "3.0.0",
        "info": _INFO,
        "channels": {
            "realtime": {
                "address": "/v1/realtime",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            }
        },
        "operations": {
            "clientEvents": _operation("receive", names[: len(client)], channel),
            "serverEvents": _operation("send", names[len(client) :], channel),
        },
        "components": {"messages": messages, "schemas": components},
    }


def _operation(action: str, names: list[str], channel: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/realtime"},
        "messages": [{"$ref": f"{channel}{name}"} for name in names],
    }


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _content(kind: Any, by_kind: dict[Any, Any]) -> dict[str, Any]:
    """The ``content`` of a body: a media type by its name, a type by its schema."""
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
