"""The dialect of Twilio Media Streams, and of SignalWire's and sipgate's streams: JSON, with sound in base64.

The carrier sends ``connected``, ``start``, then ``media``, ``dtmf`` and ``mark`` as they come, then ``stop``. It gets
``media``, ``mark`` and ``clear``, with exactly the documented fields; one more or less is an error at Twilio (31951).
SignalWire also sends PCM16, leaves the stream's id out after ``start``, and takes keys. sipgate-sip-stream-bridge takes
a connection that is closed for a broken one, and dials again; it hangs up if it gets ``stop``.
"""

from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from bridge.telephony.dialect import Traits, number_in
from bridge.telephony.json_dialect import JsonSpec, Meaning
from bridge.wire.audio import G711_ALAW, G711_ULAW

__all__ = ["HANG_UP_TWIML", "TWILIO_DIALECT", "transfer_to", "write_dial", "write_twiml"]

TWILIO_DIALECT = JsonSpec(
    name="twilio",
    title="Twilio",
    traits=Traits(lead_ms=1000),
    meanings={
        "connected": Meaning.GREETING,
        "start": Meaning.START,
        "media": Meaning.SOUND,
        "dtmf": Meaning.KEY,
        "mark": Meaning.PLAYED,
        "stop": Meaning.END,
    },
    start="start",
    call=("start.callSid",),
    stream=("streamSid", "start.streamSid"),
    message_stream=("streamSid",),
    needs_stream=True,
    ids={"callSid": ("start.callSid",), "streamSid": ("streamSid", "start.streamSid")},
    parameters=("start.customParameters",),
    encoding="start.mediaFormat.encoding",
    rate="start.mediaFormat.sampleRate",
    encodings={"audio/x-mulaw": G711_ULAW, "audio/x-alaw": G711_ALAW, "audio/x-l16": None},
    pcm_hz=(8_000, 16_000, 24_000),
    payload=("media.payload",),
    track="media.track",
    key=("dtmf.digit",),
    mark=("mark.name",),
    sound='{"event":"media","streamSid":<stream>,"media":{"payload":"<payload>"}}',
    set_mark='{"event":"mark","streamSid":<stream>,"mark":{"name":<name>}}',
    clear_all=('{"event":"clear","streamSid":<stream>}',),
    hang_up='{"event":"stop","streamSid":<stream>}',
    hang_up_if="start.customParameters.sipCallId",
    send_key='{"event":"dtmf","streamSid":<stream>,"dtmf":{"digit":<key>}}',
)


HANG_UP_TWIML = '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Hangup/></Response>\n'
"""The TwiML for a call that is over."""


def write_twiml(url: str, parameters: Mapping[str, str], again: str) -> str:
    """Returns the TwiML for a call: a stream to ``url`` with these parameters, until it ends on either side.

    If the caller is still there then, Twilio asks the webhook ``again`` what is next.
    """
    lines = "".join(
        f"<Parameter name={quoteattr(name)} value={quoteattr(value)}/>" for name, value in parameters.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Response><Connect><Stream url={quoteattr(url)}>{lines}</Stream></Connect>"
        f'<Redirect method="POST">{escape(again)}</Redirect></Response>\n'
    )


def write_dial(target_uri: str) -> str:
    """Returns the TwiML that connects a call to a ``tel:`` or ``sip:`` URI."""
    number = number_in(target_uri)
    target = f"<Sip>{escape(target_uri)}</Sip>" if number is None else f"<Number>{escape(number)}</Number>"
    return f"<Response><Dial>{target}</Dial></Response>"


def transfer_to(target: str) -> dict[str, str]:
    """Returns the form that connects a call to a URI, or has it go on with the document at an address.

    Twilio takes TwiML in the request; SignalWire takes its address alone.
    """
    return {"Url": target, "Method": "GET"} if target.startswith("http") else {"Twiml": write_dial(target)}
