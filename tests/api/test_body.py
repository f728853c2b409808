"""Bodies of requests: forms as browsers and SDKs write them, and as nobody should."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from bridge.api.body import read_body, read_form, read_json
from bridge.errors import BadRequest, RequestError

_SDP = b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\n"


def _request(*pieces: bytes, content_type: str = "") -> Request:
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def come() -> AsyncIterator[Any]:
        for message in messages:
            yield message

    coming = come()

    async def receive() -> Any:
        return await anext(coming)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", content_type.encode("latin-1"))]}
    return Request(scope, receive)


def _part(name: str, content: bytes, *fields: str) -> bytes:
    head = "\r\n".join([f"Content-Disposition: form-data; {name}", *fields])
    return b"--limit\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


def _form(*parts: bytes) -> Request:
    return _request(b"".join(parts) + b"--limit--\r\n", content_type="multipart/form-data; boundary=limit")


async def test_form_without_filenames() -> None:
    """As the SDKs send it: parts with a name and a type, and no filename; every byte is kept."""
    session = json.dumps({"instructions": "Grüße, 你好"}, ensure_ascii=False).encode()
    form = await read_form(
        _form(
            _part('name="sdp"', _SDP, "Content-Type: application/sdp"),
            _part('name="session"', session, "Content-Type: application/json"),
        )
    )
    assert form == {"sdp": _SDP, "session": session}


@pytest.mark.parametrize("name", ["name=sdp", 'name="sdp"; filename="offer.sdp"', 'name="sdp"; filename=""'])
async def test_form_as_others_write_it(name: str) -> None:
    """Unquoted, and with a filename as ``curl -F`` has it."""
    assert await read_form(_form(_part(name, _SDP))) == {"sdp": _SDP}


async def test_parts_without_a_name() -> None:
    """Are nobody's."""
    assert await read_form(_form(_part("size=1", _SDP), b"--limit\r\n\r\nplain\r\n")) == {}


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary*=utf-8''limit",
        f"multipart/form-data; boundary={'b' * 71}",
        f"multipart/form-data; boundary=limit; {'x' * 256}",
        "multipart/mixed; boundary=limit",
        "text/plain; boundary=limit",
        "text/plain",
        "ü/;=",
    ],
)
async def test_form_without_a_limit(content_type: str) -> None:
    """Nothing can be found in it, and the header is to blame."""
    with pytest.raises(BadRequest) as refused:
        await read_form(_request(_part('name="sdp"', _SDP), content_type=content_type))
    assert refused.value.param == "Content-Type"


async def test_form_of_many_parts() -> None:
    """Eight, and no more."""
    part = _part('name="sdp"', b"")
    assert await read_form(_form(*[part] * 8)) == {"sdp": b""}
    with pytest.raises(BadRequest, match="8 parts"):
        await read_form(_form(*[part] * 9))


@pytest.mark.parametrize("fields", [[f"X: {'x' * 1024}"], [f"X{n}: {'x' * 120}" for n in range(8)], ["x" * 1025]])
async def test_part_with_a_long_head(fields: list[str]) -> None:
    """1 KiB in all; one line or many."""
    with pytest.raises(BadRequest):
        await read_form(_form(_part('name="sdp"', _SDP, *fields)))


@pytest.mark.parametrize("body", [b"", b"limit", b"--limit\n", b"--limit\r\nX\r\n\r\n", b"--limitX\r\n"])
async def test_no_form(body: bytes) -> None:
    """Refused by name, or empty; nothing else."""
    with contextlib.suppress(BadRequest):
        assert await read_form(_request(body, content_type="multipart/form-data; boundary=limit")) == {}


@pytest.mark.parametrize(
    "fields",
    [
        ["Content-Transfer-Encoding: base64"],
        ["Content-Type: multipart/mixed; boundary=inner"],
        ["Content-Type: text/plain; charset=no-such"],
    ],
)
async def test_fields_that_mean_nothing_in_a_form(fields: list[str]) -> None:
    """A part is its bytes, whatever else is said of it (RFC 7578 sections 4.5 to 4.8)."""
    assert await read_form(_form(_part('name="sdp"', _SDP, *fields))) == {"sdp": _SDP}


async def test_body_in_pieces() -> None:
    """Put together; one byte over the limit is refused."""
    assert await read_body(_request(b"ab", b"", b"cd"), 4) == b"abcd"
    with pytest.raises(BadRequest):
        await read_body(_request(b"ab", b"cde"), 4)


@pytest.mark.parametrize(("body", "value"), [(b"", {}), (b" \n", {}), (b'{"a":1}', {"a": 1}), (b"[1]", [1])])
async def test_json(body: bytes, value: Any) -> None:
    """An empty body is an empty object."""
    assert await read_json(_request(body)) == value


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'"\\ud800"', b" " * 300_000])
async def test_no_json(body: bytes) -> None:
    """Refused in the protocol's own form, or read; nothing else."""
    with contextlib.suppress(RequestError):
        assert isinstance(await read_json(_request(body)), str)
