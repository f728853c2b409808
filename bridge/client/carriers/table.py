"""The table of simulated carriers. A new carrier needs a file, and a row here."""

from bridge.client.carriers.acs import ACS
from bridge.client.carriers.asterisk import ASTERISK
from bridge.client.carriers.audiosocket import AUDIOSOCKET
from bridge.client.carriers.bandwidth import BANDWIDTH
from bridge.client.carriers.contract import SimulatedCarrier
from bridge.client.carriers.dialling import Dialling, Simulator, Wire
from bridge.client.carriers.elks import ELKS
from bridge.client.carriers.exotel import EXOTEL
from bridge.client.carriers.genesys import GENESYS
from bridge.client.carriers.jambonz import JAMBONZ
from bridge.client.carriers.plivo import PLIVO, VOBIZ
from bridge.client.carriers.sinch import SINCH
from bridge.client.carriers.telnyx import TELNYX
from bridge.client.carriers.twilio import SIGNALWIRE, SIPGATE, TWILIO
from bridge.client.carriers.vonage import INFOBIP, VONAGE

__all__ = ["CARRIERS", "SIMULATORS", "connect_carrier"]

SIMULATORS: dict[str, Simulator] = {
    simulator.name: simulator
    for simulator in (
        TWILIO,
        SIGNALWIRE,
        SIPGATE,
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
        ASTERISK,
        AUDIOSOCKET,
    )
}
CARRIERS = tuple(SIMULATORS)
"""The names of all simulated carriers."""


async def connect_carrier(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """Opens a connection on which nothing has been said yet; raises ``CallFailed``."""
    return await SIMULATORS[dialling.carrier].connect(dialling)
