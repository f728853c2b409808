"""46elks' row: a WebSocket whose address is set at a telephone number, with the secret in it."""

from bridge.telephony.by_secret import secret_socket
from bridge.telephony.carrier import Carrier
from bridge.telephony.elks.dialect import ELKS_DIALECT
from bridge.telephony.elks.settings import ElksSettings

__all__ = ["ELKS"]

ELKS = Carrier(
    name=ELKS_DIALECT.name,
    settings=ElksSettings,
    is_open=lambda settings: bool(settings.elks_secret),
    socket=secret_socket(ELKS_DIALECT, "elks_secret", what="46elks' real-time voice"),
)
