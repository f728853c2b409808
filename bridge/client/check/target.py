"""The server that is checked, and what is asked of it over HTTP."""

import asyncio
import json
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from bridge.client.address import NO_REDIRECTS, Address, authorization, explain, parse_address
from bridge.client.check.steps import Dialect, Transport

__all__ = ["HttpReply", "CheckTarget"]

_TIMEOUT_S = 15.0
_LIVE_MODEL = "gpt-live-1"
_MAX_BODY_BYTES = 1024 * 1024
BETA_HEADERS = {"OpenAI-Beta": "realtime=v1"}


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An HTTP response. The names in ``headers`` are in lower case; ``json`` is None if the body is no JSON."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class CheckTarget:
    """Where the server is, and how it is spoken to."""

    url: str
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    dialect: Dialect = "ga"
    transport: Transport = "websocket"
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers that go with every request, such as those by which a gateway finds the server behind it."""

    @property
    def address(self) -> Address:
        """The server's endpoints; raises ``CallFailed`` if the URL is none."""
        return parse_address(self.url, self.model or (_LIVE_MODEL if self.is_live else None))

    @property
    def is_beta(self) -> bool:
        """Whether the server is spoken to in beta's words."""
        return self.dialect == "beta"

    @property
    def is_live(self) -> bool:
        """Whether the server is spoken to in the Live API's words."""
        return self.dialect == "live"

    def headers(self, key: str | None = None) -> dict[str, str]:
        """The headers of every request: the key, the dialect, and those that were asked for."""
        return {**authorization(key or self.api_key), **(BETA_HEADERS if self.is_beta else {}), **self.extra_headers}

    def socket_url(self, query: Mapping[str, str] | None = None, path: str = "") -> str:
        """Returns the URL for a WebSocket, with the model in its query, or with another query in place of it.

        ``path`` is that of another endpoint below the API's root, whose URL does not name the model. A Live session
        has such an endpoint.
        """
        path = path or ("/live/sessions" if self.is_live else "")
        if path:
            parts = urlsplit(self.http_url(path))
            return urlunsplit(parts._replace(scheme=urlsplit(self.address.socket).scheme))
        if query is None:
            return self.address.socket
        parts = urlsplit(self.address.socket)
        rest = [(name, value) for name, value in parse_qsl(parts.query) if name != "model"]
        return urlunsplit(parts._replace(query=urlencode([*rest, *query.items()])))

    def http_url(self, path: str) -> str:
        """Returns the URL for a path below the API's root. Only an offer's URL has the model."""
        parts = urlsplit(self.address.calls)
        query = [(name, value) for name, value in parse_qsl(parts.query) if name != "model"]
        root = parts.path.removesuffix("/realtime/calls")
        return urlunsplit(parts._replace(path=f"{root}{path}", query=urlencode(query)))

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> HttpReply:
        """Makes one request, and returns the response, whatever its status is.

        Raises ``CallFailed`` if there is none.
        """
        request = urllib.request.Request(
            url, data=body, method=method, headers={**self.headers(key), **dict(headers or {})}
        )
        return await asyncio.to_thread(_ask, request)


def _ask(request: urllib.request.Request) -> HttpReply:
    try:
        with NO_REDIRECTS.open(request, timeout=_TIMEOUT_S) as response:
            return HttpReply(response.status, _lower(response.headers), response.read(_MAX_BODY_BYTES))
    except HTTPError as error:
        with error:
            return HttpReply(error.code, _lower(error.headers), error.read(_MAX_BODY_BYTES))
    except (OSError, ssl.SSLError, ValueError) as error:
        raise explain(error, request.full_url) from None


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
