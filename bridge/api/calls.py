"""HTTP endpoints of calls: an offer comes in, an answer goes out; calls are listed and hung up."""

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.api.body import json_response, read_body, read_form, read_json
from bridge.api.keys import Keys, dialect_of
from bridge.api.patching import (
    ACCEPT_PATCH,
    ETAG,
    FRAGMENT,
    SDP,
    condition_of,
    ice_answer,
    media_type,
    read_fragment,
    tagged,
)
from bridge.api.secrets import read_request
from bridge.api.shapes import CallList, ReferRequest, RejectRequest
from bridge.calls.conditions import IfMatch
from bridge.calls.handles import CallAnswer
from bridge.calls.keys import Grant
from bridge.calls.service import MAX_OFFER_BYTES, CallService
from bridge.calls.terms import Terms
from bridge.context import TraceContext, address_of
from bridge.errors import BadOffer, BadRequest
from bridge.wire.checks import require_shallow
from bridge.wire.client_events import decode_json, read_session
from bridge.wire.dialects.beta import Beta, session_to_ga
from bridge.wire.sessions import SessionConfig, SessionRequest
from bridge.wire.stats import Dialect
from bridge.wire.translations import read_translation

__all__ = [
    "RESUME_KEY",
    "TRANSCRIPTION",
    "WARNING",
    "call_answered",
    "call_routes",
    "read_call_offer",
    "read_form_session",
    "terms_of",
]

TRANSCRIPTION = SessionRequest.of(SessionConfig(type="transcription"))
"""The session that ``intent=transcription`` on a URL asks for."""

WARNING = "Bridge-Warning"
"""The header that says what of the offer could not be used."""
RESUME_KEY = "Bridge-Resume-Key"
"""The header that brings the call's resume key, and that shows it again."""

_MAX_QUERY_CHARS = 256
_FORM = "multipart/form-data"


def call_routes(calls: CallService, keys: Keys) -> list[Route]:
    """Makes the routes of ``/v1/realtime/calls`` and ``/v1/calls``."""

    async def create(request: Request) -> Response:
        return await open_call(request)

    async def create_beta(request: Request) -> Response:
        return await open_call(request, asks_in_beta=True)

    async def open_call(request: Request, *, asks_in_beta: bool = False) -> Response:
        grant = await keys.admit(request.headers)
        grant.require_owner()  # before a byte of the body is read
        sdp, text = await read_call_offer(request)
        grant = await keys.admit(request.headers)
        dialect = Dialect.BETA if asks_in_beta else dialect_of(request.headers, Grant())
        beta = Beta()
        update = (
            read_form_session(text, beta if dialect is Dialect.BETA else None)
            if text and grant.config is None
            else None
        )
        query = request.query_params
        if update is None and grant.config is None and query.get("intent") == "transcription":
            update = TRANSCRIPTION
        terms = replace(
            terms_of(grant, update, model=query.get("model"), dialect=dialect),
            caller=address_of(request.client),
            trace=TraceContext.of(request.headers),
        )
        if update is not None:
            terms = replace(terms, temperature=beta.temperature, metadata=beta.metadata)
        return call_answered(await calls.open_with_offer(terms, sdp))

    async def resume(request: Request) -> Response:
        grant, call_id = await keys.admit(request.headers), request.path_params["call_id"]
        resume_key = request.headers.get(RESUME_KEY, "")
        await calls.require_resumable(grant, call_id, resume_key)  # before a byte of the body is read
        sdp, _ = await read_call_offer(request)
        after = request.query_params.get("after")
        return call_answered(await calls.resume_with_offer(grant, call_id, resume_key, sdp, after=after))

    async def patch(request: Request) -> Response:
        grant, call_id = await keys.admit(request.headers), request.path_params["call_id"]
        grant.require_owner()
        await calls.peers.require_patchable(grant, call_id)  # before a byte of the body is read
        if media_type(request) == SDP:
            condition = IfMatch.parse(request.headers["if-match"]) if "if-match" in request.headers else None
            sdp, _ = await read_call_offer(request)
            return call_answered(await calls.peers.renegotiate(grant, call_id, sdp, condition), status=200)
        condition = condition_of(request)
        fragment = await read_fragment(request, others=f", or another offer as {SDP}")
        return ice_answer(await calls.peers.patch_ice(grant, call_id, fragment, condition))

    async def hang_up(request: Request) -> Response:
        grant = await keys.admit(request.headers)
        grant.require_owner()
        await calls.hang_up(grant, request.path_params["call_id"])
        return Response(status_code=200)

    async def list_calls(request: Request) -> Response:
        grant = await keys.admit(request.headers)
        ended, wanted = (request.query_params.get(name, "") for name in ("ended", "q"))
        if ended not in ("", "0", "1"):
            raise BadRequest("'ended' must be 0 or 1.", param="ended")
        if len(wanted) > _MAX_QUERY_CHARS:
            raise BadRequest(f"'q' may have at most {_MAX_QUERY_CHARS} characters.", param="q")
        return json_response(CallList(data=await calls.list_calls(grant, wanted, ended=ended == "1")))

    async def show_call(request: Request) -> Response:
        return json_response(await calls.show_call(await keys.admit(request.headers), request.path_params["call_id"]))

    async def start_recording(request: Request) -> Response:
        grant = await keys.admit(request.headers)
        return json_response(await calls.start_recording(grant, request.path_params["call_id"]), 201)

    async def stop_recording(request: Request) -> Response:
        grant = await keys.admit(request.headers)
        return json_response(await calls.stop_recording(grant, request.path_params["call_id"]))

    async def accept(request: Request) -> Response:
        grant, call_id = await keys.admit_admin(request.headers), request.path_params["call_id"]
        await calls.incoming.accept(grant, call_id, read_session(await read_json(request), "body"))
        return Response(status_code=200)

    async def reject(request: Request) -> Response:
        grant, call_id = await keys.admit_admin(request.headers), request.path_params["call_id"]
        wanted, _ = read_request(await read_json(request), RejectRequest)
        await calls.incoming.reject(grant, call_id, wanted.status_code)
        return Response(status_code=200)

    async def refer(request: Request) -> Response:
        grant, call_id = await keys.admit_admin(request.headers), request.path_params["call_id"]
        wanted, _ = read_request(await read_json(request), ReferRequest)
        await calls.incoming.refer(grant, call_id, wanted.target_uri)
        return Response(status_code=200)

    call = "/v1/realtime/calls/{call_id}"
    return [
        Route("/v1/realtime/calls", create, methods=["POST"]),
        Route("/v1/realtime", create_beta, methods=["POST"]),
        Route(f"{call}/hangup", hang_up, methods=["POST"]),
        Route(call, hang_up, methods=["DELETE"]),
        Route(call, resume, methods=["POST"]),
        Route(call, patch, methods=["PATCH"]),
        Route(f"{call}/accept", accept, methods=["POST"]),
        Route(f"{call}/reject", reject, methods=["POST"]),
        Route(f"{call}/refer", refer, methods=["POST"]),
        Route("/v1/calls", list_calls, methods=["GET"]),
        Route("/v1/calls/{call_id}", show_call, methods=["GET"]),
        Route("/v1/calls/{call_id}/recording", start_recording, methods=["POST"]),
        Route("/v1/calls/{call_id}/recording", stop_recording, methods=["DELETE"]),
    ]


def call_answered(answer: CallAnswer, status: int = 201) -> Response:
    """Returns the answer to an offer, with the call's address, tag and resume key."""
    headers = {
        "Location": f"/v1/realtime/calls/{answer.call_id}",
        ETAG: tagged(answer.tag),
        ACCEPT_PATCH: f"{FRAGMENT}, {SDP}",
    }
    if answer.resume_key:
        headers[RESUME_KEY] = answer.resume_key
    if answer.warnings:
        headers[WARNING] = "; ".join(f"{warning.code}: {warning.message}" for warning in answer.warnings)
    return Response(answer.sdp, status, headers, media_type=SDP)


def terms_of(grant: Grant, update: SessionRequest | None, *, model: str | None, dialect: Dialect) -> Terms:
    """Returns what a session starts with: the key's own session if it has one, else what the request asks for.

    Gateways write a session into every request. If the key stands for one, whoever minted the key chose it, and it
    stays.
    """
    if grant.config is not None:
        update = None
    elif update is not None and isinstance(update.config.model, str):
        model = update.config.model
    return Terms(
        model=model,
        config=grant.config,
        update=update,
        dialect=dialect if grant.dialect is Dialect.GA else grant.dialect,
        temperature=grant.temperature,
        metadata=grant.metadata,
        key_id=grant.key_id,
        token=grant.token,
        max_duration_s=grant.max_duration_s,
        idle_timeout_s=grant.idle_timeout_s,
    )


def read_form_session(text: bytes, beta: Beta | None) -> SessionRequest | None:
    """Returns the session that a form asks for, in the dialect of its endpoint.

    None if it asks for nothing, as null does.
    """
    session = decode_json(text)
    if session is None:
        return None
    require_shallow(session)
    if isinstance(session, dict) and session.get("type") == "translation":
        return read_translation(session)
    if beta is None:
        return read_session(session)
    if not isinstance(session, dict):
        raise BadRequest("'session' must be a JSON object.", param="session")
    return session_to_ga(session, beta, prefix="session.")


async def read_call_offer(request: Request) -> tuple[bytes, bytes | None]:
    """Returns the SDP, and perhaps a session as JSON, from a raw body or a form."""
    content_type = media_type(request)
    if content_type == SDP:
        return await read_body(request, MAX_OFFER_BYTES, too_long=BadOffer, param="sdp"), None
    if content_type != _FORM:
        raise BadRequest(f"Send the offer as Content-Type: {SDP}, or in a {_FORM}.", param="Content-Type")
    parts = await read_form(request)
    if "sdp" not in parts:
        raise BadOffer("The form has no 'sdp' part.", param="sdp")
    return parts["sdp"], parts.get("session")
