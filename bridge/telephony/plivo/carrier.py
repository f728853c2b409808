"""Plivo's row: a signed webhook that is answered with PlivoXML. The HTTP API hangs calls up."""

import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from bridge.errors import Forbidden
from bridge.telephony.by_secret import secret_socket
from bridge.telephony.carrier import Carrier, CarrierHost, HttpEndpoint
from bridge.telephony.hang_up import hang_up_by
from bridge.telephony.http_api import HttpApi, basic
from bridge.telephony.plivo.dialect import PLIVO_DIALECT, transfer_to, write_dial, write_plivo_xml
from bridge.telephony.plivo.settings import PlivoSettings
from bridge.telephony.plivo.sign_in import signed_v3
from bridge.telephony.sign_in import counted, require_secrets
from bridge.telephony.transfer import document_endpoint, transfer_by
from bridge.telephony.webhook import address_of_request, fields_of_form, passed_on, webhook

__all__ = ["PLIVO", "plivo_endpoints"]

_API = "https://api.plivo.com/v1"
_PASSED_ON = {"From": "from", "To": "to"}


def plivo_endpoints(name: str, title: str, *, setting: str, header: str) -> tuple[HttpEndpoint[Any], ...]:
    """Makes the webhook, which is signed in ``header`` with a value of ``setting``, and the document of a transfer."""

    def secrets_of(host: CarrierHost[Any]) -> tuple[str, ...]:
        return require_secrets(setting, getattr(host.settings, setting))

    def require(host: CarrierHost[Any], request: Request) -> None:
        secrets_of(host)
        if header not in request.headers:
            raise Forbidden("The request is not signed.", code="missing_signature")

    def sign_in(host: CarrierHost[Any], request: Request, body: bytes, form: Mapping[str, str]) -> None:
        signatures, nonce = request.headers[header], request.headers.get(f"{header}-nonce", "")
        signed = signed_v3(
            secrets_of(host), address_of_request(host, "http", request), signatures, nonce, form if body else None
        )
        if signed is None:
            message = (
                "The signature does not match this URL and these secrets; is public_url the address that "
                f"{title} was given?"
            )
            raise Forbidden(message, code="invalid_signature")
        host.carrier_calls.replays.require_new(f"{name} {signed}", now=time.time())

    def checks(host: CarrierHost[Any], request: Request) -> str:
        return f"public_url signed by {counted(setting, getattr(host.settings, setting))}"

    answered = webhook(
        name,
        title=title,
        document="PlivoXML",
        require=require,
        read=fields_of_form,
        sign_in=sign_in,
        write=lambda url, token, form: write_plivo_xml(url, passed_on(_PASSED_ON, form, token)),
        checks=checks,
        call_field="CallUUID",
        media_type="text/xml",
        request_type="application/x-www-form-urlencoded",
        is_token_plain=True,
    )
    return answered, document_endpoint(name, title=title, setting=setting, media_type="text/xml", write=write_dial)


def _new_api(settings: PlivoSettings) -> HttpApi | None:
    account = settings.plivo_auth_id
    if account is None or not settings.plivo_auth_token:
        return None
    headers = basic(account, settings.plivo_auth_token[0])
    return HttpApi(carrier=PLIVO_DIALECT.name, url=f"{_API}/Account/{account}", headers=headers)


PLIVO = Carrier(
    name=PLIVO_DIALECT.name,
    settings=PlivoSettings,
    is_open=lambda settings: bool(settings.plivo_auth_token),
    socket=secret_socket(PLIVO_DIALECT, "plivo_auth_token", what="Plivo audio streaming", is_secret_shown=False),
    endpoints=plivo_endpoints("plivo", "Plivo", setting="plivo_auth_token", header="x-plivo-signature-v3"),
    new_hang_up=hang_up_by(_new_api, "/Call/{call}/", method="DELETE"),
    new_transfer=transfer_by(_new_api, "/Call/{call}/", transfer_to),
    transfer_needs=("plivo_auth_id", "plivo_auth_token"),
    transfers_by_document=lambda settings: True,
)
