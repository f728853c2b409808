"""Genesys' row: a session with a signed upgrade, which an Architect action opens."""

import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from bridge.errors import Unauthorized
from bridge.telephony.carrier import Carrier, CarrierHost, CarrierSocket
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.genesys.dialect import AudioHookSession, Genesys
from bridge.telephony.genesys.settings import GenesysSettings
from bridge.telephony.genesys.sign_in import read_signature
from bridge.telephony.sign_in import counted, is_one_of, require_secrets

__all__ = ["GENESYS", "checks_of", "new_session", "require_signed"]

D = TypeVar("D", bound=AudioHookSession)

_SECRETS = ("api_key", "client_secret")
_PORTS = {"http": 80, "https": 443}


def _sign_in(host: CarrierHost[GenesysSettings], request: HTTPConnection) -> Trust:
    require_signed(host, request, Genesys.name)
    return Trust(is_admitted=True, checks=_checks(host, request))


def require_signed(host: CarrierHost[Any], request: HTTPConnection, name: str) -> None:
    """Raises ``BridgeError`` unless the upgrade is signed by ``NAME_client_secret``, for a key of ``NAME_api_key``."""
    keys = require_secrets(f"{name}_api_key", getattr(host.settings, f"{name}_api_key"))
    if not is_one_of(request.headers.get("x-api-key", ""), keys):
        raise Unauthorized("The API key is not valid here.", code="invalid_secret")
    query = request.scope["query_string"].decode("latin-1")
    path = request.scope["raw_path"].decode("latin-1")
    now = time.time()
    nonce = read_signature(
        getattr(host.settings, f"{name}_client_secret"),
        request.headers,
        target=f"{path}?{query}" if query else path,
        authority=_authority(host, request),
        now=now,
    )
    host.carrier_calls.replays.require_new(f"{name} {nonce}", now=now)


def _authority(host: CarrierHost[Any], request: HTTPConnection) -> str:
    """Returns the host by which Genesys calls the bridge, without the port if it is the usual one of the scheme."""
    if host.telephony.public_url is None:
        return request.headers.get("host", "")
    parts = urlsplit(host.telephony.public_url)
    is_usual = parts.port in (None, _PORTS.get(parts.scheme))
    return (parts.hostname or "") if is_usual else f"{parts.hostname}:{parts.port}"


def checks_of(host: CarrierHost[Any], name: str) -> str:
    """Returns what ``require_signed`` compares with what it is shown, for the log."""
    return ", ".join(counted(f"{name}_{part}", getattr(host.settings, f"{name}_{part}")) for part in _SECRETS)


def _checks(host: CarrierHost[GenesysSettings], request: HTTPConnection) -> str:
    return checks_of(host, Genesys.name)


def new_session(dialect: Callable[..., D], request: HTTPConnection, **more: Any) -> D:
    """Makes the dialect of a session, which has the ids of the upgrade's headers."""
    headers = request.headers
    return dialect(headers.get("audiohook-session-id", ""), headers.get("audiohook-organization-id", ""), **more)


GENESYS = Carrier(
    name=Genesys.name,
    settings=GenesysSettings,
    is_open=lambda settings: bool(settings.genesys_api_key),
    socket=CarrierSocket(
        what="Genesys Audio Connector",
        opened_by="its API key and Genesys's signature",
        sign_in=_sign_in,
        checks=_checks,
        new_dialect=lambda request: new_session(Genesys, request),
        is_prefix=True,
    ),
    transfer_words=lambda dialect, target_uri: dialect.encode_transfer(target_uri),
)
