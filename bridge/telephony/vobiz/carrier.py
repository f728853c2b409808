"""Vobiz' row: like Plivo's, with headers and addresses of its own."""

from bridge.telephony.by_secret import secret_socket
from bridge.telephony.carrier import Carrier
from bridge.telephony.hang_up import hang_up_by
from bridge.telephony.http_api import HttpApi
from bridge.telephony.plivo.carrier import plivo_endpoints
from bridge.telephony.plivo.dialect import transfer_to
from bridge.telephony.transfer import transfer_by
from bridge.telephony.vobiz.dialect import VOBIZ_DIALECT
from bridge.telephony.vobiz.settings import VobizSettings

__all__ = ["VOBIZ"]

_API = "https://api.vobiz.ai/api/v1"


def _new_api(settings: VobizSettings) -> HttpApi | None:
    account = settings.vobiz_auth_id
    if account is None or not settings.vobiz_auth_token:
        return None
    headers = {"X-Auth-ID": account, "X-Auth-Token": settings.vobiz_auth_token[0]}
    return HttpApi(carrier=VOBIZ_DIALECT.name, url=f"{_API}/Account/{account}", headers=headers)


VOBIZ = Carrier(
    name=VOBIZ_DIALECT.name,
    settings=VobizSettings,
    is_open=lambda settings: bool(settings.vobiz_auth_token),
    socket=secret_socket(VOBIZ_DIALECT, "vobiz_auth_token", what="Vobiz audio streams", is_secret_shown=False),
    endpoints=plivo_endpoints("vobiz", "Vobiz", setting="vobiz_auth_token", header="x-vobiz-signature-v3"),
    new_hang_up=hang_up_by(_new_api, "/Call/{call}/", method="DELETE"),
    new_transfer=transfer_by(_new_api, "/Call/{call}/", transfer_to),
    transfer_needs=("vobiz_auth_id", "vobiz_auth_token"),
    transfers_by_document=lambda settings: True,
)
