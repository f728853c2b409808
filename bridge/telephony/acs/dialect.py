"""The dialect of Azure Communication Services: JSON both ways, and PCM16 little-endian in base64.

Names may be in any case. ``AudioMetadata`` is the start. A header of the upgrade says which call it belongs to, and the
bridge hands it to the dialect as a parameter. There are no marks, and there is no word at the end: the bridge's clock
tells what was heard, so sound is sent only a little ahead.
"""

from typing import Any

from bridge.errors import BadRequest
from bridge.telephony.dialect import Traits, number_in
from bridge.telephony.json_dialect import JsonSpec, Meaning

__all__ = ["ACS_DIALECT", "CALL_HEADER", "CORRELATION_HEADER", "transfer_to"]

CALL_HEADER, CORRELATION_HEADER = "x-ms-call-connection-id", "x-ms-call-correlation-id"

ACS_DIALECT = JsonSpec(
    name="acs",
    title="Azure Communication Services",
    traits=Traits(lead_ms=200, has_marks=False),
    tag=("kind",),
    is_any_case=True,
    meanings={
        "audiometadata": Meaning.START,
        "audiodata": Meaning.SOUND,
        "dtmfdata": Meaning.KEY,
    },
    start="audiometadata",
    call=(CALL_HEADER, "audiometadata.subscriptionid"),
    ids={
        CALL_HEADER: (CALL_HEADER,),
        CORRELATION_HEADER: (CORRELATION_HEADER,),
        "subscriptionId": ("audiometadata.subscriptionid",),
    },
    encoding="audiometadata.encoding",
    rate="audiometadata.samplerate",
    encodings={"pcm": None},
    pcm_hz=(16_000, 24_000),
    default_hz=16_000,
    payload=("audiodata.data",),
    key=("dtmfdata.data",),
    sound='{"kind":"AudioData","audioData":{"data":"<payload>"},"stopAudio":null}',
    clear_all=('{"kind":"StopAudio","audioData":null,"stopAudio":{}}',),
)


def transfer_to(target_uri: str) -> dict[str, Any]:
    """Returns what asks Azure to transfer a call to a ``tel:`` URI; raises ``BadRequest`` for a ``sip:`` URI."""
    number = number_in(target_uri)
    if number is None:
        raise BadRequest("Azure transfers to telephone numbers only.", code="refer_failed", param="target_uri")
    return {"targetParticipant": {"rawId": f"4:{number}", "phoneNumber": {"value": number}}}
