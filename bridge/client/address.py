"""The endpoints of a Realtime server for each transport, and what to do if the server cannot be reached."""

import errno
import json
import socket
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.exceptions import InvalidHandshake, InvalidStatus

from bridge.errors import BridgeError

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_URL",
    "NO_REDIRECTS",
    "Address",
    "CallFailed",
    "authorization",
    "explain",
    "parse_address",
    "post_body",
    "post_form",
    "post_offer",
]

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_MODEL = "gpt-realtime-2.1"
_SCHEMES = {"http": ("http", "ws"), "ws": ("http", "ws"), "https": ("https", "wss"), "wss": ("https", "wss")}
_ENDPOINTS = ("/realtime/calls", "/realtime")
_MAX_ANSWER_BYTES = 256 * 1024
_MAX_ERROR_CHARS, _MAX_CODE_CHARS = 300, 60
_ADVICE = {
    401: "give a key with --api-key, BRIDGE_API_KEY or OPENAI_API_KEY",
    403: "the server does not allow this key, this host name or this path",
    404: "is this the URL of a Realtime API? A base such as http://127.0.0.1:8080 is enough",
    405: "the server does not accept WebRTC offers there; try --transport websocket",
    429: "too many calls or requests: try again later, or make fewer",
    503: "try again later",
}


class CallFailed(BridgeError):
    """There was no answer. The message is for a person and says what to do; ``code`` is the server's or a slug."""

    code = "call_failed"

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        """The HTTP status of the refusal; None if the server has not refused."""


@dataclass(frozen=True, slots=True)
class Address:
    """The endpoints of a server; made by ``parse_address``."""

    calls: str
    """The URL that takes WebRTC offers."""
    socket: str
    """The URL that takes WebSockets, each with a session of its own."""
    model: str
    """The model that is asked for."""

    def carrier(self, name: str) -> tuple[str, str]:
        """Returns the URLs that a telephone carrier uses: by HTTP, and by WebSocket."""
        http, ws = (urlsplit(url) for url in (self.calls, self.socket))
        path = f"{ws.path.removesuffix('/realtime')}/telephony/{name}"
        return urlunsplit((http.scheme, http.netloc, path, "", "")), urlunsplit((ws.scheme, ws.netloc, path, "", ""))

    def listener(self, call_id: str, **choices: str) -> str:
        """Returns the URL for a WebSocket that listens to a call with its sound.

        ``choices`` are the rest of its query.
        """
        parts = urlsplit(self.socket)
        query = [(key, value) for key, value in parse_qsl(parts.query) if key != "model"]
        asked = {"call_id": call_id, "audio": "pcm16", **choices}
        return urlunsplit(parts._replace(query=urlencode([*query, *asked.items()])))

    def resource(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Returns the URL of another resource of the same API; ``path`` stands behind its root (``…/v1``)."""
        parts = urlsplit(self.calls)
        root = parts.path.removesuffix(_ENDPOINTS[0])
        return urlunsplit((parts.scheme, parts.netloc, f"{root}{path}", urlencode(query or {}), ""))

    @property
    def origin(self) -> str:
        """Scheme, host and port of the server, below which are also the pages that do not belong to the API."""
        parts = urlsplit(self.calls)
        return f"{parts.scheme}://{parts.netloc}"


def parse_address(url: str, model: str | None = None) -> Address:
    """Returns the endpoints for a base URL, an API root (``…/v1``) or one of the endpoints, with the query of that
    URL.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        http, ws = _SCHEMES[parts.scheme]
        if not parts.hostname or parts.username is not None or parts.port == 0:
            raise ValueError
    except (KeyError, ValueError):
        raise CallFailed("The URL should look like http://host:port or https://host/v1.") from None
    path = parts.path.rstrip("/")
    endpoint = next((endpoint for endpoint in _ENDPOINTS if path.endswith(endpoint)), None)
    root = path.removesuffix(endpoint) if endpoint else path if path.endswith("/v1") else f"{path}/v1"
    query = dict(parse_qsl(parts.query))
    query["model"] = model or query.get("model") or DEFAULT_MODEL

    def at(scheme: str, endpoint: str) -> str:
        return urlunsplit((scheme, parts.netloc, f"{root}{endpoint}", urlencode(query), ""))

    return Address(at(http, "/realtime/calls"), at(ws, "/realtime"), query["model"])


def authorization(api_key: str | None) -> dict[str, str]:
    """Returns the header that shows the key, or no header without a key. No error message may ever quote it."""
    if not api_key:
        return {}
    if not (api_key.isascii() and api_key.isprintable()):
        raise CallFailed("The API key contains a character that keys never have; perhaps a line break?")
    return {"Authorization": f"Bearer {api_key}"}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: they would take the key elsewhere, and turn the POST into a GET."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


NO_REDIRECTS = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
"""Opens URLs, and follows no redirect."""


def post_offer(
    url: str, sdp: str, *, api_key: str | None, timeout_s: float, headers: Mapping[str, str] | None = None
) -> tuple[bytes, str | None]:
    """Sends an offer; returns the answer, and the call's id if the server names one. Raises ``CallFailed``.

    ``headers`` go with the request, in addition to the key. It blocks, also to read why the server refuses: run it in
    a thread.
    """
    usual = {"Content-Type": "application/sdp", "Accept": "application/sdp", **authorization(api_key)}
    request = urllib.request.Request(url, data=sdp.encode(), headers={**usual, **(headers or {})})
    try:
        with NO_REDIRECTS.open(request, timeout=timeout_s) as response:
            location = urlsplit(response.headers.get("Location") or "").path
            return response.read(_MAX_ANSWER_BYTES), location.rstrip("/").rpartition("/")[2] or None
    except Exception as error:
        raise explain(error, url) from None


def post_form(url: str, form: Mapping[str, str], *, headers: Mapping[str, str], timeout_s: float) -> bytes:
    """Sends a form, and returns what is answered. Raises ``CallFailed``. It blocks, like ``post_offer``."""
    return post_body(url, urlencode(form).encode(), headers=headers, timeout_s=timeout_s)


def post_body(url: str, body: bytes | None, *, headers: Mapping[str, str], timeout_s: float) -> bytes:
    """Sends a body, and returns what is answered. Raises ``CallFailed``.

    The body is a form unless ``headers`` say what it is. If it is None, the request is a GET. It blocks.
    """
    request = urllib.request.Request(url, data=body, headers=dict(headers))
    try:
        with NO_REDIRECTS.open(request, timeout=timeout_s) as response:
            return bytes(response.read(_MAX_ANSWER_BYTES))
    except Exception as error:
        raise explain(error, url) from None


def explain(error: Exception, url: str) -> CallFailed:
    """Returns an error that says what went wrong on the way to ``url``, in words that help."""
    if isinstance(error, CallFailed):
        return error
    where = urlsplit(url)
    place = f"{where.scheme}://{where.netloc}"
    is_local = where.hostname in ("127.0.0.1", "::1", "localhost")
    cause = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    match cause:
        case HTTPError():
            with cause:
                return _refused(cause.code, cause.read(_MAX_ANSWER_BYTES), place)
        case InvalidStatus():
            return _refused(cause.response.status_code, bytes(cause.response.body or b""), place)
        case TimeoutError():
            words = f"{place} did not answer in time: is the URL right, and is the server healthy?"
            return CallFailed(words, code="timeout")
        case socket.gaierror():
            words = f"The host {where.hostname} does not exist: is the URL right?"
            return CallFailed(words, code="unknown_host")
        case ssl.SSLCertVerificationError():
            hint = "to trust it, set SSL_CERT_FILE to the PEM file of its issuer"
            words = f"The certificate of {place} is not trusted: {cause.verify_message}; {hint}."
            return CallFailed(words, code="untrusted_certificate")
        case ssl.SSLError():
            words = f"{place} does not speak TLS: does its URL begin with http:// instead?"
            return CallFailed(words, code="no_tls")
        case OSError() if cause.errno == errno.ECONNREFUSED or "Connect call failed" in str(cause):
            hint = "is `make run` running?" if is_local else "is the server running, and the URL right?"
            return CallFailed(f"Nothing is listening at {place}: {hint}", code="nothing_listens")
        case InvalidHandshake() | HTTPException() | EOFError() | ConnectionError():
            hint = (
                "does its URL begin with https:// instead?" if where.scheme in ("http", "ws") else "is the URL right?"
            )
            return CallFailed(f"{place} does not answer with HTTP: {hint}", code="no_http")
        case OSError():
            return CallFailed(f"{place} cannot be reached: {cause.strerror or cause}.", code="unreachable")
    return CallFailed(f"The call to {place} failed: {type(cause).__name__}: {cause}")


def _refused(status: int, body: bytes, place: str) -> CallFailed:
    """Returns the server's own words, if they are OpenAI's error object, and the advice that goes with the status."""
    words, code = "", f"http_{status}"
    try:
        error = json.loads(body)["error"]
        words = ": " + str(error["message"])[:_MAX_ERROR_CHARS].rstrip(".")
        code = str(error.get("code") or code)[:_MAX_CODE_CHARS]
    except (ValueError, KeyError, TypeError):
        pass  # it is not in OpenAI's form
    advice = f" ({_ADVICE[status]})" if status in _ADVICE else ""
    return CallFailed(f"{place} refused with HTTP {status}{words}{advice}.", code=code, status=status)
