"""The dialect of jambonz' ``listen`` (or ``stream``): raw PCM16 in binary messages both ways, and JSON text.

The first text is the call: its attributes, and what the application gave as ``metadata``, all side by side. The answer
has the rate of the caller, which the verb must ask for (``bidirectionalAudio.sampleRate``); no message tells it. At
most 30 marks may wait. The module holds the last 80 ms back until more comes. ``disconnect`` ends the verb.
"""

import json
from collections.abc import Mapping
from typing import Any

from bridge.telephony.dialect import Traits, number_in
from bridge.telephony.json_dialect import JsonSpec, Meaning

__all__ = ["JAMBONZ_DIALECT", "SUBPROTOCOLS", "transfer_to", "write_dial", "write_verbs"]

SUBPROTOCOLS = ("audio.jambonz.org", "audio.drachtio.org")
RATE_HZ = 24_000
"""The rate that the verb asks for, both ways. It is the Realtime API's own."""

JAMBONZ_DIALECT = JsonSpec(
    name="jambonz",
    title="jambonz",
    traits=Traits(lead_ms=1000, tail_ms=100),
    tag=("event", "type"),
    meanings={
        "dtmf": Meaning.KEY,
        "mark": Meaning.PLAYED,
        "playDone": Meaning.NOTHING,
        "error": Meaning.COMPLAINT,
    },
    is_first_the_start=True,
    is_sound_binary=True,
    call=("callSid", "callId"),
    ids={"callSid": ("callSid",), "callId": ("callId",)},
    takes_rest=True,
    parameters=("metadata", "customerData"),
    encoding="",
    rate="sampleRate",
    encodings={"l16": None},
    pcm_hz=(8_000, 16_000, 24_000, 48_000),
    key=("dtmf", "digit"),
    mark=("data.name",),
    set_mark='{"type":"mark","data":{"name":<name>}}',
    clear_all=('{"type":"killAudio"}',),
    hang_up='{"type":"disconnect"}',
)


def write_verbs(url: str, parameters: Mapping[str, str]) -> str:
    """Returns the verbs for an incoming call: sound to ``url`` both ways, whose first message has the parameters."""
    listen = {
        "verb": "listen",
        "url": url,
        "sampleRate": RATE_HZ,
        "mixType": "mono",
        "passDtmf": True,
        "metadata": dict(parameters),
        "bidirectionalAudio": {"enabled": True, "streaming": True, "sampleRate": RATE_HZ},
    }
    return json.dumps([{"verb": "answer"}, listen, {"verb": "hangup"}], separators=(",", ":"))


def transfer_to(url: str) -> dict[str, Any]:
    """Returns what has a call go on with the verbs at ``url``."""
    return {"call_hook": {"url": url, "method": "GET"}}


def write_dial(target_uri: str) -> str:
    """Returns the verbs that connect a call to a ``tel:`` or ``sip:`` URI."""
    number = number_in(target_uri)
    target = {"type": "sip", "sipUri": target_uri} if number is None else {"type": "phone", "number": number}
    return json.dumps([{"verb": "dial", "target": [target]}], separators=(",", ":"))
