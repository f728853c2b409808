"""The row of Azure Communication Services: a token that Azure has signed opens the stream.

Closing the stream leaves the caller in silence, so the API hangs up, if the resource's access key is set.
"""

import base64
import time

from starlette.requests import HTTPConnection

from bridge.errors import Forbidden
from bridge.telephony.acs.api import signed_by
from bridge.telephony.acs.dialect import ACS_DIALECT, CALL_HEADER, CORRELATION_HEADER, transfer_to
from bridge.telephony.acs.settings import AcsSettings
from bridge.telephony.carrier import Carrier, CarrierHost, CarrierSocket
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.telephony.hang_up import hang_up_by
from bridge.telephony.http_api import HttpApi
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.jwt import ends_at, is_jwt, read_jwt, signed_rs256
from bridge.telephony.sign_in import TELEPHONES_KEYS, bearer, counted, require_secrets
from bridge.telephony.transfer import transfer_by

__all__ = ["ACS"]

_ISSUER = "https://acscallautomation.communication.azure.com"
_ON_CALL = "/callConnections/{call}:%s?api-version=2024-09-15"


async def _sign_in(host: CarrierHost[AcsSettings], request: HTTPConnection) -> Trust:
    """Signs a connection in by Azure's signed token, or else by a telephone's key in the address."""
    audiences = require_secrets("acs_audience", host.settings.acs_audience)
    checks = _checks(host, request)
    token = bearer(request.headers)
    if not is_jwt(token):
        return Trust(needs_token=True, checks=checks)
    keys = await host.public_keys.of(ACS_DIALECT.name, host.settings.acs_jwks_url, token)
    now = time.time()
    claims = read_jwt(token, signed_rs256(keys), now=now)
    given = claims.get("aud")
    if claims.get("iss") != _ISSUER or not set(given if isinstance(given, list) else [given]) & set(audiences):
        raise Forbidden("The token is not one of Azure's for this resource.", code="invalid_signature")
    call = request.headers.get(CALL_HEADER, "")
    host.carrier_calls.replays.require_new(
        f"{ACS_DIALECT.name} {token}",
        now=now,
        until=ends_at(claims),
        call=call,
        may_return=host.carrier_calls.is_running(ACS_DIALECT.name, call),  # its connection broke
    )
    return Trust(is_admitted=True, checks=checks)


def _checks(host: CarrierHost[AcsSettings], request: HTTPConnection) -> str:
    return f"{counted('acs_audience', host.settings.acs_audience)}, {TELEPHONES_KEYS}"


def _new_dialect(request: HTTPConnection) -> JsonDialect:
    ids = {name: request.headers[name] for name in (CALL_HEADER, CORRELATION_HEADER) if name in request.headers}
    shown = bearer(request.headers)
    key = request.query_params.get(TOKEN_PARAMETER) or (None if is_jwt(shown) else shown)
    return JsonDialect(ACS_DIALECT, key, request.query_params, of_upgrade=ids)


def _new_api(settings: AcsSettings) -> HttpApi | None:
    if settings.acs_endpoint is None or settings.acs_access_key is None:
        return None
    sign = signed_by(base64.b64decode(settings.acs_access_key))
    return HttpApi(carrier=ACS_DIALECT.name, url=f"{settings.acs_endpoint.rstrip('/')}/calling", sign=sign)


ACS = Carrier(
    name=ACS_DIALECT.name,
    settings=AcsSettings,
    is_open=lambda settings: bool(settings.acs_audience),
    socket=CarrierSocket(
        what="Azure Communication Services' bidirectional audio",
        opened_by="Azure's signed token, or a single-use token in `?token=`",
        sign_in=_sign_in,
        checks=_checks,
        new_dialect=_new_dialect,
    ),
    new_hang_up=hang_up_by(_new_api, _ON_CALL % "terminate"),
    new_transfer=transfer_by(_new_api, _ON_CALL % "transferToParticipant", transfer_to),
    transfer_needs=("acs_endpoint", "acs_access_key"),
)
