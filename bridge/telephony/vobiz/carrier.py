"""Vobiz' row: like Plivo's, with headers and addresses of its own."""

from bridge.telephony.by_secret import secret_socket
from bridge.telephony.carrier import Carrier
from bridge.telephony.hang_up import HttpHangUp
from bridge.telephony.plivo.carrier import plivo_webhook
from bridge.telephony.vobiz.dialect import VOBIZ_DIALECT
from bridge.telephony.vobiz.settings import VobizSettings

__all__ = ["VOBIZ"]

_API = "https://api.vobiz.ai/api/v1"


def _new_hang_up(settings: VobizSettings) -> HttpHangUp | None:
    if settings.vobiz_auth_id is None or not settings.vobiz_auth_token:
        return None
    account = settings.vobiz_auth_id
    headers = {"X-Auth-ID": account, "X-Auth-Token": settings.vobiz_auth_token[0]}
    return HttpHangUp(VOBIZ_DIALECT.name, f"{_API}/Account/{account}/Call/{{call}}/", headers, method="DELETE")


VOBIZ = Carrier(
    name=VOBIZ_DIALECT.name,
    settings=VobizSettings,
    is_open=lambda settings: bool(settings.vobiz_auth_token),
    socket=secret_socket(VOBIZ_DIALECT, "vobiz_auth_token", what="Vobiz audio streams", is_secret_shown=False),
    endpoints=(plivo_webhook("vobiz", "Vobiz", setting="vobiz_auth_token", header="x-vobiz-signature-v3"),),
    new_hang_up=_new_hang_up,
)
