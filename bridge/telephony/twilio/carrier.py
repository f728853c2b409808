"""Twilio's row: a webhook that is answered with TwiML, and the stream that the TwiML starts, both signed."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection, Request

from bridge.errors import Forbidden
from bridge.telephony.carrier import Carrier, CarrierHost, CarrierSocket, HttpEndpoint
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.dialect import RETURN_PARAMETER
from bridge.telephony.http_api import HttpApi, basic
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.sign_in import TELEPHONES_KEYS, bearer, counted, require_secrets
from bridge.telephony.transfer import document_endpoint, transfer_by
from bridge.telephony.twilio.dialect import HANG_UP_TWIML, TWILIO_DIALECT, transfer_to, write_dial, write_twiml
from bridge.telephony.twilio.settings import TwilioSettings
from bridge.telephony.twilio.sign_in import SIGNATURE_HEADER, is_signed
from bridge.telephony.webhook import address_of_request, fields_of_form, passed_on, webhook

__all__ = ["TWILIO"]

_API = "https://api.twilio.com/2010-04-01"
_MAX_SHOWN = 256
_PASSED_ON = {"From": "from", "To": "to"}
_AGAIN = "/again"


def _sign_in(host: CarrierHost[TwilioSettings], request: HTTPConnection) -> Trust:
    """Signs a connection in by a signature, by the token alone, or by either.

    A signature that is there must be right.
    """
    mode = host.settings.twilio_sign_in
    if mode == "token" or (mode == "either" and SIGNATURE_HEADER not in request.headers):
        return Trust(needs_token=True, checks=TELEPHONES_KEYS)
    _require_signature(host, "ws", request, {})
    needs_token = host.settings.twilio_require_token
    return Trust(is_admitted=True, needs_token=needs_token, checks=TELEPHONES_KEYS)


def _sign_webhook_in(host: CarrierHost[TwilioSettings], request: Request, body: bytes, form: Mapping[str, str]) -> None:
    _require_signature(host, "http", request, form if body else {})


def _require_webhook(host: CarrierHost[TwilioSettings], request: Request) -> None:
    _secrets(host)
    _require_signed(request)


def _secrets(host: CarrierHost[TwilioSettings]) -> tuple[str, ...]:
    return require_secrets("twilio_auth_token", host.settings.twilio_auth_token)


def _require_signature(
    host: CarrierHost[TwilioSettings], scheme: str, request: HTTPConnection, form: Mapping[str, str]
) -> None:
    secrets = _secrets(host)
    url = address_of_request(host, scheme, request)
    _require_signed(request)
    if not is_signed(secrets, url, request.headers, form):
        message = (
            "The signature does not match this URL and these secrets; is public_url the address that Twilio was given?"
        )
        raise Forbidden(message, code="invalid_signature")


def _require_signed(request: HTTPConnection) -> None:
    if SIGNATURE_HEADER not in request.headers:
        raise Forbidden("The request is not signed.", code="missing_signature")


def _checks(host: CarrierHost[TwilioSettings], scheme: str, request: HTTPConnection) -> str:
    """Returns what a signature of ``request`` is compared with. Its query may hold secrets, and is not shown."""
    if host.telephony.public_url is None:
        return ""
    url, _, query = address_of_request(host, scheme, request).partition("?")
    shown = f"{url[:_MAX_SHOWN]}{'?…' if query else ''}"
    return f"{shown} signed by {counted('twilio_auth_token', host.settings.twilio_auth_token)}"


def _new_api(settings: TwilioSettings) -> HttpApi | None:
    account = settings.twilio_account_sid
    if account is None or not settings.twilio_auth_token:
        return None
    headers = basic(account, settings.twilio_auth_token[0])
    url = f"{settings.twilio_api_url or _API}/Accounts/{account}"
    return HttpApi(carrier=TWILIO_DIALECT.name, url=url, headers=headers)


def _write(url: str, token: str, form: Mapping[str, str]) -> str:
    parameters = passed_on(_PASSED_ON, form, token) | {RETURN_PARAMETER: "1"}
    return write_twiml(url, parameters, f"{url.replace('ws', 'http', 1)}{_AGAIN}")


def _webhook(**more: Any) -> HttpEndpoint[TwilioSettings]:
    return webhook(
        TWILIO_DIALECT.name,
        title="Twilio",
        document="TwiML",
        require=_require_webhook,
        read=fields_of_form,
        sign_in=_sign_webhook_in,
        write=_write,
        checks=lambda host, request: _checks(host, "http", request),
        call_field="CallSid",
        media_type="text/xml",
        request_type="application/x-www-form-urlencoded",
        **more,
    )


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
        _webhook(),
        _webhook(below=_AGAIN, farewell=HANG_UP_TWIML),
        document_endpoint(
            TWILIO_DIALECT.name,
            title="SignalWire",
            setting="twilio_auth_token",
            media_type="text/xml",
            write=write_dial,
        ),
    ),
    new_transfer=transfer_by(_new_api, "/Calls/{call}.json", transfer_to, is_form=True),
    transfers_by_document=lambda settings: settings.twilio_api_url is not None,
    transfer_needs=("twilio_account_sid", "twilio_auth_token"),
)
