"""The dialect of Infobip's WebSocket: Vonage's messages, without marks and without a word that clears the buffer.

So no sound is sent ahead of its time, and the bridge's own clock tells what was heard. Pauses are filled with silence,
since gaps are said to end the call. The first message has what the application gave as ``customData``.
"""

from dataclasses import replace

from bridge.telephony.dialect import Traits
from bridge.telephony.vonage.dialect import VONAGE_DIALECT

__all__ = ["INFOBIP_DIALECT"]

INFOBIP_DIALECT = replace(
    VONAGE_DIALECT,
    name="infobip",
    title="Infobip",
    traits=Traits(lead_ms=0, has_marks=False, wants_silence=True, piece_ms=20),
    call=("callId", "call-id", "uuid"),
    ids={"callId": ("callId", "call-id", "uuid")},
    set_mark="",
    clear_all=(),
)
