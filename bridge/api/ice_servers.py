"""TURN servers for callers, with credentials that the bridge makes and that expire.

The bridge and the TURN server share a secret, and never speak to each other: a user name is the time at which it
expires and who it is for, its password an HMAC of it. coturn calls this ``use-auth-secret``, others TURN REST.
"""

import base64
import hashlib
import hmac
import time
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.api.body import json_response
from bridge.api.keys import Keys
from bridge.config import TurnSettings

__all__ = ["NO_STORE", "IceServer", "IceServerList", "TurnServers", "ice_server_route"]

NO_STORE = {"Cache-Control": "no-store"}
"""The headers of an answer with a secret in it: nobody may store it."""


class IceServer(Struct, frozen=True):
    """One entry of ``RTCConfiguration.iceServers``, as browsers take it."""

    urls: list[str]
    username: str
    credential: str

    def __repr__(self) -> str:
        """Leaves out the password."""
        return f"IceServer(urls={self.urls!r}, username={self.username!r})"


class IceServerList(Struct, frozen=True, rename={"ice_servers": "iceServers"}):
    """A list of TURN servers, which ``new RTCPeerConnection`` takes as it is."""

    ice_servers: Annotated[list[IceServer], Meta(description="empty if there is no TURN server")]


class TurnServers:
    """The TURN servers that callers are told of; there are none if the settings name none."""

    def __init__(self, settings: TurnSettings) -> None:
        self.apply(settings)

    def apply(self, settings: TurnSettings) -> None:
        """Sets what credentials are made from; those that were given out stay good for as long as they are."""
        self._urls = settings.turn_url
        self._secret = (settings.turn_secret or "").encode()
        self.ttl_s = settings.turn_ttl_s

    def ice_servers(self, user: str, *, ttl_s: int = 0) -> list[IceServer]:
        """Returns ``RTCConfiguration.iceServers``: one entry with credentials of ``user``'s own, or none.

        ``user`` is the id of a key or of a call, with which a TURN server's log says who it was. The credentials are
        good for ``ttl_s`` at least, so that they outlive the key that they come with.
        """
        if not self._urls:
            return []
        username = f"{int(time.time()) + max(self.ttl_s, ttl_s)}:{user}"
        digest = hmac.digest(self._secret, username.encode(), hashlib.sha1)
        return [IceServer(list(self._urls), username, base64.b64encode(digest).decode())]

    def link_headers(self, user: str) -> list[str]:
        """Returns the same as values of ``Link`` headers, one for each address (RFC 9725 section 4.6)."""
        return [
            f'<{url}>; rel="ice-server"; username="{server.username}"; credential="{server.credential}"; '
            'credential-type="password"'
            for server in self.ice_servers(user)
            for url in server.urls
        ]


def ice_server_route(keys: Keys, turn: TurnServers) -> Route:
    """Makes the route where whoever may make calls asks for TURN servers.

    That is a page with its key, the console, or a native client.
    """

    async def ice_servers(request: Request) -> Response:
        grant = await keys.admit(request.headers)
        grant.require_owner()
        response = json_response(IceServerList(turn.ice_servers(grant.key_id)))
        response.headers.update(NO_STORE)
        return response

    return Route("/v1/realtime/ice_servers", ice_servers, methods=["GET"])
