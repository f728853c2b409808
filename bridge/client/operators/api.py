"""The bridge's HTTP API for whoever runs it: with an API key, from a terminal, one request at a time."""

import urllib.request
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import msgspec
from msgspec import Struct

from bridge.client.address import NO_REDIRECTS, CallFailed, authorization, explain, parse_address

__all__ = ["BridgeApi", "CallRow", "Reply", "UpstreamRow"]

_TIMEOUT_S = 10.0
_MAX_BYTES = 256 * 1024 * 1024  # enough for 100,000 ended calls, the most that the settings allow
_NOT_FOUND = "call_id_not_found"
_OF_CALLERS = ("from", "caller", "caller_id", "callerid", "ani")
"""The names that carriers have for the caller's number, in lower case."""


class UpstreamRow(Struct, frozen=True, kw_only=True):
    """The upstream that answers a call."""

    name: str = ""
    lost: int = 0


class CallRow(Struct, frozen=True, kw_only=True):
    """What ``GET /v1/calls`` says of a call, as far as a person is shown it.

    An older bridge may leave some fields out.
    """

    id: str
    state: str = ""
    transport: str = ""
    started_at: float = 0.0
    seconds: float = 0.0
    metadata: dict[str, str] = {}
    listeners: list[Any] = []
    peer: dict[str, float | bool | None] | None = None
    """The figures of what carries the caller's sound."""
    upstream: UpstreamRow = UpstreamRow()
    dropped_events: int = 0
    ended_at: float | None = None
    result: str = ""
    reason: str = ""

    @property
    def caller(self) -> str:
        """The caller's telephone number, if the carrier has sent it."""
        named = {name.lower(): value for name, value in self.metadata.items()}
        return next((named[name] for name in _OF_CALLERS if named.get(name)), "")


class _CallList(Struct, frozen=True):
    data: list[CallRow]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request."""

    body: bytes = field(repr=False)
    headers: Message


class BridgeApi:
    """The API behind any URL of a bridge. Every method may raise ``CallFailed``, and blocks."""

    def __init__(self, url: str, api_key: str | None, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.address = parse_address(url)
        self._api_key = api_key
        self._timeout_s = timeout_s

    def list_calls(self, query: str = "", *, ended: bool = False) -> bytes:
        """Returns the calls that run, or that have ``ended``, as the bridge's JSON; only those that ``query`` finds."""
        asked = {"ended": "1" if ended else "0", **({"q": query} if query else {})}
        return self.ask("GET", self.address.resource("/calls", asked)).body

    def calls(self, query: str = "", *, ended: bool = False) -> list[CallRow]:
        """Returns the calls that ``list_calls`` returns, already read."""
        return self.read_calls(self.list_calls(query, ended=ended))

    def read_calls(self, body: bytes) -> list[CallRow]:
        """Reads what ``list_calls`` has returned."""
        try:
            return msgspec.json.decode(body, type=_CallList).data
        except msgspec.DecodeError as error:
            words = f"{self.address.origin} answers, but not like a bridge ({error}): is the URL right?"
            raise CallFailed(words, code="no_bridge") from None

    def hang_up(self, call_id: str) -> None:
        """Ends the call."""
        url = self.address.resource(f"/realtime/calls/{quote(call_id, safe='')}/hangup")
        try:
            self.ask("POST", url)
        except CallFailed as failure:
            if failure.code != _NOT_FOUND:
                raise
            words = (
                f"No call {call_id} is running: `bridge calls` lists running calls, `bridge calls --ended` those that "
                "are over."
            )
            raise CallFailed(words, code=failure.code, status=failure.status) from None

    def get(self, path: str, *, takes_refusals: bool = False) -> Reply:
        """Returns a page that is not of the API, such as ``/readyz``.

        With ``takes_refusals`` it returns a refusal as well.
        """
        return self.ask("GET", f"{self.address.origin}{path}", takes_refusals=takes_refusals)

    def ask(self, method: str, url: str, *, takes_refusals: bool = False) -> Reply:
        """Makes one request with the key. A refusal raises ``CallFailed``, unless ``takes_refusals`` is set."""
        request = urllib.request.Request(
            url, method=method, data=b"" if method == "POST" else None, headers=authorization(self._api_key)
        )
        try:
            with NO_REDIRECTS.open(request, timeout=self._timeout_s) as response:
                return Reply(response.read(_MAX_BYTES), response.headers)
        except Exception as error:
            if takes_refusals and isinstance(error, HTTPError):
                with error:
                    return Reply(error.read(_MAX_BYTES), error.headers)
            raise explain(error, url) from None
