"""Infobip's WebSocket: Vonage's messages, of which no mark and no word that clears its buffer is known.

So nothing is sent ahead of its time, silence goes in the pauses, since gaps are said to end the call, and the bridge's
own clock tells what was heard. What the application gave as ``customData`` stands in the first message.
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
