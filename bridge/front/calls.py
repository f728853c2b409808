"""HTTP doors of calls: an offer comes in, an answer goes out; calls are listed and hung up."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.errors import BadOffer, BadRequest
from bridge.front.keys import Keys
from bridge.peer.endpoint import Endpoint
from bridge.peer.sdp import MAX_SDP_BYTES, parse_offer
from bridge.session.registry import Registry

__all__ = ["call_routes"]

_BODY_TIMEOUT_S = 10.0
_DEFAULT_MODEL = "default"


def call_routes(registry: Registry, endpoint: Endpoint, keys: Keys) -> list[Route]:
    """The routes of ``/v1/realtime/calls`` and ``/v1/calls``."""

    async def create(request: Request) -> Response:
        keys.admit(request.headers)
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/sdp":
            raise BadRequest("Send the offer as Content-Type: application/sdp.", param="Content-Type")
        offer = parse_offer(await _body(request))
        session = registry.open(model=request.query_params.get("model", _DEFAULT_MODEL), transport="webrtc")
        peer, answer = endpoint.accept(offer, session)
        session.attach_leg(peer)
        location = f"/v1/realtime/calls/{session.info.call_id}"
        return Response(answer, 201, {"Location": location}, media_type="application/sdp")

    async def hang_up(request: Request) -> Response:
        keys.admit(request.headers)
        registry.find(request.path_params["call_id"]).close("hangup")
        return Response(status_code=200)

    async def list_calls(request: Request) -> Response:
        keys.admit(request.headers)
        return JSONResponse({"object": "list", "data": [session.describe() for session in registry.sessions]})

    async def show_call(request: Request) -> Response:
        keys.admit(request.headers)
        return JSONResponse(registry.find(request.path_params["call_id"]).describe())

    return [
        Route("/v1/realtime/calls", create, methods=["POST"]),
        Route("/v1/realtime", create, methods=["POST"]),
        Route("/v1/realtime/calls/{call_id}/hangup", hang_up, methods=["POST"]),
        Route("/v1/realtime/calls/{call_id}", hang_up, methods=["DELETE"]),
        Route("/v1/calls", list_calls, methods=["GET"]),
        Route("/v1/calls/{call_id}", show_call, methods=["GET"]),
    ]


async def _body(request: Request) -> bytes:
    """The request's body, read no further than an SDP may be long and no longer than a client may take."""
    body = b""
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_SDP_BYTES:
                    raise BadOffer(f"The SDP is over the limit of {MAX_SDP_BYTES} bytes.", param="sdp")
    except TimeoutError:
        raise BadRequest(f"The body did not arrive within {_BODY_TIMEOUT_S:g} s.") from None
    return body
