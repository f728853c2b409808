"""Bandwidth's row: a webhook with a password that is answered with BXML, and the stream that this starts."""

from collections.abc import Mapping

from bridge.telephony.bandwidth.dialect import BANDWIDTH_DIALECT, write_bxml
from bridge.telephony.bandwidth.settings import BandwidthSettings
from bridge.telephony.by_secret import password_webhook, secret_socket
from bridge.telephony.carrier import Carrier
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.telephony.webhook import fields_of_json

__all__ = ["BANDWIDTH"]

_PASSED_ON = ("from", "to")


def _write(url: str, token: str, fields: Mapping[str, str]) -> str:
    return write_bxml(url, {TOKEN_PARAMETER: token} | {name: fields[name] for name in _PASSED_ON if name in fields})


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
            write=_write,
            read=fields_of_json,
            call_field="callId",
            media_type="application/xml",
        ),
    ),
)
