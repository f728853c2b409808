"""The dialect of Bandwidth's ``<StartStream mode="bidirectional">``: JSON both ways.

The caller's sound is µ-law. The answer is µ-law as well, unless the stream's parameters ask for PCM16. There are no
marks and no keys, and the bridge's clock tells what was heard. When the stream closes, Bandwidth goes on with the rest
of the document.
"""

from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from bridge.telephony.dialect import Traits, number_in
from bridge.telephony.json_dialect import JsonSpec, Meaning
from bridge.wire.audio import G711_ULAW, PCM16

__all__ = ["ANSWER_ENCODING", "ANSWER_RATE", "BANDWIDTH_DIALECT", "write_bxml", "write_transfer"]

ANSWER_ENCODING, ANSWER_RATE = "answer_encoding", "answer_rate"
"""The stream's parameters that choose the answer's format: ``audio/pcm`` at 8000, 16000 or 24000 Hz."""

BANDWIDTH_DIALECT = JsonSpec(
    name="bandwidth",
    title="Bandwidth",
    traits=Traits(lead_ms=200, has_marks=False),
    tag=("eventType",),
    meanings={"start": Meaning.START, "media": Meaning.SOUND, "stop": Meaning.END},
    start="metadata",
    call=("metadata.callId",),
    stream=("metadata.streamId",),
    ids={"callId": ("metadata.callId",), "streamId": ("metadata.streamId",)},
    parameters=("streamParams",),
    encoding="metadata.tracks.0.mediaFormat.encoding",
    rate="metadata.tracks.0.mediaFormat.sampleRate",
    encodings={"audio/pcmu": G711_ULAW, "audio/pcm": None},
    pcm_hz=(8_000, 16_000, 24_000),
    answer=(ANSWER_ENCODING, ANSWER_RATE),
    types={
        G711_ULAW.media_type: "audio/pcmu",
        PCM16.media_type: "audio/pcm;rate=<rate>;channels=1;bit-depth=16;endian=little;encoding=signed",
    },
    payload=("payload",),
    track="track",
    sound='{"eventType":"playAudio","media":{"contentType":<type>,"payload":"<payload>"}}',
    clear_all=('{"eventType":"clear"}',),
)


def write_bxml(url: str, parameters: Mapping[str, str]) -> str:
    """Returns the BXML for an incoming call: a stream to ``url`` both ways, until either side ends it."""
    given = "".join(
        f"<StreamParam name={quoteattr(name)} value={quoteattr(value)}/>" for name, value in parameters.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Response><StartStream name="bridge" mode="bidirectional" tracks="inbound" '
        f"destination={quoteattr(url)}>{given}</StartStream>"
        '<StopStream name="bridge" wait="true"/></Response>\n'
    )


def write_transfer(target_uri: str) -> str:
    """Returns the BXML that connects a call to a ``tel:`` or ``sip:`` URI, in place of its earlier document."""
    number = number_in(target_uri)
    target = f"<SipUri>{escape(target_uri)}</SipUri>" if number is None else f"<PhoneNumber>{number}</PhoneNumber>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Transfer>{target}</Transfer></Response>\n'
