"""Vonage's row: a signed webhook that is answered with an NCCO, and the WebSocket that the NCCO opens."""

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from starlette.requests import HTTPConnection, Request

from bridge.errors import Forbidden
from bridge.outgoing import Client
from bridge.telephony.carrier import Carrier, CarrierHost, CarrierSocket
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.hang_up import hang_up_by
from bridge.telephony.http_api import HttpApi
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.jwt import Rs256Signer, ends_at, is_jwt, read_jwt, signed_hs256
from bridge.telephony.sign_in import TELEPHONES_KEYS, bearer, counted, require_secrets
from bridge.telephony.transfer import transfer_by
from bridge.telephony.vonage.dialect import VONAGE_DIALECT, transfer_to, write_ncco
from bridge.telephony.vonage.settings import VonageSettings
from bridge.telephony.webhook import fields_of_json, passed_on, webhook

__all__ = ["VONAGE"]

_API = "https://api.nexmo.com/v1"
_TOKEN_S = 60
_PASSED_ON = {name: name for name in ("uuid", "conversation_uuid", "from", "to")}


def _sign_in(host: CarrierHost[VonageSettings], request: HTTPConnection) -> Trust:
    """Signs a connection in by Vonage's signed token if there is one, else by a telephone's key.

    The key comes as Bearer token, or in the first message.
    """
    require_secrets("vonage_signature_secret", host.settings.vonage_signature_secret)
    checks = _checks(host, request)
    if is_jwt(bearer(request.headers)):
        _require_signed(host, request)
        return Trust(is_admitted=True, checks=checks)
    return Trust(needs_token=True, checks=checks)


def _require_signed(host: CarrierHost[VonageSettings], request: HTTPConnection) -> dict[str, Any]:
    secrets = require_secrets("vonage_signature_secret", host.settings.vonage_signature_secret)
    token = bearer(request.headers)
    if token is None:
        raise Forbidden("The request is not signed.", code="missing_signature")
    now = time.time()
    claims = read_jwt(token, signed_hs256(secrets), now=now)
    wanted = host.settings.vonage_application_id
    if wanted is not None and claims.get("application_id") != wanted:
        raise Forbidden("The token belongs to another application.", code="invalid_signature")
    shown = f"{VONAGE_DIALECT.name} {claims.get('jti') or token}"
    host.carrier_calls.replays.require_new(shown, now=now, until=ends_at(claims))
    return claims


def _require_open(host: CarrierHost[VonageSettings], request: Request) -> None:
    require_secrets("vonage_signature_secret", host.settings.vonage_signature_secret)


def _sign_webhook_in(
    host: CarrierHost[VonageSettings], request: Request, body: bytes, fields: Mapping[str, str]
) -> None:
    given = _require_signed(host, request).get("payload_hash")  # a token for the socket has no hash
    if not (isinstance(given, str) and hmac.compare_digest(given.encode(), _hash_of(body).encode())):
        raise Forbidden("The signature does not match this body.", code="invalid_signature")


def _hash_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _checks(host: CarrierHost[VonageSettings], request: HTTPConnection) -> str:
    return f"{counted('vonage_signature_secret', host.settings.vonage_signature_secret)}, {TELEPHONES_KEYS}"


def _new_dialect(request: HTTPConnection) -> JsonDialect:
    shown = bearer(request.headers)
    return JsonDialect(VONAGE_DIALECT, None if is_jwt(shown) else shown, request.query_params)


def _new_api(settings: VonageSettings) -> HttpApi | None:
    application = settings.vonage_application_id
    if settings.vonage_private_key is None:
        return None
    signer = Rs256Signer(settings.vonage_private_key)

    async def authorize(http: Client) -> dict[str, str]:
        now = int(time.time())
        claims = {"application_id": application, "iat": now, "exp": now + _TOKEN_S, "jti": str(uuid4())}
        return {"Authorization": f"Bearer {signer.sign(claims)}"}

    return HttpApi(carrier=VONAGE_DIALECT.name, url=_API, authorize=authorize)


VONAGE = Carrier(
    name=VONAGE_DIALECT.name,
    settings=VonageSettings,
    is_open=lambda settings: bool(settings.vonage_signature_secret),
    socket=CarrierSocket(
        what="Vonage's Voice API",
        opened_by="Vonage's signed token, or a single-use token as Bearer or in the first message",
        sign_in=_sign_in,
        checks=_checks,
        new_dialect=_new_dialect,
    ),
    endpoints=(
        webhook(
            VONAGE_DIALECT.name,
            title="Vonage",
            document="an NCCO",
            require=_require_open,
            read=fields_of_json,
            sign_in=_sign_webhook_in,
            write=lambda url, token, fields: write_ncco(url, passed_on(_PASSED_ON, fields, token)),
            checks=_checks,
            call_field="uuid",
        ),
    ),
    new_hang_up=hang_up_by(_new_api, "/calls/{call}", method="PUT", body={"action": "hangup"}),
    new_transfer=transfer_by(_new_api, "/calls/{call}", transfer_to, method="PUT"),
    transfer_needs=("vonage_application_id", "vonage_private_key"),
)
