"""HTTP doors of calls: an offer comes in, an answer goes out; calls are listed and hung up."""

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.api.body import json_response, read_body, read_form
from bridge.api.keys import Grant, Keys, says_beta
from bridge.api.shapes import CallList
from bridge.calls.registry import Registry, Terms
from bridge.context import address_of
from bridge.errors import BadOffer, BadRequest, NotImplementedHere
from bridge.recording.recorder import Recorder
from bridge.session.session import Session
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.sdp import MAX_SDP_BYTES, Offer, parse_offer
from bridge.wire.checks import require_shallow
from bridge.wire.client_events import decode_json, read_session
from bridge.wire.dialects.beta import Beta, session_to_ga
from bridge.wire.sessions import SessionConfig, SessionRequest

__all__ = ["RESUME_KEY", "TRANSCRIPTION", "WARNING", "call_routes", "terms_of"]

TRANSCRIPTION = SessionRequest.of(SessionConfig(type="transcription"))
"""What ``intent=transcription`` on a URL asks for."""

WARNING = "Bridge-Warning"
"""The header that says what of the offer could not be used."""
RESUME_KEY = "Bridge-Resume-Key"
"""The header that brings the call's resume key, and that shows it again."""

_SDP, _FORM = "application/sdp", "multipart/form-data"


def call_routes(registry: Registry, endpoint: Endpoint, keys: Keys) -> list[Route]:
    """The routes of ``/v1/realtime/calls`` and ``/v1/calls``."""

    async def create(request: Request) -> Response:
        return await open_call(request, is_beta=says_beta(request.headers))

    async def create_beta(request: Request) -> Response:
        return await open_call(request, is_beta=True)

    async def open_call(request: Request, *, is_beta: bool) -> Response:
        keys.admit(request.headers).require_owner()  # before a byte of the body is read
        sdp, text = await _offer(request)
        grant = keys.admit(request.headers)
        beta = Beta()
        update = _session(text, beta if is_beta else None) if text and grant.config is None else None
        offer = parse_offer(sdp)
        registry.require_room(grant.key_id)
        query = request.query_params
        if update is None and grant.config is None and query.get("intent") == "transcription":
            update = TRANSCRIPTION
        terms = terms_of(grant, update, model=query.get("model"), is_beta=is_beta)
        terms = replace(terms, warnings=offer.warnings, caller=address_of(request.client))
        if update is not None:
            terms = replace(terms, temperature=beta.temperature, metadata=beta.metadata)
        registry.require_known(terms)
        keys.admit(request.headers, is_use=True)  # a refused request costs a single-use key nothing
        session = registry.open(terms, transport="webrtc")
        try:
            return answer_offer(session, offer)
        except BaseException:
            session.close("internal_error")
            raise

    def answer_offer(session: Session, offer: Offer, *, after: str | None = None) -> Response:
        port = session.legs.new_port()
        peer, answer = endpoint.accept(offer, port, session.context)
        session.legs.take(peer, port, after=after)
        return answered(session, offer, answer)

    def answered(session: Session, offer: Offer, answer: str) -> Response:
        headers = {"Location": f"/v1/realtime/calls/{session.info.id}"}
        if session.lifetime.window.is_possible:
            headers[RESUME_KEY] = session.lifetime.window.key
        if offer.warnings:
            headers[WARNING] = "; ".join(f"{warning.code}: {warning.message}" for warning in offer.warnings)
            log = session.context.logger("api")
            for warning in offer.warnings:
                log.warning("call.warning", code=warning.code, message=warning.message)
        return Response(answer, 201, headers, media_type=_SDP)

    async def resume(request: Request) -> Response:
        """The same call by another way: its peer's ICE restart, or another peer, as of a page that was loaded again."""
        grant, call_id = keys.admit(request.headers), request.path_params["call_id"]
        grant.require_owner()
        session = registry.find(call_id, grant.key_for(call_id))
        session.lifetime.window.require_key(request.headers.get(RESUME_KEY, ""))
        sdp, _ = await _offer(request)
        offer = parse_offer(sdp)
        after = request.query_params.get("after")
        session.audience.require_event(after)
        for leg in session.legs.all:
            answer = endpoint.answer_again(leg, offer)
            if answer is not None:
                return answered(session, offer, answer)
        return answer_offer(session, offer, after=after)

    async def hang_up(request: Request) -> Response:
        grant, call_id = keys.admit(request.headers), request.path_params["call_id"]
        grant.require_owner()
        session = registry.find(call_id, grant.key_for(call_id))
        grant.require_owner_of(call_id)
        session.close("hangup")
        return Response(status_code=200)

    async def list_calls(request: Request) -> Response:
        grant = keys.admit(request.headers)
        grant.require_listener()
        return json_response(CallList(data=[session.stats() for session in registry.of_key(grant.key_id)]))

    async def show_call(request: Request) -> Response:
        grant, call_id = keys.admit(request.headers), request.path_params["call_id"]
        grant.require_listener()
        return json_response(registry.find(call_id, grant.key_for(call_id)).stats(in_full=True))

    def recorder_and_call(request: Request) -> tuple[Recorder, Session]:
        keys.admit(request.headers).require_admin()
        if registry.recorder is None:
            raise NotImplementedHere("Calls are not recorded here; see the setting record_dir.")
        return registry.recorder, registry.find(request.path_params["call_id"])

    async def start_recording(request: Request) -> Response:
        recorder, session = recorder_and_call(request)
        return json_response(recorder.start(session).stats(), 201)

    async def stop_recording(request: Request) -> Response:
        recorder, session = recorder_and_call(request)
        return json_response(recorder.stop(session.info.id).stats())

    async def refuse_sip(request: Request) -> Response:
        keys.admit(request.headers)
        raise NotImplementedHere("This server takes no SIP calls, so there is none to accept, reject or refer.")

    call = "/v1/realtime/calls/{call_id}"
    return [
        Route("/v1/realtime/calls", create, methods=["POST"]),
        Route("/v1/realtime", create_beta, methods=["POST"]),
        Route(f"{call}/hangup", hang_up, methods=["POST"]),
        Route(call, hang_up, methods=["DELETE"]),
        Route(call, resume, methods=["POST"]),
        *(Route(f"{call}/{verb}", refuse_sip, methods=["POST"]) for verb in ("accept", "reject", "refer")),
        Route("/v1/calls", list_calls, methods=["GET"]),
        Route("/v1/calls/{call_id}", show_call, methods=["GET"]),
        Route("/v1/calls/{call_id}/recording", start_recording, methods=["POST"]),
        Route("/v1/calls/{call_id}/recording", stop_recording, methods=["DELETE"]),
    ]


def terms_of(grant: Grant, update: SessionRequest | None, *, model: str | None, is_beta: bool) -> Terms:
    """What a session starts with: the key's own session if it has one, else what the request asks for.

    Gateways write a session into every request; one that a key stands for is its minter's to choose, and stays.
    """
    if grant.config is not None:
        update = None
    elif update is not None and isinstance(update.config.model, str):
        model = update.config.model
    return Terms(
        model=model,
        config=grant.config,
        update=update,
        is_beta=is_beta or grant.is_beta,
        temperature=grant.temperature,
        metadata=grant.metadata,
        key_id=grant.key_id,
        max_duration_s=grant.max_duration_s,
        idle_timeout_s=grant.idle_timeout_s,
    )


def _session(text: bytes, beta: Beta | None) -> SessionRequest | None:
    """What a form asks for, in the dialect of its door; None if it asks for nothing, as null does."""
    session = decode_json(text)
    if session is None:
        return None
    require_shallow(session)
    if beta is None:
        return read_session(session)
    if not isinstance(session, dict):
        raise BadRequest("'session' is a JSON object.", param="session")
    return session_to_ga(session, beta, prefix="session.")


async def _offer(request: Request) -> tuple[bytes, bytes | None]:
    """The SDP and perhaps a session as JSON, from a raw body or a form."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == _SDP:
        return await read_body(request, MAX_SDP_BYTES, too_long=BadOffer, param="sdp"), None
    if content_type != _FORM:
        raise BadRequest(f"Send the offer as Content-Type: {_SDP}, or in a {_FORM}.", param="Content-Type")
    parts = await read_form(request)
    if "sdp" not in parts:
        raise BadOffer("The form has no part 'sdp'.", param="sdp")
    return parts["sdp"], parts.get("session")
