"""The WebSocket endpoint ``/v1/realtime``: a session of its own (``model=``), a listener (``call_id=``)."""

from dataclasses import replace

from starlette.datastructures import QueryParams
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from bridge.api.agent import AGENT, serve_agent
from bridge.api.attach import serve_place
from bridge.api.calls import TRANSCRIPTION, terms_of
from bridge.api.keys import Keys, dialect_of
from bridge.api.socket import KeyShares, SocketSink, deny
from bridge.api.translations import require_no_translation
from bridge.calls.handles import SocketPlace
from bridge.calls.keys import Grant
from bridge.calls.service import CallService
from bridge.context import TraceContext, address_of
from bridge.errors import BadRequest, BridgeError, Forbidden
from bridge.wire.choices import CHOICES, STOCK, Choices, parse_choices
from bridge.wire.stats import ListenerRole

__all__ = ["realtime_route"]

_ROLES = (ListenerRole.CONTROLLER, ListenerRole.OBSERVER)
_OF_AN_OWNER = ("session_id", "after")
_OF_A_LISTENER = ("call_id", "role")
_EVENTS = "events"


def realtime_route(calls: CallService, keys: Keys) -> WebSocketRoute:
    """Makes the route; what is wrong with a request is said before the upgrade, as an HTTP error."""

    shares = KeyShares()

    async def realtime(websocket: WebSocket) -> None:
        if websocket.query_params.get("role") == AGENT:
            await serve_agent(websocket, calls, keys)
            return
        try:
            grant = await keys.admit(websocket.headers)
            place = await _find_place(websocket, calls, grant)
        except BridgeError as error:
            await deny(websocket, error)
            return
        SocketSink.of(websocket.scope).work.share.join(shares.of(grant.key_id))
        place.bind_task()
        await serve_place(websocket, place)

    return WebSocketRoute("/v1/realtime", realtime)


async def _find_place(websocket: WebSocket, calls: CallService, grant: Grant) -> SocketPlace:
    """Opens the session that the URL asks for, or finds it; returns the place in it."""
    query = websocket.query_params
    role, choices = _choices(query, grant)
    dialect = dialect_of(websocket.headers, grant)
    if "session_id" in query:
        return await calls.resume_with_socket(grant, query["session_id"], after=query.get("after"), dialect=dialect)
    if "call_id" in query:
        return await calls.place_for_listener(grant, query["call_id"], role, choices, dialect=dialect)
    grant.require_owner()
    require_no_translation(grant)
    update = TRANSCRIPTION if "intent" in query else None
    terms = terms_of(grant, update, model=query.get("model"), dialect=dialect)
    terms = replace(terms, caller=address_of(websocket.client), trace=TraceContext.of(websocket.headers))
    return await calls.open_with_socket(terms, choices)


def _choices(query: QueryParams, grant: Grant) -> tuple[ListenerRole, Choices]:
    """Returns what a listener asks for on its URL; raises ``BadRequest`` naming what does not fit."""
    if "session_id" in query:
        for name in query:
            if name not in _OF_AN_OWNER:
                raise BadRequest(
                    f"A client that resumes its session gives session_id and after; '{name}' is not allowed there.",
                    param=name,
                )
        return ListenerRole.OWNER, STOCK
    is_own = "call_id" not in query
    asks_for_own = "model" in query or "intent" in query  # beta's SDK always sends a model with its intent
    if asks_for_own != is_own and not (is_own and grant.is_minted):
        raise BadRequest(
            "Give exactly one of 'model', 'intent' (for a new session) and 'call_id' (for a running call).",
            param="model",
        )
    if query.get("intent", "transcription") != "transcription":
        raise BadRequest("'intent' must be 'transcription' if it is given.", param="intent")
    role = next((known for known in _ROLES if known == query.get("role", grant.role)), None)
    if role is None:
        raise BadRequest(f"'role' must be one of {', '.join(_ROLES)}.", param="role")
    if role is ListenerRole.CONTROLLER and grant.role is ListenerRole.OBSERVER:
        raise Forbidden("This key may only observe.", param="role")
    if not is_own:
        return role, parse_choices(query.multi_items(), others=_OF_A_LISTENER)
    for name in (*CHOICES, "role"):
        if name in query and name != _EVENTS:
            raise BadRequest(f"'{name}' is for listeners of a call; a new session always has both tracks.", param=name)
    return role, parse_choices((name, value) for name, value in query.multi_items() if name == _EVENTS)
