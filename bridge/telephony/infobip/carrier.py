"""Infobip's row: a WebSocket that an application opens by a dialog. The HTTP API hangs calls up."""

from bridge.telephony.by_secret import secret_socket
from bridge.telephony.carrier import Carrier
from bridge.telephony.hang_up import HttpHangUp
from bridge.telephony.infobip.dialect import INFOBIP_DIALECT
from bridge.telephony.infobip.settings import InfobipSettings

__all__ = ["INFOBIP"]


def _new_hang_up(settings: InfobipSettings) -> HttpHangUp | None:
    if settings.infobip_api_key is None or settings.infobip_url is None:
        return None
    url = f"{settings.infobip_url.rstrip('/')}/calls/1/calls/{{call}}/hangup"
    return HttpHangUp(INFOBIP_DIALECT.name, url, {"Authorization": f"App {settings.infobip_api_key}"}, body={})


INFOBIP = Carrier(
    name=INFOBIP_DIALECT.name,
    settings=InfobipSettings,
    is_open=lambda settings: bool(settings.infobip_secret),
    socket=secret_socket(INFOBIP_DIALECT, "infobip_secret", what="Infobip's WebSocket endpoint"),
    new_hang_up=_new_hang_up,
)
