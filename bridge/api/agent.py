"""The WebSocket endpoint for agents, ``/v1/realtime?role=agent``: whoever attaches here answers calls as the model."""

from starlette.websockets import WebSocket

from bridge.api.attach import serve_place
from bridge.api.keys import Keys
from bridge.api.socket import deny
from bridge.calls.handles import SocketPlace
from bridge.calls.keys import Grant
from bridge.calls.service import CallService
from bridge.errors import BadRequest, BridgeError

__all__ = ["AGENT", "serve_agent"]

AGENT = "agent"
_ALLOWED = frozenset({"role", "call_id"})


async def serve_agent(websocket: WebSocket, calls: CallService, keys: Keys) -> None:
    """Serves an agent's socket from the request to its end."""
    try:
        grant = await keys.admit(websocket.headers)
        place = await _find_place(websocket, calls, grant)
    except BridgeError as error:
        await deny(websocket, error)
        return
    await serve_place(websocket, place)


async def _find_place(websocket: WebSocket, calls: CallService, grant: Grant) -> SocketPlace:
    """Returns a place for the call that the URL or the key names, or for any.

    Raises ``BridgeError`` if the agent may not come.
    """
    query = websocket.query_params
    grant.require_agent()
    unknown = sorted(set(query) - _ALLOWED)
    if unknown:
        raise BadRequest(
            f"An agent may set call_id and nothing else; '{unknown[0]}' is not for agents.", param=unknown[0]
        )
    return await calls.place_for_agent(grant, query.get("call_id", grant.call_id))
