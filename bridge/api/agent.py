"""The WebSocket door for agents, ``/v1/realtime?role=agent``: whoever attaches here answers calls as the model."""

from starlette.websockets import WebSocket

from bridge.api.keys import Grant, Keys
from bridge.api.socket import MAX_TEXT_CHARS, UNSUPPORTED_DATA, Sockets, SocketSink, accept, deny
from bridge.calls.registry import Registry, unknown_call
from bridge.errors import BadRequest, BridgeError
from bridge.session.contracts import AgentLobby

__all__ = ["AGENT", "serve_agent"]

AGENT = "agent"
_ALLOWED = frozenset({"role", "call_id"})


def _admit(websocket: WebSocket, registry: Registry, keys: Keys) -> tuple[Grant, str | None]:
    """The agent's key, and the call that it comes for, None for any; raises ``BridgeError`` if it may not come."""
    query = websocket.query_params
    grant = keys.admit(websocket.headers)
    grant.require_agent()
    unknown = sorted(set(query) - _ALLOWED)
    if unknown:
        raise BadRequest(f"An agent chooses a call_id, or nothing; '{unknown[0]}' is not for it.", param=unknown[0])
    call_id = query.get("call_id", grant.call_id)
    if grant.call_id is not None and call_id != grant.call_id:
        raise unknown_call(str(call_id))
    if call_id is not None:
        registry.find(call_id)
    return grant, call_id


async def serve_agent(websocket: WebSocket, registry: Registry, keys: Keys, lobby: AgentLobby, seats: Sockets) -> None:
    """From the request to the end of the socket; ``seats`` are counted by key, those with a call too."""
    try:
        lobby.require_room()
        grant, call_id = _admit(websocket, registry, keys)
        if grant.is_minted:
            seats.require_room(grant.key_id)
        keys.admit(websocket.headers, is_use=True)  # a refused request costs a single-use key nothing
    except BridgeError as error:
        await deny(websocket, error)
        return
    with seats.one_more(grant.key_id):
        await accept(websocket)
        await _serve(websocket, registry, lobby, call_id)


async def _serve(websocket: WebSocket, registry: Registry, lobby: AgentLobby, call_id: str | None) -> None:
    """From the upgrade to the end of the socket."""
    sink = SocketSink.of(websocket.scope)
    if call_id is not None and not registry.is_running(call_id):
        sink.close(1000, "call ended")
        return
    seat = lobby.attach(sink, call_id)
    try:
        while (message := await websocket.receive())["type"] == "websocket.receive":
            text = message.get("text")
            if text is None:
                seat.refuse_binary()
                continue
            if len(text) > MAX_TEXT_CHARS:
                sink.close(UNSUPPORTED_DATA, "events are JSON text of at most 15 MiB")
                return
            seat.receive(text)
    finally:
        seat.detach()
