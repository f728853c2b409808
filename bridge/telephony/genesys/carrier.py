"""Genesys' row: a session that its Architect action opens, with a signed upgrade."""

import time
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from bridge.errors import Unauthorized
from bridge.telephony.carrier import Carrier, CarrierHost, CarrierSocket
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.genesys.dialect import Genesys
from bridge.telephony.genesys.settings import GenesysSettings
from bridge.telephony.genesys.sign_in import read_signature
from bridge.telephony.sign_in import counted, is_one_of, require_secrets

__all__ = ["GENESYS"]

_PORTS = {"http": 80, "https": 443}


def _sign_in(host: CarrierHost[GenesysSettings], request: HTTPConnection) -> Trust:
    keys = require_secrets("genesys_api_key", host.settings.genesys_api_key)
    if not is_one_of(request.headers.get("x-api-key", ""), keys):
        raise Unauthorized("The API key is not valid here.", code="invalid_secret")
    query = request.scope["query_string"].decode("latin-1")
    path = request.scope["raw_path"].decode("latin-1")
    now = time.time()
    nonce = read_signature(
        host.settings.genesys_client_secret,
        request.headers,
        target=f"{path}?{query}" if query else path,
        authority=_authority(host, request),
        now=now,
    )
    host.carrier_calls.replays.require_new(f"{Genesys.name} {nonce}", now=now)
    return Trust(is_admitted=True, checks=_checks(host, request))


def _authority(host: CarrierHost[GenesysSettings], request: HTTPConnection) -> str:
    """The host by which Genesys calls us, without the port of its scheme."""
    if host.telephony.public_url is None:
        return request.headers.get("host", "")
    parts = urlsplit(host.telephony.public_url)
    is_usual = parts.port in (None, _PORTS.get(parts.scheme))
    return (parts.hostname or "") if is_usual else f"{parts.hostname}:{parts.port}"


def _checks(host: CarrierHost[GenesysSettings], request: HTTPConnection) -> str:
    names = ("genesys_api_key", "genesys_client_secret")
    return ", ".join(counted(name, getattr(host.settings, name)) for name in names)


GENESYS = Carrier(
    name=Genesys.name,
    settings=GenesysSettings,
    is_open=lambda settings: bool(settings.genesys_api_key),
    socket=CarrierSocket(
        what="Genesys Audio Connector",
        opened_by="its API key and Genesys' signature",
        sign_in=_sign_in,
        checks=_checks,
        new_dialect=lambda request: Genesys(request.headers.get("audiohook-session-id", "")),
        is_prefix=True,
    ),
    transfer_words=lambda dialect, target_uri: dialect.encode_transfer(target_uri),
)
