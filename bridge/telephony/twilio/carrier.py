"""Twilio's row: a webhook that is answered with TwiML, and the stream that the TwiML starts, both signed."""

from base64 import b64encode
from collections.abc import Mapping

from starlette.requests import HTTPConnection, Request

from bridge.errors import Forbidden
from bridge.telephony.carrier import Carrier, CarrierHost, CarrierSocket
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.sign_in import TELEPHONES_KEYS, bearer, counted, require_secrets
from bridge.telephony.transfer import HttpTransfer
from bridge.telephony.twilio.dialect import TWILIO_DIALECT, write_dial, write_twiml
from bridge.telephony.twilio.settings import TwilioSettings
from bridge.telephony.twilio.sign_in import SIGNATURE_HEADER, is_signed
from bridge.telephony.webhook import fields_of_form, webhook

__all__ = ["TWILIO"]

_API = "https://api.twilio.com/2010-04-01"
_MAX_SHOWN = 256
_PASSED_ON = ("From", "To")


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


def _write(url: str, token: str, form: Mapping[str, str]) -> str:
    return write_twiml(
        url, {TOKEN_PARAMETER: token} | {name.lower(): form[name] for name in _PASSED_ON if form.get(name)}
    )


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
    """Returns what a signature of ``request`` is compared with. Its query may hold secrets, and is not shown."""
    if host.telephony.public_url is None:
        return ""
    url = _address(host, scheme, request)[:_MAX_SHOWN]
    query = "?…" if request.scope["query_string"] else ""
    return f"{url}{query} signed by {counted('twilio_auth_token', host.settings.twilio_auth_token)}"


def _address(host: CarrierHost[TwilioSettings], scheme: str, request: HTTPConnection) -> str:
    """Returns the request's address as the carrier knows it, without its query."""
    return host.public_url(scheme, request.scope["raw_path"].decode("latin-1"))


def _new_transfer(settings: TwilioSettings) -> HttpTransfer | None:
    if settings.twilio_account_sid is None or not settings.twilio_auth_token:
        return None
    account = settings.twilio_account_sid
    credentials = b64encode(f"{account}:{settings.twilio_auth_token[0]}".encode()).decode()
    return HttpTransfer(
        TWILIO_DIALECT.name,
        f"{_API}/Accounts/{account}/Calls/{{call}}.json",
        {"Authorization": f"Basic {credentials}"},
        body=lambda target_uri: {"Twiml": write_dial(target_uri)},
        is_form=True,
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
        webhook(
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
        ),
    ),
    new_transfer=_new_transfer,
    transfer_needs=("twilio_account_sid", "twilio_auth_token"),
)
