"""Sinch's row: a signed callback that is answered with SVAML, and the stream that the SVAML opens."""

import time
from collections.abc import Mapping

import msgspec
from starlette.requests import Request

from bridge.errors import Forbidden
from bridge.telephony.by_secret import secret_socket
from bridge.telephony.carrier import Carrier, CarrierHost
from bridge.telephony.sign_in import counted, require_secrets
from bridge.telephony.sinch.dialect import SINCH_DIALECT, write_svaml
from bridge.telephony.sinch.settings import SinchSettings
from bridge.telephony.sinch.sign_in import is_signed
from bridge.telephony.webhook import fields_of_json, passed_on, webhook

__all__ = ["SINCH"]

_SETTING = "sinch_application_secret"
_PASSED_ON = {"cli": "from", "to.endpoint": "to"}


class _To(msgspec.Struct):
    endpoint: str = ""


class _Event(msgspec.Struct):
    to: _To | None = None


def _fields(body: bytes) -> Mapping[str, str]:
    """Returns the fields of an event; raises ``BadRequest``."""
    fields = fields_of_json(body)
    try:
        to = msgspec.json.decode(body, type=_Event).to
    except msgspec.DecodeError:
        to = None
    return fields if to is None else {**fields, "to.endpoint": to.endpoint}


def _require_open(host: CarrierHost[SinchSettings], request: Request) -> None:
    require_secrets(_SETTING, host.settings.sinch_application_secret)
    if "authorization" not in request.headers:
        raise Forbidden("The request is not signed.", code="missing_signature")


def _sign_in(host: CarrierHost[SinchSettings], request: Request, body: bytes, fields: Mapping[str, str]) -> None:
    header, now = request.headers["authorization"], time.time()
    is_right = is_signed(
        host.settings.sinch_application_secret,
        header,
        request.method,
        request.scope["raw_path"].decode("latin-1"),
        body,
        content_type=request.headers.get("content-type", ""),
        timestamp=request.headers.get("x-timestamp", ""),
        now=now,
    )
    if not is_right:
        raise Forbidden("The signature does not match the request, its time or the secrets.", code="invalid_signature")
    host.carrier_calls.replays.require_new(f"{SINCH_DIALECT.name} {header.rpartition(':')[2].strip()}", now=now)


SINCH = Carrier(
    name=SINCH_DIALECT.name,
    settings=SinchSettings,
    is_open=lambda settings: bool(settings.sinch_application_secret),
    socket=secret_socket(SINCH_DIALECT, _SETTING, what="Sinch's voice streams", is_secret_shown=False),
    endpoints=(
        webhook(
            SINCH_DIALECT.name,
            title="Sinch",
            document="SVAML",
            require=_require_open,
            read=_fields,
            sign_in=_sign_in,
            is_call=lambda fields: fields.get("event") == "ice",
            write=lambda url, token, fields: write_svaml(url, passed_on(_PASSED_ON, fields, token)),
            checks=lambda host, request: counted(_SETTING, host.settings.sinch_application_secret),
            call_field="callid",
        ),
    ),
)
