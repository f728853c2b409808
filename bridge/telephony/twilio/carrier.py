"""Twilio's row: a webhook that is answered with TwiML, and the stream that this starts, both signed."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from bridge.api.body import read_body
from bridge.api.operation import Operation
from bridge.calls.keys import Grant, KeyPurpose
from bridge.context import address_of
from bridge.errors import BadRequest, BridgeError, Forbidden
from bridge.telephony.carrier import TELEPHONY, Carrier, CarrierHost, CarrierSocket, HttpEndpoint
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.sign_in import TELEPHONES_KEYS, bearer, counted, require_secrets
from bridge.telephony.twilio.dialect import TWILIO_DIALECT, write_twiml
from bridge.telephony.twilio.settings import TwilioSettings
from bridge.telephony.twilio.sign_in import SIGNATURE_HEADER, is_signed
from bridge.wire.ids import new_id

__all__ = ["TWILIO"]

_PATH = f"{TELEPHONY}/{TWILIO_DIALECT.name}"
_TOKEN_TTL_S = 60.0  # between our answer to the webhook and the stream's start
_MAX_FORM_BYTES = 65_536
_MAX_FIELDS = 200
_MAX_SHOWN = 256
_PASSED_ON = ("From", "To")


def _sign_in(host: CarrierHost[TwilioSettings], request: HTTPConnection) -> Trust:
    """By a signature, by the token alone, or by either; a signature that is there must be right."""
    mode = host.settings.twilio_sign_in
    if mode == "token" or (mode == "either" and SIGNATURE_HEADER not in request.headers):
        return Trust(needs_token=True, checks=TELEPHONES_KEYS)
    _require_signature(host, "ws", request, {})
    needs_token = host.settings.twilio_require_token
    return Trust(is_admitted=True, needs_token=needs_token, checks=TELEPHONES_KEYS)


async def _answer(host: CarrierHost[TwilioSettings], request: Request) -> Response:
    """An incoming call's webhook: TwiML that streams it here, with a token for this one stream."""
    form: dict[str, str] = {}
    try:
        _secrets(host)
        _require_signed(request)  # before a byte of the body is read
        form = _fields(await read_body(request, _MAX_FORM_BYTES))
        _require_signature(host, "http", request, form)
    except BridgeError as error:
        call, sender = form.get("CallSid", ""), address_of(request.client)
        host.carrier_calls.refuse(
            TWILIO_DIALECT.name, error, call=call, sender=sender, checks=_checks(host, "http", request)
        )
        raise
    grant = Grant(key_id=new_id("key"), purpose=KeyPurpose.TELEPHONE, is_single_use=True)
    await host.calls.require_room(grant.key_id)
    token = await host.keys.store.mint(grant, ttl_s=_TOKEN_TTL_S)
    parameters = {TOKEN_PARAMETER: token}
    parameters |= {name.lower(): form[name] for name in _PASSED_ON if form.get(name)}
    return Response(write_twiml(host.public_url("ws", _PATH), parameters), media_type="text/xml")


def _secrets(host: CarrierHost[TwilioSettings]) -> tuple[str, ...]:
    return require_secrets("twilio_auth_token", host.settings.twilio_auth_token)


def _require_signature(
    host: CarrierHost[TwilioSettings], scheme: str, request: HTTPConnection, form: Mapping[str, str]
) -> None:
    secrets = _secrets(host)
    query = request.scope["query_string"].decode("latin-1")
    url = _address(host, scheme, request)
    url = f"{url}?{query}" if query else url
    _require_signed(request)
    if not is_signed(secrets, url, request.headers, form):
        message = "The signature is not of this address and these secrets; is public_url what Twilio was told?"
        raise Forbidden(message, code="invalid_signature")


def _require_signed(request: HTTPConnection) -> None:
    if SIGNATURE_HEADER not in request.headers:
        raise Forbidden("The request is not signed.", code="missing_signature")


def _checks(host: CarrierHost[TwilioSettings], scheme: str, request: HTTPConnection) -> str:
    """What a signature of ``request`` is compared with; a query may hold secrets, and is not shown."""
    if host.telephony.public_url is None:
        return ""
    url = _address(host, scheme, request)[:_MAX_SHOWN]
    query = "?…" if request.scope["query_string"] else ""
    return f"{url}{query} signed by {counted('twilio_auth_token', host.settings.twilio_auth_token)}"


def _address(host: CarrierHost[TwilioSettings], scheme: str, request: HTTPConnection) -> str:
    """The request's address without its query, as the carrier knows it."""
    return host.public_url(scheme, request.scope["raw_path"].decode("latin-1"))


def _fields(body: bytes) -> dict[str, str]:
    """The fields of an ``application/x-www-form-urlencoded`` body; raises ``BadRequest``."""
    try:
        text = body.decode("utf-8", "replace")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise BadRequest(f"The form has more than {_MAX_FIELDS} fields.", code="invalid_form", param="body") from None


TWILIO = Carrier(
    name=TWILIO_DIALECT.name,
    settings=TwilioSettings,
    is_open=lambda settings: bool(settings.twilio_auth_token) or settings.twilio_sign_in != "signature",
    socket=CarrierSocket(
        what="Twilio Media Streams",
        opened_by="Twilio's signature and a single-use token in the start message, or the token alone",
        sign_in=_sign_in,
        checks=lambda host, request: _checks(host, "ws", request),
        new_dialect=lambda request: JsonDialect(TWILIO_DIALECT, bearer(request.headers)),
    ),
    endpoints=(
        HttpEndpoint(
            operation=Operation(
                method="post",
                path=_PATH,
                summary="Twilio's webhook of an incoming call, signed; answered with TwiML that streams it here.",
                request="application/x-www-form-urlencoded",
                response="text/xml",
                is_public=True,
            ),
            handle=_answer,
        ),
    ),
)
