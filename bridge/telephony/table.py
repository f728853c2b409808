"""The table of carriers: a new one is a package and a row here."""

from typing import Any

from bridge.telephony.asterisk.carrier import ASTERISK
from bridge.telephony.audiosocket.carrier import AUDIOSOCKET
from bridge.telephony.carrier import Carrier
from bridge.telephony.telnyx.carrier import TELNYX
from bridge.telephony.twilio.carrier import TWILIO

__all__ = ["CARRIERS"]

CARRIERS: tuple[Carrier[Any], ...] = (TWILIO, TELNYX, ASTERISK, AUDIOSOCKET)
