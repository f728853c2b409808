"""The dialect of Vonage's WebSocket: raw PCM16 in binary messages of exactly 20 ms both ways, and JSON text.

The first text is ``websocket:connected``, with everything that the NCCO gave as ``headers`` beside it. If a message has
another size than 20 ms, Vonage stops listening. ``notify`` is sent back when all before it has been played. Whether one
is sent back for what ``clear`` threw away is not documented, and not relied on. No word hangs up.
"""

import json
from collections.abc import Mapping
from typing import Any

from bridge.telephony.dialect import Traits, number_in
from bridge.telephony.json_dialect import JsonSpec, Meaning

__all__ = ["VONAGE_DIALECT", "transfer_to", "write_ncco"]

RATE_HZ = 16_000
"""The rate that the NCCO asks for: 8000 and 16000 are documented, 24000 is in Vonage's SDK."""

VONAGE_DIALECT = JsonSpec(
    name="vonage",
    title="Vonage",
    traits=Traits(lead_ms=1000, piece_ms=20),
    meanings={
        "websocket:connected": Meaning.START,
        "websocket:dtmf": Meaning.KEY,
        "websocket:notify": Meaning.PLAYED,
        "websocket:cleared": Meaning.NOTHING,
    },
    is_sound_binary=True,
    call=("uuid", "call_uuid"),
    ids={"uuid": ("uuid", "call_uuid"), "conversation_uuid": ("conversation_uuid",)},
    takes_rest=True,
    encoding="content-type",
    encodings={"audio/l16": None},
    pcm_hz=(8_000, 16_000, 24_000),
    default_hz=RATE_HZ,
    key=("digit", "dtmf.digit"),
    mark=("payload.name",),
    set_mark='{"action":"notify","payload":{"name":<name>}}',
    clear_all=('{"action":"clear"}',),
)


def write_ncco(url: str, parameters: Mapping[str, str]) -> str:
    """Returns the NCCO for an incoming call: a WebSocket to ``url``, whose first message has the parameters."""
    endpoint = {
        "type": "websocket",
        "uri": url,
        "content-type": f"audio/l16;rate={RATE_HZ}",
        "headers": dict(parameters),
    }
    return json.dumps([{"action": "connect", "endpoint": [endpoint]}], separators=(",", ":"))


def transfer_to(target_uri: str) -> dict[str, Any]:
    """Returns what asks Vonage to connect a call to a ``tel:`` or ``sip:`` URI, as from a number of the application's.

    Vonage writes numbers without their plus.
    """
    number = number_in(target_uri)
    endpoint = {"type": "sip", "uri": target_uri} if number is None else {"type": "phone", "number": number.lstrip("+")}
    ncco = [{"action": "connect", "endpoint": [endpoint], "randomFromNumber": True}]
    return {"action": "transfer", "destination": {"type": "ncco", "ncco": ncco}}
