"""The endpoints under other addresses: doubled and trailing slashes, and what Azure's clients call them.

Azure OpenAI has the same endpoints below ``/openai/v1``, and those of its preview, which speaks the beta dialect,
beside that. There the URL says ``deployment`` for the model and ``api-version``, and may hold the key, which goes from
the URL into the headers before anybody could write it down.
"""

import re
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Spellings"]

_SLASHES = re.compile(r"/{2,}")
_AZURE = re.compile(r"^/openai/(?:v1/)?(?=(?:realtime|models)(?:/|$))")
_PREVIEW = {
    "/openai/realtime": "/v1/realtime",
    "/openai/realtimeapi/sessions": "/v1/realtime/sessions",
    "/v1/realtimertc": "/v1/realtime",  # WebRTC, on a host of its own
}
_BETA = (b"openai-beta", b"realtime=v1")
_KEY, _MODEL, _DEPLOYMENT, _VERSION = "api-key", "model", "deployment", "api-version"


class Spellings:
    """The middleware: what is behind it sees each endpoint by its one address; ``raw_path`` stays as it came."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(_respelled(scope) if scope["type"] in ("http", "websocket") else scope, receive, send)


def _respelled(scope: Scope) -> Scope:
    path = _SLASHES.sub("/", scope["path"]).rstrip("/") or "/"
    if path in _PREVIEW:
        return _of_azure(scope, _PREVIEW[path], _BETA)
    ours = _AZURE.sub("/v1/", path)
    if ours != path:
        return _of_azure(scope, ours)
    return {**scope, "path": path} if path != scope["path"] else scope


def _of_azure(scope: Scope, path: str, *headers: tuple[bytes, bytes]) -> Scope:
    """Returns the request in OpenAI's words: a header of the client's own goes before what its URL says."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    names = [name for name, _ in query]
    kept = []
    for name, value in query:
        if name == _KEY:
            headers += ((_KEY.encode(), value.encode("latin-1", "replace")),)
        elif name == _DEPLOYMENT and _MODEL not in names:
            kept.append((_MODEL, value))
        elif name not in (_DEPLOYMENT, _VERSION):
            kept.append((name, value))
    return {
        **scope,
        "path": path,
        "query_string": urlencode(kept).encode(),
        "headers": [*scope["headers"], *headers],
    }
