"""The endpoints of the Live protocol, below ``/v1/live/sessions``. Their errors are OpenAI's, as everywhere here."""

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from bridge.api.attach import serve_place
from bridge.api.body import read_json
from bridge.api.calls import RESUME_KEY, terms_of
from bridge.api.keys import Keys
from bridge.api.operation import Operation
from bridge.api.secrets import read_request
from bridge.api.shapes import (
    LiveAcceptRequest,
    LiveCreated,
    LiveCreateRequest,
    LiveRejectRequest,
    LiveSessionId,
    LiveTransport,
    ReferRequest,
)
from bridge.api.socket import KeyShares, SocketSink, deny
from bridge.calls.handles import SocketPlace
from bridge.calls.keys import Grant
from bridge.calls.live import StoredContent
from bridge.calls.service import CallService
from bridge.calls.terms import Terms
from bridge.context import TraceContext, address_of
from bridge.errors import BadOffer, BadRequest, BridgeError, Forbidden
from bridge.wire.stats import Dialect

__all__ = ["OPERATIONS", "RecordingResponse", "live_routes"]

_SESSIONS = "/v1/live/sessions"
_SESSION = f"{_SESSIONS}/{{call_id}}"
_GRACEFUL = ("", "true", "false", "1", "0")


OPERATIONS = [
    Operation(
        method="post",
        path=_SESSIONS,
        summary="Opens a Live session over WebRTC. The answer comes once the session has started.",
        request=LiveCreateRequest,
        status=201,
        response=LiveCreated,
    ),
    Operation(
        method="get",
        path=_SESSIONS,
        summary="A WebSocket of Live events. The client sends `session.start` first. See /asyncapi.json.",
        status=101,
    ),
    Operation(
        method="get",
        path=f"{_SESSION}/attach",
        summary="A sideband of a Live session: a WebSocket with its events and sound. See /asyncapi.json.",
        status=101,
    ),
    Operation(method="post", path=f"{_SESSION}/hangup", summary="Ends the Live session."),
    Operation(
        method="post",
        path=f"{_SESSION}/accept",
        summary="Accepts an incoming telephone call with this Live session; see `incoming_wait`.",
        request=LiveAcceptRequest,
    ),
    Operation(
        method="post",
        path=f"{_SESSION}/reject",
        summary="Rejects an incoming telephone call.",
        request=LiveRejectRequest,
    ),
    Operation(
        method="post",
        path=f"{_SESSION}/refer",
        summary="Transfers an incoming or running telephone call to somebody else, if its carrier supports that.",
        request=ReferRequest,
    ),
    Operation(method="get", path=f"{_SESSION}/content", summary="The recording of a stored session, if there is one."),
    Operation(method="post", path=f"{_SESSION}/fork", summary="Opens a new session that continues a stored one."),
    Operation(
        method="get",
        path=f"{_SESSION}/fork",
        summary="A new session that continues a stored one, as a WebSocket of Live events.",
        status=101,
    ),
]


def live_routes(calls: CallService, keys: Keys) -> list[BaseRoute]:
    """Makes the routes; what is wrong with a request is said before the upgrade, as an HTTP error."""
    shares = KeyShares()

    async def sessions(websocket: WebSocket) -> None:
        await serve(websocket, opening)

    async def attach(websocket: WebSocket) -> None:
        await serve(websocket, attaching)

    async def serve(websocket: WebSocket, find: Any) -> None:
        try:
            grant = await keys.admit(websocket.headers)
            place: SocketPlace = await find(websocket, grant)
        except BridgeError as error:
            await deny(websocket, error)
            return
        SocketSink.of(websocket.scope).work.share.join(shares.of(grant.key_id))
        place.bind_task()
        await serve_place(websocket, place)

    async def opening(websocket: WebSocket, grant: Grant) -> SocketPlace:
        grant.require_owner()
        for name in websocket.query_params:
            raise BadRequest("Parameters of a Live session go into session.start, not into the URL.", param=name)
        return await calls.live.place(_terms(grant, websocket))

    async def attaching(websocket: WebSocket, grant: Grant) -> SocketPlace:
        if websocket.query_params.get("graceful_close", "") not in _GRACEFUL:
            raise BadRequest("'graceful_close' must be true or false.", param="graceful_close")
        return await calls.live.place_for_sideband(grant, websocket.path_params["call_id"])

    async def forking(websocket: WebSocket, grant: Grant) -> SocketPlace:
        terms = calls.live.fork(grant, _terms(grant, websocket), websocket.path_params["call_id"])
        return await calls.live.place(terms)

    async def fork_socket(websocket: WebSocket) -> None:
        await serve(websocket, forking)

    async def create(request: Request) -> Response:
        grant = await keys.admit(request.headers)
        grant.require_owner()
        _terms(grant, request)  # so that a key is refused before a byte of the body is read
        session, sdp = _offered(await read_json(request))
        grant = await keys.admit(request.headers)
        return await answered(_terms(grant, request), session, sdp)

    async def fork(request: Request) -> Response:
        grant = await keys.admit(request.headers)
        terms = calls.live.fork(grant, _terms(grant, request), request.path_params["call_id"])
        body = await read_json(request)
        session, sdp = _offered({"session": {}, **body} if isinstance(body, dict) else body)
        return await answered(terms, session, sdp)

    async def answered(terms: Terms, session: Any, sdp: str) -> Response:
        try:
            answer = await calls.live.start_with_offer(terms, session, sdp.encode())
        except BadOffer as error:
            raise BadOffer(error.message, code="invalid_offer", param="transport.sdp") from None
        created = LiveCreated(session=LiveSessionId(id=answer.call_id), transport=LiveTransport(sdp=answer.sdp))
        headers = {RESUME_KEY: answer.resume_key} if answer.resume_key else {}
        return Response(msgspec.json.encode(created), 201, headers, media_type="application/json")

    async def hang_up(request: Request) -> Response:
        grant = await keys.admit(request.headers)
        grant.require_owner()
        await calls.hang_up(grant, request.path_params["call_id"])
        return Response(status_code=200)

    async def accept(request: Request) -> Response:
        grant = await keys.admit_admin(request.headers)
        body = await read_json(request)
        session = body.get("session") if isinstance(body, dict) else None
        await calls.live.accept(grant, request.path_params["call_id"], session)
        return Response(status_code=200)

    async def reject(request: Request) -> Response:
        grant = await keys.admit_admin(request.headers)
        wanted, _ = read_request(await read_json(request), LiveRejectRequest)
        await calls.incoming.reject(grant, request.path_params["call_id"], wanted.status_code)
        return Response(status_code=200)

    async def refer(request: Request) -> Response:
        grant = await keys.admit_admin(request.headers)
        wanted, _ = read_request(await read_json(request), ReferRequest)
        await calls.incoming.refer(grant, request.path_params["call_id"], wanted.target_uri)
        return Response(status_code=200)

    async def content(request: Request) -> Response:
        grant = await keys.admit(request.headers)
        asked = request.headers.get("range")
        async with AsyncExitStack() as stack:
            entering = calls.live.content(grant, request.path_params["call_id"], range_header=asked)
            recording = await stack.enter_async_context(entering)
            return RecordingResponse(recording, stack.pop_all())

    return [
        WebSocketRoute(_SESSIONS, sessions),
        WebSocketRoute(f"{_SESSION}/attach", attach),
        WebSocketRoute(f"{_SESSION}/fork", fork_socket),
        Route(_SESSIONS, create, methods=["POST"]),
        Route(f"{_SESSION}/hangup", hang_up, methods=["POST"]),
        Route(f"{_SESSION}/accept", accept, methods=["POST"]),
        Route(f"{_SESSION}/reject", reject, methods=["POST"]),
        Route(f"{_SESSION}/refer", refer, methods=["POST"]),
        Route(f"{_SESSION}/fork", fork, methods=["POST"]),
        Route(f"{_SESSION}/content", content, methods=["GET"]),
    ]


class RecordingResponse(StreamingResponse):
    """A recording on its way to a client; ``source`` is closed as soon as nobody reads it, however that comes."""

    def __init__(self, recording: StoredContent, source: AsyncExitStack) -> None:
        super().__init__(recording.chunks, recording.status, dict(recording.headers))
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._source:
            await super().__call__(scope, receive, send)


def _terms(grant: Grant, connection: HTTPConnection) -> Terms:
    if grant.config is not None and grant.config.config.type in ("transcription", "translation"):
        raise Forbidden(f"This key is for a {grant.config.config.type}; it cannot open a Live session.")
    terms = terms_of(grant, None, model=None, dialect=Dialect.GA)
    return replace(terms, caller=address_of(connection.client), trace=TraceContext.of(connection.headers))


def _offered(body: Any) -> tuple[Any, str]:
    """Returns the session and the SDP of a request; raises ``BadRequest``, which names the field."""
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.", code="invalid_value", param="body")
    for name in body:
        if name not in ("session", "transport"):
            raise BadRequest(f"Unknown parameter: '{name[:64]}'.", code="unknown_parameter", param=name[:64])
    for name in ("session", "transport"):
        if name not in body:
            raise BadRequest(f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)
    transport = body["transport"]
    if not isinstance(transport, dict) or transport.get("type") != "webrtc":
        raise BadRequest("Only the webrtc transport is supported.", code="invalid_value", param="transport.type")
    sdp = transport.get("sdp")
    if not isinstance(sdp, str) or not sdp.strip():
        raise BadRequest("'transport.sdp' must be an SDP offer.", code="invalid_value", param="transport.sdp")
    return body["session"], sdp
