"""A carrier's HTTP API: where it is, what opens it, and the requests that change a call there.

A carrier's row has an ``HttpApi`` made of its settings, and an ``ApiRequest`` for each thing that is asked of it.
"""

import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from bridge.outgoing import Client, Request, Response

__all__ = ["ApiRequest", "ClientCredentials", "HttpApi", "NewApi", "basic", "is_call_id"]


_MAX_CALL_ID = 256
_SPARE_S = 60.0  # a token that ends sooner than this is fetched again


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpApi:
    """One account at a carrier's API, below the address ``url``.

    ``authorize`` makes the headers that are new for each request, such as a token that was just signed or fetched.
    ``sign`` adds a signature to the request.
    """

    carrier: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    authorize: Callable[[Client], Awaitable[Mapping[str, str]]] | None = None
    sign: Callable[[Request], Request] | None = None

    async def send_request(self, http: Client, request: "ApiRequest", call: str, target: str = "") -> Response:
        """Returns the answer to ``request`` for the call with this id; raises ``HTTPError`` or ``ValueError``."""
        headers = dict(await self.authorize(http)) if self.authorize is not None else {}
        said: Any = request.body(target) if callable(request.body) else request.body
        content: dict[str, Any] = {"data" if request.is_form else "json": said}
        if isinstance(said, str):
            headers["Content-Type"] = "application/xml"
            content = {"content": said.encode()}
        url = self.url.rstrip("/") + request.path.format(call=quote(call, safe=""))
        return await http.request(request.method, url, headers=headers, auth=self.sign, **content)


NewApi = Callable[[Any], HttpApi | None]
"""Makes a carrier's API of its settings; returns None if a setting that the API needs is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """One kind of request, in whose ``path`` ``{call}`` stands for the carrier's id of the call.

    ``body`` is sent as JSON, or as a form with ``is_form``. It may be made of the target of a transfer. If it is a text
    then, it is XML.
    """

    path: str
    method: str = "POST"
    body: Mapping[str, Any] | Callable[[str], Mapping[str, Any] | str] | None = None
    is_form: bool = False


class ClientCredentials:
    """The tokens of an API by OAuth 2 client credentials (RFC 6749 section 4.4). Each serves until it ends."""

    def __init__(self, url: str, client_id: str, secret: str) -> None:
        self._url = url
        self._credential = (client_id, secret)
        self._token = ""
        self._until = 0.0

    async def headers(self, http: Client) -> dict[str, str]:
        """Returns the headers of a request; raises ``HTTPError`` or ``ValueError`` if there is no token."""
        if time.monotonic() > self._until - _SPARE_S:
            form = {"grant_type": "client_credentials"}
            response = await http.post(self._url, data=form, auth=self._credential)
            try:
                token = msgspec.json.decode(response.raise_for_status().content, type=_Token)
            except msgspec.DecodeError:
                raise ValueError("this is not a token") from None
            self._token, self._until = token.access_token, time.monotonic() + token.expires_in
        return {"Authorization": f"Bearer {self._token}"}


class _Token(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float = 0.0


def basic(user: str, password: str) -> dict[str, str]:
    """Returns the header of HTTP Basic authentication (RFC 7617)."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def is_call_id(call: str) -> bool:
    """Returns whether a text may be a call's id in an address: not too long, and not of dots alone.

    Dots alone would lead a step up in the path.
    """
    return bool(call.strip(".")) and len(call) <= _MAX_CALL_ID
