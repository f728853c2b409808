"""The dialect of Exotel AgentStream: Twilio's messages, with PCM16 little-endian.

Names are in snake_case or camelCase, and the bridge answers in the same form. The address asks for the rate
(``?sample-rate=16000``), or the start says it. Exotel gets sound in numbered pieces of at least 3,200 bytes, each a
multiple of 320, near its time. Closing the stream ends the bot's leg.
"""

import json

from bridge.telephony.dialect import Traits
from bridge.telephony.json_dialect import JsonSpec, Meaning
from bridge.wire.audio import G711_ULAW

__all__ = ["EXOTEL_DIALECT", "write_url"]

EXOTEL_DIALECT = JsonSpec(
    name="exotel",
    title="Exotel",
    traits=Traits(lead_ms=200, piece_ms=200, min_piece_ms=200, mark_ms=200, max_message_bytes=100_000),
    meanings={
        "connected": Meaning.GREETING,
        "start": Meaning.START,
        "media": Meaning.SOUND,
        "dtmf": Meaning.KEY,
        "mark": Meaning.PLAYED,
        "clear": Meaning.NOTHING,
        "stop": Meaning.END,
    },
    start="start",
    call=("start.call_sid", "start.callSid"),
    stream=("stream_sid", "streamSid", "start.stream_sid", "start.streamSid"),
    message_stream=("stream_sid", "streamSid"),
    needs_stream=True,
    ids={
        "call_sid": ("start.call_sid", "start.callSid"),
        "stream_sid": ("stream_sid", "streamSid", "start.stream_sid", "start.streamSid"),
    },
    parameters=("start.custom_parameters", "start.customParameters"),
    numbers={"from": ("start.from",), "to": ("start.to",)},
    encoding="start.media_format.encoding",
    rate="start.media_format.sample_rate",
    rate_query="sample-rate",
    encodings={"audio/x-raw": None, "raw/slin": None, "base64": None, "audio/x-l16": None, "audio/x-mulaw": G711_ULAW},
    pcm_hz=(8_000, 16_000, 24_000),
    payload=("media.payload",),
    track="media.track",
    key=("dtmf.digit",),
    mark=("mark.name",),
    sound='{"event":"media",<sid>:<stream>,"media":{"chunk":"<chunk>","timestamp":"<ms>","sequenceNumber":"<chunk>",'
    '"payload":"<payload>"}}',
    set_mark='{"event":"mark",<sid>:<stream>,"mark":{"name":<name>}}',
    clear_all=('{"event":"clear",<sid>:<stream>}',),
)


def write_url(url: str) -> str:
    """Returns the answer to a Voicebot applet that asks where to stream to."""
    return json.dumps({"url": url})
