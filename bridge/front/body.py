"""Request bodies, read no further than they may be long and no longer than a client may take."""

import asyncio
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

from starlette.requests import ClientDisconnect, Request

from bridge.errors import BadRequest, RequestError
from bridge.peer.sdp import MAX_SDP_BYTES
from bridge.wire.checks import require_shallow
from bridge.wire.client_events import decode_json

__all__ = ["read_body", "read_form", "read_json"]

_TIMEOUT_S = 10.0
_MAX_JSON_BYTES = 256 * 1024


async def read_body(
    request: Request, limit_bytes: int, *, too_long: type[RequestError] = BadRequest, param: str = "body"
) -> bytes:
    """The whole body; raises ``too_long`` or, where it is too slow, ``BadRequest``."""
    body = b""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise too_long(f"The body is over the limit of {limit_bytes} bytes.", param=param)
    except ClientDisconnect:
        raise BadRequest("The client left before its body was complete.") from None
    except TimeoutError:
        raise BadRequest(f"The body did not arrive within {_TIMEOUT_S:g} s.") from None
    return body


async def read_json(request: Request) -> Any:
    """The body as JSON; an empty one is an empty object."""
    body = await read_body(request, _MAX_JSON_BYTES)
    if not body.strip():
        return {}
    value = decode_json(body)
    require_shallow(value)
    return value


async def read_form(request: Request) -> dict[str, bytes]:
    """The parts of a ``multipart/form-data`` body by name, with or without a filename."""
    body = await read_body(request, MAX_SDP_BYTES + _MAX_JSON_BYTES)
    content_type = request.headers.get("content-type", "").encode("latin-1")
    message = message_from_bytes(b"Content-Type: " + content_type + b"\r\n\r\n" + body, policy=HTTP)
    parts = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            parts[name] = content
    return parts
