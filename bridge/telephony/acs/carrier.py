"""The row of Azure Communication Services: a token that Azure has signed opens the stream.

Closing the stream leaves the caller in silence, so the API hangs up, if the resource's access key is set.
"""

import asyncio
import base64
import time
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from starlette.requests import HTTPConnection

from bridge.errors import Forbidden, Overloaded
from bridge.log import get_logger
from bridge.outgoing import HTTPError, new_client
from bridge.telephony.acs.api import signed_by
from bridge.telephony.acs.dialect import ACS_DIALECT, CALL_HEADER, CORRELATION_HEADER
from bridge.telephony.acs.settings import AcsSettings
from bridge.telephony.by_secret import shown_token
from bridge.telephony.carrier import Carrier, CarrierHost, CarrierSocket
from bridge.telephony.carrier_calls import CarrierCalls, Trust
from bridge.telephony.hang_up import HttpHangUp
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.jwt import ends_at, key_id_of, read_jwks, read_jwt, signed_rs256
from bridge.telephony.sign_in import TELEPHONES_KEYS, bearer, counted, require_secrets

__all__ = ["ACS"]

_log = get_logger("telephony")

_ISSUER = "https://acscallautomation.communication.azure.com"
_API_VERSION = "2024-09-15"
_FETCH_TIMEOUT_S = 3.0
_REFRESH_S = 60.0
_MAX_KEYS_BYTES = 65_536


class _Keys:
    """Azure's public keys by their id. They are fetched if an unknown one is needed, at most once a minute."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[str, RSAPublicKey]] = {}
        self._fetched_at: dict[str, float] = {}
        self._lock = asyncio.Lock()

    async def of(self, url: str, token: str) -> Mapping[str, RSAPublicKey]:
        """Returns the keys of ``url``, as fresh as ``token`` needs them.

        Raises ``Overloaded`` if they cannot be fetched.
        """
        async with self._lock:
            keys = self._keys.get(url, {})
            is_due = time.monotonic() - self._fetched_at.get(url, -_REFRESH_S) >= _REFRESH_S
            if is_due and key_id_of(token) not in keys:
                self._fetched_at[url] = time.monotonic()
                if fetched := await _fetch(url):  # otherwise the known keys are as good as before
                    keys = self._keys[url] = fetched
            if not keys:
                raise Overloaded("Azure's keys cannot be had, and nothing can be checked without them.")
            return keys


async def _fetch(url: str) -> dict[str, RSAPublicKey]:
    try:
        async with asyncio.timeout(_FETCH_TIMEOUT_S), new_client(_FETCH_TIMEOUT_S) as http:
            response = await http.get(url)
            return read_jwks(response.raise_for_status().content[:_MAX_KEYS_BYTES])
    except (HTTPError, ValueError, TimeoutError) as error:
        _log.warning("telephony.keys_failed", carrier=ACS_DIALECT.name, problem=type(error).__name__)
        return {}


async def _sign_in(host: CarrierHost[AcsSettings], request: HTTPConnection) -> Trust:
    """Signs a connection in by Azure's signed token, or else by a telephone's key in the address."""
    audiences = require_secrets("acs_audience", host.settings.acs_audience)
    checks = _checks(host, request)
    token = bearer(request.headers)
    if token is None or token.count(".") != 2:
        return Trust(needs_token=True, checks=checks)
    keys = await _keys.setdefault(host.carrier_calls, _Keys()).of(host.settings.acs_jwks_url, token)
    now = time.time()
    claims = read_jwt(token, signed_rs256(keys), now=now)
    given = claims.get("aud")
    if claims.get("iss") != _ISSUER or not set(given if isinstance(given, list) else [given]) & set(audiences):
        raise Forbidden("The token is not Azure's for this resource.", code="invalid_signature")
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
    shown = shown_token(request)
    is_key = shown is not None and shown.count(".") != 2
    return JsonDialect(ACS_DIALECT, shown if is_key else None, request.query_params, of_upgrade=ids)


def _new_hang_up(settings: AcsSettings) -> HttpHangUp | None:
    if settings.acs_endpoint is None or settings.acs_access_key is None:
        return None
    url = f"{settings.acs_endpoint.rstrip('/')}/calling/callConnections/{{call}}:terminate?api-version={_API_VERSION}"
    return HttpHangUp(ACS_DIALECT.name, url, sign=signed_by(base64.b64decode(settings.acs_access_key)))


_keys: WeakKeyDictionary[CarrierCalls, _Keys] = WeakKeyDictionary()  # one for each daemon

ACS = Carrier(
    name=ACS_DIALECT.name,
    settings=AcsSettings,
    is_open=lambda settings: bool(settings.acs_audience),
    socket=CarrierSocket(
        what="Azure Communication Services' bidirectional audio",
        opened_by="Azure's signed token, or a single-use token as `?token=`",
        sign_in=_sign_in,
        checks=_checks,
        new_dialect=_new_dialect,
    ),
    new_hang_up=_new_hang_up,
)
