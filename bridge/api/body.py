"""Request bodies, whose length and time to arrive are limited; and JSON answers."""

import asyncio
import logging
from typing import Any

import msgspec
from msgspec import Struct
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bridge.calls.service import MAX_OFFER_BYTES
from bridge.errors import BadRequest, RequestError
from bridge.wire.checks import require_shallow
from bridge.wire.client_events import decode_json

__all__ = ["json_response", "read_body", "read_form", "read_json"]

_TIMEOUT_S = 10.0
_MAX_JSON_BYTES = 256 * 1024
_MAX_PARTS = 8
_MAX_PART_HEADERS_BYTES = 1024  # for one part, names and values together
_MAX_CONTENT_TYPE_CHARS = 256
_MAX_BOUNDARY_BYTES = 70  # RFC 2046 section 5.1.1
_SLICE_BYTES = 16 * 1024

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # the client is told what is wrong


def json_response(value: Struct, status: int = 200) -> Response:
    """Returns the answer that a type of the API stands for."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def read_body(
    request: Request, limit_bytes: int, *, too_long: type[RequestError] = BadRequest, param: str = "body"
) -> bytes:
    """Returns the whole body; raises ``too_long``, or ``BadRequest`` if it comes too slowly."""
    body = bytearray()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise too_long(f"The body is over the limit of {limit_bytes} bytes.", param=param)
    except ClientDisconnect:
        raise BadRequest("The client disconnected before the body was complete.") from None
    except TimeoutError:
        raise BadRequest(f"The body did not arrive within {_TIMEOUT_S:g} s.") from None
    return bytes(body)


async def read_json(request: Request) -> Any:
    """Returns the body as JSON; an empty one is an empty object."""
    body = await read_body(request, _MAX_JSON_BYTES)
    if not body.strip():
        return {}
    value = decode_json(body)
    require_shallow(value)
    return value


async def read_form(request: Request) -> dict[str, bytes]:
    """Returns the parts of a ``multipart/form-data`` body by name, with or without a filename (RFC 7578).

    Raises ``BadRequest`` if it is no form, or has more than 8 parts, or a part has more than 1 KiB of headers.
    """
    boundary = _boundary(request.headers.get("content-type", ""))
    body = await read_body(request, MAX_OFFER_BYTES + _MAX_JSON_BYTES)
    form = _Form(boundary)
    for start in range(0, len(body), _SLICE_BYTES):
        form.write(body[start : start + _SLICE_BYTES])
        await asyncio.sleep(0)  # the parser takes the worst body a byte at a time
    return form.finish()


def _boundary(content_type: str) -> bytes:
    """Returns what stands between the parts; raises ``BadRequest``."""
    if len(content_type) <= _MAX_CONTENT_TYPE_CHARS:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind.strip() == b"multipart/form-data" and 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
            return boundary
    raise BadRequest("The Content-Type of a form must be multipart/form-data; boundary=...", param="Content-Type")


class _Form:
    """The parts of a form so far; each byte is looked at once."""

    def __init__(self, boundary: bytes) -> None:
        self._parts: list[tuple[bytearray, bytearray]] = []
        self._headers_bytes = 0
        self._field = bytearray()
        self._value = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_part_data": lambda data, start, end: self._parts[-1][1].extend(data[start:end]),
                "on_header_begin": self._begin_header,
                "on_header_field": lambda data, start, end: self._extend(self._field, data[start:end]),
                "on_header_value": lambda data, start, end: self._extend(self._value, data[start:end]),
                "on_header_end": self._end_header,
            },
            max_header_size=_MAX_PART_HEADERS_BYTES,
        )

    def write(self, data: bytes) -> None:
        """Takes the next bytes of the body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadRequest(f"The body is not a valid form: {error}.", code="invalid_form", param="body") from None

    def finish(self) -> dict[str, bytes]:
        """Returns the parts that have a name; if two have the same one, the last."""
        self.write(b"")
        parts = {}
        for disposition, content in self._parts:
            _, options = parse_options_header(disposition.decode("latin-1"))
            if b"name" in options:
                parts[options[b"name"].decode("utf-8", "replace")] = bytes(content)
        return parts

    def _begin_part(self) -> None:
        if len(self._parts) == _MAX_PARTS:
            raise BadRequest(f"A form may have at most {_MAX_PARTS} parts.", code="invalid_form", param="body")
        self._parts.append((bytearray(), bytearray()))
        self._headers_bytes = 0

    def _begin_header(self) -> None:
        self._field.clear()
        self._value.clear()

    def _extend(self, what: bytearray, data: bytes) -> None:
        self._headers_bytes += len(data)
        if self._headers_bytes > _MAX_PART_HEADERS_BYTES:
            limit = f"A part may have at most {_MAX_PART_HEADERS_BYTES} bytes of headers."
            raise BadRequest(limit, code="invalid_form", param="body")
        what += data

    def _end_header(self) -> None:
        if bytes(self._field).lower() == b"content-disposition":
            self._parts[-1][0][:] = self._value
