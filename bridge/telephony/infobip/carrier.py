"""Infobip's row: a WebSocket that an application opens by a dialog. The HTTP API hangs calls up."""

from bridge.telephony.by_secret import secret_socket
from bridge.telephony.carrier import Carrier
from bridge.telephony.hang_up import hang_up_by
from bridge.telephony.http_api import HttpApi
from bridge.telephony.infobip.dialect import INFOBIP_DIALECT
from bridge.telephony.infobip.settings import InfobipSettings

__all__ = ["INFOBIP"]


def _new_api(settings: InfobipSettings) -> HttpApi | None:
    if settings.infobip_api_key is None or settings.infobip_url is None:
        return None
    headers = {"Authorization": f"App {settings.infobip_api_key}"}
    return HttpApi(carrier=INFOBIP_DIALECT.name, url=settings.infobip_url, headers=headers)


INFOBIP = Carrier(
    name=INFOBIP_DIALECT.name,
    settings=InfobipSettings,
    is_open=lambda settings: bool(settings.infobip_secret),
    socket=secret_socket(INFOBIP_DIALECT, "infobip_secret", what="Infobip's WebSocket endpoint"),
    new_hang_up=hang_up_by(_new_api, "/calls/1/calls/{call}/hangup", body={}),
)
