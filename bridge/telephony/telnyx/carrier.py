"""Telnyx' row: a stream that a secret opens. The HTTP API hangs calls up."""

from starlette.requests import HTTPConnection

from bridge.telephony.carrier import Carrier, CarrierHost, CarrierSocket
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.dialect import TOKEN_PARAMETER, number_in
from bridge.telephony.hang_up import hang_up_by
from bridge.telephony.http_api import HttpApi
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.sign_in import TELEPHONES_KEYS, bearer, counted, require_secrets
from bridge.telephony.telnyx.dialect import AUTH_TOKEN_HEADER, TELNYX_DIALECT
from bridge.telephony.telnyx.settings import TelnyxSettings
from bridge.telephony.transfer import transfer_by

__all__ = ["TELNYX"]

_API = "https://api.telnyx.com/v2"


def _sign_in(host: CarrierHost[TelnyxSettings], request: HTTPConnection) -> Trust:
    """Asks for nothing yet, because the secret may also come in a message."""
    secrets = require_secrets("telnyx_secret", host.settings.telnyx_secret)
    return Trust(secrets=secrets, checks=_checks(host, request))


def _checks(host: CarrierHost[TelnyxSettings], request: HTTPConnection) -> str:
    return f"{counted('telnyx_secret', host.settings.telnyx_secret)}, {TELEPHONES_KEYS}"


def _new_dialect(request: HTTPConnection) -> JsonDialect:
    headers, query = request.headers, request.query_params
    shown = headers.get(AUTH_TOKEN_HEADER) or bearer(headers) or query.get(TOKEN_PARAMETER)
    return JsonDialect(TELNYX_DIALECT, shown, query)


def _new_api(settings: TelnyxSettings) -> HttpApi | None:
    if settings.telnyx_api_key is None:
        return None
    return HttpApi(
        carrier=TELNYX_DIALECT.name, url=_API, headers={"Authorization": f"Bearer {settings.telnyx_api_key}"}
    )


TELNYX = Carrier(
    name=TELNYX_DIALECT.name,
    settings=TelnyxSettings,
    is_open=lambda settings: bool(settings.telnyx_secret),
    socket=CarrierSocket(
        what="Telnyx media streaming",
        opened_by="`stream_auth_token`, or a single-use token in the start message",
        sign_in=_sign_in,
        checks=_checks,
        new_dialect=_new_dialect,
    ),
    new_hang_up=hang_up_by(_new_api, "/calls/{call}/actions/hangup", body={}),
    new_transfer=transfer_by(
        _new_api, "/calls/{call}/actions/transfer", lambda target_uri: {"to": number_in(target_uri) or target_uri}
    ),
    transfer_needs=("telnyx_api_key",),
)
