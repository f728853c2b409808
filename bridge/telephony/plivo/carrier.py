"""Plivo's row: a signed webhook that is answered with PlivoXML. The HTTP API hangs calls up."""

import time
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from bridge.errors import Forbidden
from bridge.telephony.by_secret import secret_socket
from bridge.telephony.carrier import Carrier, CarrierHost, HttpEndpoint
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.telephony.hang_up import HttpHangUp
from bridge.telephony.plivo.dialect import PLIVO_DIALECT, write_plivo_xml
from bridge.telephony.plivo.settings import PlivoSettings
from bridge.telephony.plivo.sign_in import signed_v3
from bridge.telephony.sign_in import counted, require_secrets
from bridge.telephony.webhook import fields_of_form, webhook

__all__ = ["PLIVO", "plivo_webhook"]

_API = "https://api.plivo.com/v1"
_PASSED_ON = {"From": "from", "To": "to"}


def plivo_webhook(name: str, title: str, *, setting: str, header: str) -> HttpEndpoint[Any]:
    """Makes the webhook, which is signed in ``header`` with a value of ``setting``."""

    def secrets_of(host: CarrierHost[Any]) -> tuple[str, ...]:
        return require_secrets(setting, getattr(host.settings, setting))

    def address(host: CarrierHost[Any], request: Request) -> str:
        query = request.scope["query_string"].decode("latin-1")
        url = host.public_url("http", request.scope["raw_path"].decode("latin-1"))
        return f"{url}?{query}" if query else url

    def require(host: CarrierHost[Any], request: Request) -> None:
        secrets_of(host)
        if header not in request.headers:
            raise Forbidden("The request is not signed.", code="missing_signature")

    def sign_in(host: CarrierHost[Any], request: Request, body: bytes, form: Mapping[str, str]) -> None:
        signatures, nonce = request.headers[header], request.headers.get(f"{header}-nonce", "")
        signed = signed_v3(secrets_of(host), address(host, request), signatures, nonce, form if body else None)
        if signed is None:
            message = f"The signature is not of this address and these secrets; is public_url what {title} was told?"
            raise Forbidden(message, code="invalid_signature")
        host.carrier_calls.replays.require_new(f"{name} {signed}", now=time.time())

    def checks(host: CarrierHost[Any], request: Request) -> str:
        return f"public_url signed by {counted(setting, getattr(host.settings, setting))}"

    return webhook(
        name,
        title=title,
        document="PlivoXML",
        require=require,
        read=fields_of_form,
        sign_in=sign_in,
        write=_write,
        checks=checks,
        call_field="CallUUID",
        media_type="text/xml",
        request_type="application/x-www-form-urlencoded",
        is_token_plain=True,
    )


def _write(url: str, token: str, form: Mapping[str, str]) -> str:
    given = {ours: form[theirs] for theirs, ours in _PASSED_ON.items() if form.get(theirs)}
    return write_plivo_xml(url, {TOKEN_PARAMETER: token, **given})


def _new_hang_up(settings: PlivoSettings) -> HttpHangUp | None:
    if settings.plivo_auth_id is None or not settings.plivo_auth_token:
        return None
    account = settings.plivo_auth_id
    credentials = b64encode(f"{account}:{settings.plivo_auth_token[0]}".encode()).decode()
    url = f"{_API}/Account/{account}/Call/{{call}}/"
    return HttpHangUp(PLIVO_DIALECT.name, url, {"Authorization": f"Basic {credentials}"}, method="DELETE")


PLIVO = Carrier(
    name=PLIVO_DIALECT.name,
    settings=PlivoSettings,
    is_open=lambda settings: bool(settings.plivo_auth_token),
    socket=secret_socket(PLIVO_DIALECT, "plivo_auth_token", what="Plivo audio streaming", is_secret_shown=False),
    endpoints=(plivo_webhook("plivo", "Plivo", setting="plivo_auth_token", header="x-plivo-signature-v3"),),
    new_hang_up=_new_hang_up,
)
