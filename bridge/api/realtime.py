"""The WebSocket door ``/v1/realtime``: sessions of their own (``model=``, ``intent=``), listeners (``call_id=``)."""

from contextlib import nullcontext
from dataclasses import dataclass, replace

from starlette.datastructures import QueryParams
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from bridge.api.agent import AGENT, serve_agent
from bridge.api.calls import TRANSCRIPTION, terms_of
from bridge.api.keys import Grant, Keys, says_beta
from bridge.api.socket import MAX_TEXT_CHARS, Sockets, SocketSink, accept, deny
from bridge.calls.registry import Registry
from bridge.context import address_of
from bridge.errors import BadRequest, BridgeError, Forbidden, RequestError
from bridge.session.contracts import AgentLobby
from bridge.session.fanout.listener import Listener
from bridge.session.session import Session
from bridge.wire.choices import CHOICES, STOCK, Choices, parse_choices
from bridge.wire.codecs.codec import Dialect
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import encode, error_event
from bridge.wire.stats import ListenerRole

__all__ = ["realtime_route"]

_ROLES = (ListenerRole.CONTROLLER, ListenerRole.OBSERVER)
_OF_AN_OWNER = ("session_id", "after")
_OF_A_LISTENER = ("call_id", "role")
_INTERNAL_ERROR = 1011


@dataclass(frozen=True, slots=True)
class _Place:
    """What a socket is going to be, and in which session."""

    session: Session
    role: ListenerRole
    choices: Choices
    is_beta: bool
    key_id: str


def realtime_route(
    registry: Registry, keys: Keys, lobby: AgentLobby, sockets: Sockets, seats: Sockets
) -> WebSocketRoute:
    """The route; what is wrong with a request is said before the upgrade, as an HTTP error."""

    async def realtime(websocket: WebSocket) -> None:
        if websocket.query_params.get("role") == AGENT:
            await serve_agent(websocket, registry, keys, lobby, seats)
            return
        try:
            place = _find_place(websocket, registry, keys)
            if place.role is not ListenerRole.OWNER:
                sockets.require_room(place.key_id)
        except BridgeError as error:
            await deny(websocket, error)
            return
        SocketSink.of(websocket.scope).work.share.join(sockets.share_of(place.key_id))
        place.session.context.bind_task()
        with nullcontext() if place.role is ListenerRole.OWNER else sockets.one_more(place.key_id):
            await accept(websocket)
            await _serve(websocket, place)

    return WebSocketRoute("/v1/realtime", realtime)


def _find_place(websocket: WebSocket, registry: Registry, keys: Keys) -> _Place:
    """Opens the session that the URL asks for, or finds it."""
    query = websocket.query_params
    grant = keys.admit(websocket.headers)
    role, choices = _choices(query, grant)
    is_beta = says_beta(websocket.headers) or grant.is_beta
    if "session_id" in query:
        return _owners_place(registry, query, grant, is_beta=is_beta)
    if "call_id" in query:
        grant.require_listener()
        session = registry.find(query["call_id"], grant.key_for(query["call_id"]))
        session.audience.require_room()
        session.audience.require_event(choices.after)
        return _Place(session, role, choices, is_beta, grant.key_id)
    grant.require_owner()
    update = TRANSCRIPTION if "intent" in query else None
    registry.require_room(grant.key_id)
    keys.admit(websocket.headers, is_use=True)
    terms = terms_of(grant, update, model=query.get("model"), is_beta=is_beta)
    terms = replace(terms, caller=address_of(websocket.client))
    return _Place(registry.open(terms, transport="websocket"), ListenerRole.OWNER, STOCK, is_beta, grant.key_id)


def _owners_place(registry: Registry, query: QueryParams, grant: Grant, *, is_beta: bool) -> _Place:
    """Of an owner who comes back to its session."""
    grant.require_owner()
    session = registry.find(query["session_id"], grant.key_id, param="session_id")
    if session.info.transport != "websocket" or not session.lifetime.window.is_possible:
        raise BadRequest("This session has no owner who could come back over a WebSocket.", param="session_id")
    after = query.get("after")
    session.audience.require_event(after)
    return _Place(session, ListenerRole.OWNER, Choices(after=after), is_beta, grant.key_id)


async def _serve(websocket: WebSocket, place: _Place) -> None:
    """From the upgrade to the end of the socket."""
    sink, session = SocketSink.of(websocket.scope), place.session
    dialect = Dialect.BETA if place.is_beta else Dialect.GA
    listener: Listener | None = None
    reason, failure = "client_closed", None
    try:
        if session.lifetime.closed.is_set():
            sink.close(1000, "call ended")
            return
        listener = session.audience.attach(sink, role=place.role, dialect=dialect, choices=place.choices)
        while (message := await websocket.receive())["type"] == "websocket.receive":
            text = message.get("text")
            if text is None:
                session.refuse_binary(listener)
                continue
            if len(text) > MAX_TEXT_CHARS:
                reason = "message_too_big"
                session.refuse_long_text(listener, len(text))
                return
            async with session.send_lock:
                sink.work.begin()  # the wait for the turn was nobody's work
                for _ in session.receive_client_text_in_pieces(listener, text):
                    await sink.work.rest(is_pause=True)
    except RequestError as error:  # right before the upgrade, and no more: the call is full, the gap too wide
        sink.send(EncodedMessage(encode(error_event(error))))
        sink.close(error.close_code, error.message)
    except Exception as error:
        reason, failure = "internal_error", BridgeError(f"{type(error).__name__} in a socket's task")
        sink.close(_INTERNAL_ERROR, "internal error")
        raise
    finally:
        if listener is not None:
            session.detach(listener, reason, error=failure, is_lost=not sink.said_goodbye)
        elif place.role is ListenerRole.OWNER:
            session.close("client_closed")


def _choices(query: QueryParams, grant: Grant) -> tuple[ListenerRole, Choices]:
    """What a listener asks for on its URL; raises ``BadRequest`` naming what does not fit."""
    if "session_id" in query:
        for name in query:
            if name not in _OF_AN_OWNER:
                raise BadRequest(f"Who comes back says session_id and after; '{name}' is not for it.", param=name)
        return ListenerRole.OWNER, STOCK
    is_own = "call_id" not in query
    asks_for_own = "model" in query or "intent" in query  # beta's SDK cannot but send a model with its intent
    if asks_for_own != is_own and not (is_own and grant.is_minted):
        raise BadRequest(
            "Give exactly one of 'model', 'intent' (for a new session) and 'call_id' (a running call).", param="model"
        )
    if query.get("intent", "transcription") != "transcription":
        raise BadRequest("'intent' is transcription, or absent.", param="intent")
    role = next((known for known in _ROLES if known == query.get("role", grant.role)), None)
    if role is None:
        raise BadRequest(f"'role' is one of {', '.join(_ROLES)}.", param="role")
    if role is ListenerRole.CONTROLLER and grant.role is ListenerRole.OBSERVER:
        raise Forbidden("This key may only observe.", param="role")
    if not is_own:
        return role, parse_choices(query.multi_items(), others=_OF_A_LISTENER)
    for name in (*CHOICES, "role"):
        if name in query:
            raise BadRequest(f"'{name}' is for listeners of a call; a session of its own has both tracks.", param=name)
    return role, STOCK
