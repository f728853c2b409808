"""The dialect of Plivo's audio streaming, and of Vobiz': JSON both ways, and µ-law at 8 kHz in base64.

There is no ``connected``. What the application gave as ``extraHeaders`` stands beside ``start``. ``playedStream``
answers a ``checkpoint`` when all before it has been played, but not a checkpoint that ``clearAudio`` threw away. If the
bridge closes a connection, the carrier takes it for a broken one, and opens it again: so Plivo's HTTP API hangs up, or
the word ``stop`` at Vobiz. The bridge does not ask for PCM16: Plivo does not say its byte order, and Vobiz has another
one for each direction.
"""

from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from bridge.telephony.dialect import Traits, number_in
from bridge.telephony.json_dialect import JsonSpec, Meaning
from bridge.wire.audio import G711_ULAW

__all__ = ["PLIVO_DIALECT", "transfer_to", "write_dial", "write_plivo_xml"]

PLIVO_DIALECT = JsonSpec(
    name="plivo",
    title="Plivo",
    traits=Traits(lead_ms=1000, max_message_bytes=12_000, redials=True),
    meanings={
        "start": Meaning.START,
        "media": Meaning.SOUND,
        "dtmf": Meaning.KEY,
        "playedStream": Meaning.PLAYED,
        "clearedAudio": Meaning.NOTHING,
        "playFailed": Meaning.COMPLAINT,
        "error": Meaning.COMPLAINT,
        "stop": Meaning.END,
    },
    start="start",
    call=("start.callId",),
    stream=("start.streamId", "streamId"),
    message_stream=("streamId",),
    needs_stream=True,
    ids={"callId": ("start.callId",), "streamId": ("start.streamId", "streamId")},
    parameters=("start.customParameters", "extra_headers"),
    encoding="start.mediaFormat.encoding",
    rate="start.mediaFormat.sampleRate",
    encodings={"audio/x-mulaw": G711_ULAW},
    types={G711_ULAW.media_type: "audio/x-mulaw"},
    payload=("media.payload",),
    track="media.track",
    key=("dtmf.digit",),
    mark=("name",),
    complaint=("reason",),
    sound='{"event":"playAudio","media":{"contentType":<type>,"sampleRate":<rate>,"payload":"<payload>"}}',
    set_mark='{"event":"checkpoint","streamId":<stream>,"name":<name>}',
    clear_all=('{"event":"clearAudio","streamId":<stream>}',),
    send_key='{"event":"sendDTMF","dtmf":<key>}',
)


def write_plivo_xml(url: str, parameters: Mapping[str, str]) -> str:
    """Returns the XML for an incoming call: a stream to ``url`` both ways, which lasts as long as the call.

    ``parameters`` become ``extraHeaders``, which takes only letters and digits: other characters are left out.
    """
    given = ",".join(f"{name}={''.join(filter(_is_plain, value))}" for name, value in parameters.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Response><Stream bidirectional="true" keepCallAlive="true" contentType="audio/x-mulaw;rate=8000" '
        f"extraHeaders={quoteattr(given)}>{escape(url)}</Stream></Response>\n"
    )


def _is_plain(character: str) -> bool:
    return character.isascii() and character.isalnum()


def transfer_to(url: str) -> dict[str, str]:
    """Returns what has a call go on with the document at ``url``."""
    return {"legs": "aleg", "aleg_url": url, "aleg_method": "GET"}


def write_dial(target_uri: str) -> str:
    """Returns the XML that connects a call to a ``tel:`` or ``sip:`` URI."""
    number = number_in(target_uri)
    target = f"<User>{escape(target_uri)}</User>" if number is None else f"<Number>{escape(number)}</Number>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Dial>{target}</Dial></Response>\n'
