"""WHIP: a client that publishes sound by one HTTP request, such as OBS, is the caller of a call (RFC 9725)."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.api.body import read_body
from bridge.api.calls import TRANSCRIPTION, WARNING, terms_of
from bridge.api.ice_servers import TurnServers
from bridge.api.keys import Keys
from bridge.api.operation import Operation
from bridge.api.patching import (
    ACCEPT_PATCH,
    ETAG,
    FRAGMENT,
    ICE_HEADERS,
    SDP,
    condition_of,
    ice_answer,
    media_type,
    read_fragment,
    tagged,
)
from bridge.api.shapes import CallQuery
from bridge.calls.handles import CallAnswer
from bridge.calls.keys import Grant
from bridge.calls.service import MAX_OFFER_BYTES, CallService
from bridge.context import TraceContext, address_of
from bridge.errors import BadOffer, BadRequest, NotAcceptable, NotTheMediaType

__all__ = [
    "OPERATIONS",
    "ACCEPT_POST",
    "answered",
    "by_method",
    "endpoint_options",
    "is_endpoint",
    "operations_of",
    "read_offer",
    "session_options",
    "shows_key",
    "whip_routes",
]

ACCEPT_POST = "Accept-Post"
"""The header that says which bodies an endpoint takes."""

Handler = Callable[[Request], Awaitable[Response]]

_WHIP = "/v1/whip"
_ENDPOINT = re.compile(r"/v1/(?:whip|whep/[^/]+)")
_TAKEN = ("*/*", "application/*", SDP)


_LINK = {"Link": 'A TURN server and its credentials (`rel="ice-server"`), one header per address.'}
_POSTED = {"Location": "The session, to which `PATCH` and `DELETE` go."} | ICE_HEADERS | _LINK


def operations_of(what: str, endpoint: str, session: str, query: type[Struct]) -> list[Operation]:
    """Returns the operations of an endpoint and its sessions; ``what`` says what they are, in one word."""
    accepts = {ACCEPT_POST: "The media type that an offer must have."}
    return [
        Operation(method="post", path=endpoint, summary=f"{what}: the request is an SDP offer, the response its "
                                                        "answer.", request=SDP, status=201,
                  response=SDP, query=query, headers=_POSTED),
        Operation(method="get", path=endpoint, summary="Checks that the key is valid for this endpoint.", status=204),
        Operation(method="options", path=endpoint, summary="What this endpoint accepts; with a key, also the TURN "
                                                           "servers.",
                  headers=accepts | _LINK, is_public=True),
        Operation(method="patch", path=session, request=FRAGMENT, response=FRAGMENT, headers=ICE_HEADERS,
                  summary="Adds ICE candidates (204) or restarts ICE (200), with `If-Match`."),
        Operation(method="delete", path=session, summary="Ends the session."),
        Operation(method="get", path=session, summary="Checks that the session is running.", status=204),
        Operation(method="options", path=session, summary="What this session accepts.", is_public=True,
                  headers={ACCEPT_PATCH: ICE_HEADERS[ACCEPT_PATCH]}),
    ]  # fmt: skip


OPERATIONS = operations_of("WHIP, for a publisher", _WHIP, f"{_WHIP}/{{call_id}}", CallQuery)
"""The description of the routes."""


def whip_routes(calls: CallService, keys: Keys, turn: TurnServers) -> list[Route]:
    """Makes the routes of ``/v1/whip``; answers to offers tell of the TURN servers ``turn``."""

    async def admit(request: Request) -> Grant:
        grant = await keys.admit(request.headers)
        grant.require_publisher()
        return grant

    async def publish(request: Request) -> Response:
        await admit(request)  # before a byte of the body is read
        sdp = await read_offer(request)
        grant = await admit(request)
        query = request.query_params
        intent = query.get("intent")
        if intent not in (None, "transcription"):
            raise BadRequest("'intent' must be 'transcription' if it is given.", param="intent")
        update = TRANSCRIPTION if intent is not None and grant.config is None else None
        terms = terms_of(grant, update, model=query.get("model"), dialect=grant.dialect)
        terms = replace(terms, caller=address_of(request.client), trace=TraceContext.of(request.headers))
        answer = await calls.open_to_publish(terms, sdp)
        return answered(answer, f"{_WHIP}/{answer.call_id}", turn.link_headers(grant.key_id))

    async def options(request: Request) -> Response:
        return endpoint_options(turn.link_headers((await admit(request)).key_id) if shows_key(request) else [])

    async def look(request: Request) -> Response:
        await admit(request)
        return Response(status_code=204)

    async def look_at_session(request: Request) -> Response:
        await calls.peers.require_patchable(await admit(request), request.path_params["call_id"])
        return Response(status_code=204)

    async def patch(request: Request) -> Response:
        grant, call_id = await admit(request), request.path_params["call_id"]
        await calls.peers.require_patchable(grant, call_id)  # before a byte of the body is read
        condition = condition_of(request)
        return ice_answer(await calls.peers.patch_ice(grant, call_id, await read_fragment(request), condition))

    async def end(request: Request) -> Response:
        await calls.hang_up(await admit(request), request.path_params["call_id"])
        return Response(status_code=200)

    return [
        by_method(_WHIP, POST=publish, GET=look, OPTIONS=options),
        by_method(f"{_WHIP}/{{call_id}}", PATCH=patch, DELETE=end, GET=look_at_session, OPTIONS=session_options),
    ]


def by_method(path: str, **handlers: Handler) -> Route:
    """Makes one route, so that the refusal of another method names all that there are (RFC 9110 section 15.5.6)."""

    async def serve(request: Request) -> Response:
        return await handlers[request.method if request.method != "HEAD" else "GET"](request)

    return Route(path, serve, methods=list(handlers))


def is_endpoint(path: str) -> bool:
    """Whether offers are posted there by WHIP or WHEP."""
    return _ENDPOINT.fullmatch(path) is not None


async def read_offer(request: Request) -> bytes:
    """Returns the SDP of an offer.

    Raises ``NotTheMediaType`` if the body is none, ``NotAcceptable`` if the answer would not be taken.
    """
    if media_type(request) != SDP:
        raise NotTheMediaType(f"Send the offer as Content-Type: {SDP}.", param="Content-Type")
    accept = request.headers.get("accept", "*/*")
    if not any(part.partition(";")[0].strip().lower() in _TAKEN for part in accept.split(",")):
        raise NotAcceptable(f"The answer is {SDP}, which the Accept header does not allow.", param="Accept")
    return await read_body(request, MAX_OFFER_BYTES, too_long=BadOffer, param="sdp")


def answered(answer: CallAnswer, location: str, links: list[str]) -> Response:
    """Returns 201 with the answer, the session's address and tag, and ``links`` to TURN servers."""
    headers = {"Location": location, ETAG: tagged(answer.tag), ACCEPT_PATCH: FRAGMENT}
    if answer.warnings:
        headers[WARNING] = "; ".join(f"{warning.code}: {warning.message}" for warning in answer.warnings)
    response = Response(answer.sdp, 201, headers, media_type=SDP)
    return _with_links(response, links)


def endpoint_options(links: list[str]) -> Response:
    """Returns what an endpoint takes; ``links`` lead to TURN servers for those that need them before their offer."""
    return _with_links(Response(headers={"Allow": "POST, GET, HEAD, OPTIONS", ACCEPT_POST: SDP}), links)


async def session_options(request: Request) -> Response:
    """Returns what a session takes."""
    return Response(headers={"Allow": "PATCH, DELETE, GET, HEAD, OPTIONS", ACCEPT_PATCH: FRAGMENT})


def shows_key(request: Request) -> bool:
    """Whether the request shows a key; an ``OPTIONS`` of a browser shows none."""
    return "authorization" in request.headers


def _with_links(response: Response, links: list[str]) -> Response:
    for link in links:
        response.headers.append("Link", link)
    if links:
        response.headers["Cache-Control"] = "no-store"
    return response
