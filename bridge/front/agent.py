"""The WebSocket door for agents, ``/v1/realtime?role=agent``: whoever attaches here answers calls as the model."""

from starlette.websockets import WebSocket

from bridge.errors import BadRequest, BridgeError, Forbidden
from bridge.front.keys import Keys
from bridge.front.socket import MAX_TEXT_CHARS, UNSUPPORTED_DATA, SocketSink, accept, deny
from bridge.session.registry import Registry
from bridge.session.roles import AgentLobby

__all__ = ["AGENT", "serve_agent"]

AGENT = "agent"
_ALLOWED = frozenset({"role", "call_id"})


def _admit(websocket: WebSocket, registry: Registry, keys: Keys) -> str | None:
    """The call that the agent comes for, None for any; raises where it may not come at all."""
    query = websocket.query_params
    grant = keys.admit(websocket.headers)
    if grant.is_minted and grant.role != AGENT:
        raise Forbidden("An agent needs an API key, or a client's key with role agent.", param="role")
    unknown = sorted(set(query) - _ALLOWED)
    if unknown:
        raise BadRequest(f"An agent chooses a call_id, or nothing; '{unknown[0]}' is not for it.", param=unknown[0])
    call_id = query.get("call_id")
    if call_id is not None:
        registry.find(call_id)
    elif grant.call_id is not None:
        call_id = grant.call_id
    keys.admit(websocket.headers, is_use=True)
    return call_id


async def serve_agent(websocket: WebSocket, registry: Registry, keys: Keys, lobby: AgentLobby) -> None:
    """From the request to the end of the socket."""
    try:
        lobby.require_room()
        call_id = _admit(websocket, registry, keys)
    except BridgeError as error:
        await deny(websocket, error)
        return
    await accept(websocket)
    sink = SocketSink.of(websocket.scope)
    seat = lobby.attach(sink, call_id)
    try:
        while (message := await websocket.receive())["type"] == "websocket.receive":
            text = message.get("text")
            if text is None or len(text) > MAX_TEXT_CHARS:
                sink.close(UNSUPPORTED_DATA, "events are JSON text of at most 15 MiB")
                return
            seat.receive(text)
    finally:
        seat.detach()
