"""Endpoints of Realtime translations: a WebSocket of their own, and offers for the same over WebRTC."""

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from bridge.api.attach import serve_place
from bridge.api.calls import call_answered, read_call_offer, read_form_session, terms_of
from bridge.api.keys import Keys
from bridge.api.socket import KeyShares, SocketSink, deny
from bridge.calls.handles import SocketPlace
from bridge.calls.keys import Grant
from bridge.calls.service import CallService
from bridge.calls.terms import Terms
from bridge.context import TraceContext, address_of
from bridge.errors import BadRequest, BridgeError, Forbidden
from bridge.wire.choices import parse_choices
from bridge.wire.sessions import SessionRequest
from bridge.wire.stats import Dialect
from bridge.wire.translations import read_translation

__all__ = ["require_no_translation", "translation_routes"]

_TRANSLATIONS = "/v1/realtime/translations"
_EVENTS = "events"


def translation_routes(calls: CallService, keys: Keys) -> list[BaseRoute]:
    """Makes the routes of ``/v1/realtime/translations``, but for the one that mints keys."""

    shares = KeyShares()

    async def translate(websocket: WebSocket) -> None:
        try:
            grant = await keys.admit(websocket.headers)
            place = await _open(websocket, calls, grant)
        except BridgeError as error:
            await deny(websocket, error)
            return
        SocketSink.of(websocket.scope).work.share.join(shares.of(grant.key_id))
        place.bind_task()
        await serve_place(websocket, place)

    async def create(request: Request) -> Response:
        grant = await keys.admit(request.headers)
        grant.require_owner()  # before a byte of the body is read
        sdp, text = await read_call_offer(request)
        grant = await keys.admit(request.headers)
        asked = read_form_session(text, None) if text and grant.config is None else None
        if asked is not None and asked.config.type != "translation":
            raise BadRequest("'session.type' must be 'translation' here.", param="session.type")
        terms = _terms(grant, asked, request.query_params.get("model"))
        terms = replace(terms, caller=address_of(request.client), trace=TraceContext.of(request.headers))
        return call_answered(await calls.open_with_offer(terms, sdp))

    return [
        WebSocketRoute(_TRANSLATIONS, translate),
        Route(f"{_TRANSLATIONS}/calls", create, methods=["POST"]),
    ]


def require_no_translation(grant: Grant) -> None:
    """Raises ``Forbidden`` if the key stands for a translation: its events are not those of other sessions."""
    if grant.config is not None and grant.config.config.type == "translation":
        raise Forbidden(f"This key is for a translation; connect to {_TRANSLATIONS}.")


async def _open(websocket: WebSocket, calls: CallService, grant: Grant) -> SocketPlace:
    grant.require_owner()
    query = websocket.query_params
    for name in query:
        if name not in ("model", _EVENTS):
            raise BadRequest(f"The URL of a translation may have 'model' only, not '{name}'.", param=name)
    choices = parse_choices((name, value) for name, value in query.multi_items() if name == _EVENTS)
    terms = _terms(grant, None, query.get("model"))
    terms = replace(terms, caller=address_of(websocket.client), trace=TraceContext.of(websocket.headers))
    return await calls.open_with_socket(terms, choices)


def _terms(grant: Grant, asked: SessionRequest | None, model: str | None) -> Terms:
    """Returns what a translation starts with: what its key stands for, or else what is asked for."""
    if grant.config is not None and grant.config.config.type != "translation":
        raise Forbidden("This key is for a session, not for a translation.")
    if grant.config is None and asked is None:
        if not model:
            raise BadRequest("Name the model that translates, such as ?model=gpt-realtime-translate.", param="model")
        asked = read_translation({"model": model})
    return terms_of(grant, asked, model=model, dialect=Dialect.TRANSLATION)
