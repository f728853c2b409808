"""The webhook of an incoming call: it is signed in, and answered with a document that streams the call here.

The document brings a token that is good for this one stream.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from bridge.api.body import read_body
from bridge.api.operation import Operation
from bridge.calls.keys import Grant, KeyPurpose
from bridge.context import TraceContext, address_of
from bridge.errors import BadRequest, BridgeError, Forbidden
from bridge.telephony.carrier import TELEPHONY, CarrierHost, HttpEndpoint
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.wire.ids import new_id

__all__ = ["address_of_request", "fields_of_form", "fields_of_json", "new_stream_token", "passed_on", "webhook"]

_TOKEN_TTL_S = 60.0  # from our answer to the webhook to the stream's start
_MAX_BODY_BYTES = 65_536
_MAX_FIELDS = 200


async def new_stream_token(
    host: CarrierHost[Any],
    call: str,
    *,
    is_plain: bool = False,
    trace: TraceContext | None = None,
    only_returns: bool = False,
) -> str:
    """Mints a single-use key for a carrier that is about to use it; raises ``OverLimit`` if too many wait to be used.

    The key proves that its stream is of ``call``, the carrier's id; an empty id proves nothing. With ``is_plain`` the
    key has only letters and digits. The stream's call becomes a part of ``trace``. A key that ``only_returns`` opens no
    new call.
    """
    grant = Grant(
        key_id=new_id("key"),
        purpose=KeyPurpose.TELEPHONE,
        is_single_use=True,
        carrier_call_id=call or None,
        only_returns=only_returns,
        metadata={} if trace is None else trace.headers,
    )
    return await host.keys.store.mint(grant, ttl_s=_TOKEN_TTL_S, key=secrets.token_hex(24) if is_plain else None)


def webhook(
    name: str,
    *,
    title: str,
    document: str,
    read: Callable[[bytes], Mapping[str, str]],
    sign_in: Callable[[CarrierHost[Any], Request, bytes, Mapping[str, str]], None],
    write: Callable[[str, str, Mapping[str, str]], str],
    checks: Callable[[CarrierHost[Any], Request], str],
    call_field: str,
    media_type: str = "application/json",
    request_type: str = "application/json",
    method: Literal["get", "post"] = "post",
    require: Callable[[CarrierHost[Any], Request], None] = lambda host, request: None,
    is_call: Callable[[Mapping[str, str]], bool] = lambda fields: True,
    is_token_plain: bool = False,
    below: str = "",
    farewell: str | None = None,
) -> HttpEndpoint[Any]:
    """Makes the operation ``method /v1/telephony/name``, with ``below`` appended to the path.

    ``is_call`` tells an incoming call from other events, which are answered with an empty object.
    ``require`` refuses what can be refused before a byte of the body is read. ``read`` returns the fields of the body.
    ``sign_in`` raises ``BridgeError`` if the request is not the carrier's. ``write`` makes the document of the stream's
    address, its token and the fields. ``checks`` says for the log what was compared. ``call_field`` is the field with
    the carrier's id of the call. With ``is_token_plain`` the token has only letters and digits. With a ``farewell`` it
    is the webhook that the carrier asks after the stream of a call has ended: a call that goes on is streamed here
    again, and for one that is over the farewell is the answer.
    """
    path = f"{TELEPHONY}/{name}"  # the path of the stream

    async def answer(host: CarrierHost[Any], request: Request) -> Response:
        fields: Mapping[str, str] = {}
        try:
            require(host, request)
            if host.telephony.public_url is None:
                raise Forbidden("This endpoint is closed: public_url is not set.", code="endpoint_closed")
            body = await read_body(request, _MAX_BODY_BYTES)
            fields = read(body) if body else dict(request.query_params)
            sign_in(host, request, body, fields)
        except BridgeError as error:
            call, sender = fields.get(call_field, ""), address_of(request.client)
            host.carrier_calls.refuse(name, error, call=call, sender=sender, checks=checks(host, request))
            raise
        if not is_call(fields):
            return Response("{}", media_type=media_type)
        call, is_again = fields.get(call_field, ""), farewell is not None
        if is_again and not (call and await host.carrier_calls.is_awaited(name, call)):
            return Response(farewell, media_type=media_type)
        if not is_again:
            await host.calls.require_room()
        trace = TraceContext.of(request.headers)
        token = await new_stream_token(host, call, is_plain=is_token_plain, trace=trace, only_returns=is_again)
        return Response(write(host.public_url("ws", path), token, fields), media_type=media_type)

    occasion, otherwise = ("an incoming call", "") if farewell is None else ("a stream's end", " again, or hangs up")
    operation = Operation(
        method=method,
        path=f"{path}{below}",
        summary=f"{title}'s webhook for {occasion}. The response is {document} that streams the call here{otherwise}.",
        request=request_type if method == "post" else None,
        response=media_type,
        is_public=True,
    )
    return HttpEndpoint(operation=operation, handle=answer)


def address_of_request(host: CarrierHost[Any], scheme: str, request: HTTPConnection) -> str:
    """Returns the address of a request as its carrier knows and signs it, with its query; ``scheme`` is http or ws."""
    query = request.scope["query_string"].decode("latin-1")
    url = host.public_url(scheme, request.scope["raw_path"].decode("latin-1"))
    return f"{url}?{query}" if query else url


def passed_on(names: Mapping[str, str], fields: Mapping[str, str], token: str) -> dict[str, str]:
    """Returns a stream's parameters: its token, and the webhook's fields that ``names`` has, by the names there."""
    return {TOKEN_PARAMETER: token} | {ours: fields[theirs] for theirs, ours in names.items() if fields.get(theirs)}


def fields_of_form(body: bytes) -> dict[str, str]:
    """Returns the fields of an ``application/x-www-form-urlencoded`` body; raises ``BadRequest``."""
    try:
        text = body.decode("utf-8", "replace")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise BadRequest(f"The form has more than {_MAX_FIELDS} fields.", code="invalid_form", param="body") from None


def fields_of_json(body: bytes) -> dict[str, str]:
    """Returns the texts and numbers of a JSON object, or of the first object of a list; raises ``BadRequest``."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise BadRequest("The body is not JSON.", code="invalid_json", param="body") from None
    if isinstance(said, list):
        said = said[0] if said else {}
    if not isinstance(said, dict):
        raise BadRequest("The body is not a JSON object.", code="invalid_json", param="body")
    return {name: str(value) for name, value in said.items() if isinstance(value, str | int | float)}
