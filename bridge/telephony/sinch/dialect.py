"""The dialect of Sinch's voice streams: raw PCM16 little-endian in binary messages both ways, and JSON text.

The first text is ``connect``, with what the application gave as ``callHeaders``. No sound goes before the bridge has
said ``answer``. There are no marks and no keys; ``clear`` is not answered, and throws away what has not been played. A
stream without sound ends after a minute, unless ``heartbeat`` comes. Closing it hangs up.
"""

import json
from collections.abc import Mapping

from bridge.telephony.dialect import Traits
from bridge.telephony.json_dialect import JsonSpec, Meaning

__all__ = ["SINCH_DIALECT", "write_svaml"]

RATE_HZ = 16_000
"""The rate that the document asks for. Calls of the telephone network have 8000 Hz or 16000 Hz."""

SINCH_DIALECT = JsonSpec(
    name="sinch",
    title="Sinch",
    traits=Traits(lead_ms=200, has_marks=False, piece_ms=20, heartbeat='{"command":"heartbeat"}'),
    tag=("command",),
    meanings={"connect": Meaning.START},
    is_sound_binary=True,
    call=("callId",),
    ids={"callId": ("callId",), "applicationKey": ("applicationKey",)},
    parameters=("callHeaders",),
    encoding="codec",
    rate="sampleRate",
    encodings={"pcm": None},
    pcm_hz=(8_000, 16_000, 24_000, 44_100, 48_000, 96_000),
    default_hz=RATE_HZ,
    accept=('{"command":"answer"}',),
    clear_all=('{"command":"clear"}',),
)


def write_svaml(url: str, parameters: Mapping[str, str]) -> str:
    """Returns the SVAML for an incoming call: a stream to ``url``, whose first message has the parameters."""
    action = {
        "name": "connectStream",
        "destination": {"type": "Websocket", "endpoint": url},
        "streamingOptions": {"version": 1, "sampleRate": RATE_HZ},
        "maxDuration": 14_400,
        "callHeaders": [{"key": name, "value": value} for name, value in parameters.items()],
    }
    return json.dumps({"action": action}, separators=(",", ":"))
