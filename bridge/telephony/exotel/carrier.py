"""Exotel's row: an answer to the Voicebot applet, which asks for an address, and the stream that it opens."""

from collections.abc import Mapping
from urllib.parse import urlencode

from bridge.telephony.by_secret import password_webhook, secret_socket
from bridge.telephony.carrier import Carrier
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.telephony.exotel.dialect import EXOTEL_DIALECT, write_url
from bridge.telephony.exotel.settings import ExotelSettings
from bridge.telephony.webhook import fields_of_form

__all__ = ["EXOTEL"]

_RATE = "sample-rate"


def _write(url: str, token: str, fields: Mapping[str, str]) -> str:
    asked = {_RATE: fields[_RATE]} if _RATE in fields else {}
    return write_url(f"{url}?{urlencode({**asked, TOKEN_PARAMETER: token})}")


EXOTEL = Carrier(
    name=EXOTEL_DIALECT.name,
    settings=ExotelSettings,
    is_open=lambda settings: bool(settings.exotel_secret),
    socket=secret_socket(EXOTEL_DIALECT, "exotel_secret", what="Exotel AgentStream"),
    endpoints=(
        password_webhook(
            EXOTEL_DIALECT,
            "exotel_secret",
            document="the stream's address",
            write=_write,
            read=fields_of_form,
            call_field="CallSid",
            method="get",
            below="/url",
        ),
    ),
)
