"""WHEP: a client plays a running call over WebRTC by one HTTP request (draft-ietf-wish-whep, WHIP's sister)."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.api.ice_servers import TurnServers
from bridge.api.keys import Keys
from bridge.api.patching import condition_of, ice_answer, read_fragment
from bridge.api.shapes import PlayQuery
from bridge.api.whip import (
    answered,
    by_method,
    endpoint_options,
    operations_of,
    read_offer,
    session_options,
    shows_key,
)
from bridge.calls.keys import Grant
from bridge.calls.service import CallService

__all__ = ["OPERATIONS", "whep_routes"]

_WHEP = "/v1/whep/{call_id}"
_SESSION = f"{_WHEP}/{{player_id}}"

OPERATIONS = operations_of("WHEP, for a player", _WHEP, _SESSION, PlayQuery)
"""The description of the routes."""


def whep_routes(calls: CallService, keys: Keys, turn: TurnServers) -> list[Route]:
    """Makes the routes of ``/v1/whep``; answers to offers tell of the TURN servers ``turn``."""

    async def admit(request: Request) -> Grant:
        grant = await keys.admit(request.headers)
        grant.require_player()
        return grant

    async def play(request: Request) -> Response:
        grant, call_id = await admit(request), request.path_params["call_id"]
        await calls.players.require_playable(grant, call_id)  # before a byte of the body is read
        sdp = await read_offer(request)
        answer = await calls.players.start(await admit(request), call_id, sdp, request.query_params.get("tracks"))
        return answered(answer, f"/v1/whep/{call_id}/{answer.player_id}", turn.link_headers(grant.key_id))

    async def options(request: Request) -> Response:
        return endpoint_options(turn.link_headers((await admit(request)).key_id) if shows_key(request) else [])

    async def look(request: Request) -> Response:
        await calls.players.require_playable(await admit(request), request.path_params["call_id"])
        return Response(status_code=204)

    async def look_at_session(request: Request) -> Response:
        await calls.players.require_running(await admit(request), **request.path_params)
        return Response(status_code=204)

    async def patch(request: Request) -> Response:
        grant = await admit(request)
        await calls.players.require_running(grant, **request.path_params)  # before a byte of the body is read
        condition, fragment = condition_of(request), await read_fragment(request)
        return ice_answer(
            await calls.players.patch_ice(grant, **request.path_params, body=fragment, condition=condition)
        )

    async def stop(request: Request) -> Response:
        await calls.players.stop(await admit(request), **request.path_params)
        return Response(status_code=200)

    return [
        by_method(_WHEP, POST=play, GET=look, OPTIONS=options),
        by_method(_SESSION, PATCH=patch, DELETE=stop, GET=look_at_session, OPTIONS=session_options),
    ]
