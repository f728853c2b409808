"""Bandwidth's row: a webhook with a password, answered with BXML, and the stream that the BXML starts.

With the bridge's BXML a call ends when its stream is closed. The API, if it is set, ends a call that goes on with
another document.
"""

from bridge.telephony.bandwidth.dialect import BANDWIDTH_DIALECT, write_bxml, write_transfer
from bridge.telephony.bandwidth.settings import BandwidthSettings
from bridge.telephony.by_secret import password_webhook, secret_socket
from bridge.telephony.carrier import Carrier
from bridge.telephony.hang_up import hang_up_by
from bridge.telephony.http_api import ClientCredentials, HttpApi
from bridge.telephony.transfer import transfer_by
from bridge.telephony.webhook import fields_of_json, passed_on

__all__ = ["BANDWIDTH"]

_PASSED_ON = {"from": "from", "to": "to"}
_API = "https://voice.bandwidth.com/api/v2"
_TOKEN_URL = "https://api.bandwidth.com/api/v1/oauth2/token"


def _new_api(settings: BandwidthSettings) -> HttpApi | None:
    account, client, secret = (
        settings.bandwidth_account_id,
        settings.bandwidth_client_id,
        settings.bandwidth_client_secret,
    )
    if account is None or client is None or secret is None:
        return None
    tokens = ClientCredentials(_TOKEN_URL, client, secret)
    return HttpApi(carrier=BANDWIDTH_DIALECT.name, url=f"{_API}/accounts/{account}", authorize=tokens.headers)


BANDWIDTH = Carrier(
    name=BANDWIDTH_DIALECT.name,
    settings=BandwidthSettings,
    is_open=lambda settings: bool(settings.bandwidth_secret),
    socket=secret_socket(BANDWIDTH_DIALECT, "bandwidth_secret", what="Bandwidth's streams"),
    endpoints=(
        password_webhook(
            BANDWIDTH_DIALECT,
            "bandwidth_secret",
            document="BXML",
            write=lambda url, token, fields: write_bxml(url, passed_on(_PASSED_ON, fields, token)),
            read=fields_of_json,
            call_field="callId",
            media_type="application/xml",
        ),
    ),
    new_hang_up=hang_up_by(_new_api, "/calls/{call}", body={"state": "completed"}),
    new_transfer=transfer_by(_new_api, "/calls/{call}/bxml", write_transfer, method="PUT"),
    transfer_needs=("bandwidth_account_id", "bandwidth_client_id", "bandwidth_client_secret"),
)
