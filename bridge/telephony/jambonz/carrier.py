"""jambonz' row: a webhook that is answered with verbs, and the stream that ``listen`` opens."""

import hashlib
import time
from collections.abc import Mapping

from starlette.requests import Request

from bridge.errors import Forbidden, Unauthorized
from bridge.telephony.by_secret import secret_socket
from bridge.telephony.carrier import Carrier, CarrierHost
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.telephony.http_api import HttpApi
from bridge.telephony.jambonz.dialect import JAMBONZ_DIALECT, SUBPROTOCOLS, transfer_to, write_dial, write_verbs
from bridge.telephony.jambonz.settings import JambonzSettings
from bridge.telephony.jambonz.sign_in import is_signed, signed_at
from bridge.telephony.sign_in import basic_password, counted, is_one_of, require_secrets
from bridge.telephony.transfer import document_endpoint, transfer_by
from bridge.telephony.webhook import fields_of_json, webhook

__all__ = ["JAMBONZ"]

_HEADER = "jambonz-signature"


def _sign_in(host: CarrierHost[JambonzSettings], request: Request, body: bytes, fields: Mapping[str, str]) -> None:
    signature, password = request.headers.get(_HEADER), basic_password(request.headers)
    if signature is not None:
        now = time.time()
        if not is_signed(host.settings.jambonz_webhook_secret, signature, body, now=now):
            raise Forbidden("The signature does not match this body and these secrets.", code="invalid_signature")
        shown = f"{JAMBONZ_DIALECT.name} {signed_at(signature)} {hashlib.sha256(body).hexdigest()}"
        host.carrier_calls.replays.require_new(shown, now=now)
    elif password is None:
        raise Unauthorized("Sign the webhook, or give the password by HTTP Basic.", code="missing_secret")
    elif not is_one_of(password, host.settings.jambonz_secret):
        raise Unauthorized("The password is not valid here.", code="invalid_secret")


def _checks(host: CarrierHost[JambonzSettings], request: Request) -> str:
    names = ("jambonz_secret", "jambonz_webhook_secret")
    return ", ".join(counted(name, getattr(host.settings, name)) for name in names)


def _require_open(host: CarrierHost[JambonzSettings], request: Request) -> None:
    require_secrets("jambonz_secret", host.settings.jambonz_secret)


def _new_api(settings: JambonzSettings) -> HttpApi | None:
    url, account, key = settings.jambonz_api_url, settings.jambonz_account_sid, settings.jambonz_api_key
    if url is None or account is None or key is None:
        return None
    headers = {"Authorization": f"Bearer {key}"}
    return HttpApi(carrier=JAMBONZ_DIALECT.name, url=f"{url.rstrip('/')}/Accounts/{account}", headers=headers)


JAMBONZ = Carrier(
    name=JAMBONZ_DIALECT.name,
    settings=JambonzSettings,
    is_open=lambda settings: bool(settings.jambonz_secret),
    socket=secret_socket(JAMBONZ_DIALECT, "jambonz_secret", what="jambonz' listen", subprotocols=SUBPROTOCOLS),
    endpoints=(
        webhook(
            JAMBONZ_DIALECT.name,
            title="jambonz",
            document="verbs",
            require=_require_open,
            read=fields_of_json,
            sign_in=_sign_in,
            write=lambda url, token, fields: write_verbs(url, {TOKEN_PARAMETER: token}),
            checks=_checks,
            call_field="call_sid",
        ),
        document_endpoint(
            JAMBONZ_DIALECT.name,
            title="jambonz",
            setting="jambonz_secret",
            media_type="application/json",
            write=write_dial,
        ),
    ),
    new_transfer=transfer_by(_new_api, "/Calls/{call}", transfer_to, method="PUT"),
    transfer_needs=("jambonz_api_url", "jambonz_account_sid", "jambonz_api_key"),
    transfers_by_document=lambda settings: True,
)
