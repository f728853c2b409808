"""The table of carriers. A new carrier is a package, and a row here."""

from typing import Any

from bridge.telephony.acs.carrier import ACS
from bridge.telephony.asterisk.carrier import ASTERISK
from bridge.telephony.audiohook.carrier import AUDIOHOOK
from bridge.telephony.audiosocket.carrier import AUDIOSOCKET
from bridge.telephony.bandwidth.carrier import BANDWIDTH
from bridge.telephony.carrier import Carrier
from bridge.telephony.elks.carrier import ELKS
from bridge.telephony.exotel.carrier import EXOTEL
from bridge.telephony.genesys.carrier import GENESYS
from bridge.telephony.infobip.carrier import INFOBIP
from bridge.telephony.jambonz.carrier import JAMBONZ
from bridge.telephony.plivo.carrier import PLIVO
from bridge.telephony.sinch.carrier import SINCH
from bridge.telephony.telnyx.carrier import TELNYX
from bridge.telephony.twilio.carrier import TWILIO
from bridge.telephony.vobiz.carrier import VOBIZ
from bridge.telephony.vonage.carrier import VONAGE

__all__ = ["CARRIERS"]

CARRIERS: tuple[Carrier[Any], ...] = (
    TWILIO,
    TELNYX,
    VONAGE,
    INFOBIP,
    PLIVO,
    VOBIZ,
    JAMBONZ,
    ACS,
    BANDWIDTH,
    EXOTEL,
    ELKS,
    SINCH,
    GENESYS,
    AUDIOHOOK,
    ASTERISK,
    AUDIOSOCKET,
)
