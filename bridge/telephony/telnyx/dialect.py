"""Telnyx media streaming: Twilio's words in snake_case, with a codec for each direction and messages in any order.

The caller's sound is in the codec of ``start.media_format``: PCMU, PCMA or L16. The answer's is in what the application
asked Telnyx for as ``stream_bidirectional_codec``. No message of Telnyx's says which that is: the application tells it
by the same names, on the stream's URL or in the custom parameters; if it does not, it is PCMU, as at Telnyx. In which
byte order L16 is sent Telnyx does not say; it is read as little-endian, like everybody's but that of RTP.
"""

from bridge.telephony.dialect import Traits
from bridge.telephony.json_dialect import JsonSpec, Meaning
from bridge.wire.audio import G711_ALAW, G711_ULAW

__all__ = ["ANSWER_CODEC", "ANSWER_RATE", "AUTH_TOKEN_HEADER", "TELNYX_DIALECT"]

AUTH_TOKEN_HEADER = "x-telnyx-streaming-auth-token"
"""Carries ``stream_auth_token`` on the upgrade; ``connected`` has a field of the same name."""
ANSWER_CODEC, ANSWER_RATE = "stream_bidirectional_codec", "stream_bidirectional_sampling_rate"
"""What the application asked Telnyx for, by Telnyx's names; unset there it is PCMU, at 8000 Hz."""

TELNYX_DIALECT = JsonSpec(
    name="telnyx",
    title="Telnyx",
    traits=Traits(lead_ms=1000),
    meanings={
        "connected": Meaning.GREETING,
        "start": Meaning.START,
        "media": Meaning.SOUND,
        "dtmf": Meaning.KEY,
        "mark": Meaning.PLAYED,
        "error": Meaning.COMPLAINT,
        "stop": Meaning.END,
    },
    start="start",
    call=("start.call_control_id", "start.call_session_id"),
    stream=("stream_id",),
    message_stream=("stream_id",),
    ids={
        "call_control_id": ("start.call_control_id",),
        "call_session_id": ("start.call_session_id",),
        "stream_id": ("stream_id",),
    },
    parameters=("start.custom_parameters",),
    numbers={"from": ("start.from",), "to": ("start.to",)},
    tokens=("start.stream_auth_token",),
    greeting_tokens=(AUTH_TOKEN_HEADER, f"connected.{AUTH_TOKEN_HEADER}"),
    encoding="start.media_format.encoding",
    rate="start.media_format.sample_rate",
    encodings={"pcmu": G711_ULAW, "pcma": G711_ALAW, "l16": None},
    pcm_hz=(8_000, 16_000, 22_050, 24_000, 48_000),
    answer=(ANSWER_CODEC, ANSWER_RATE),
    payload=("media.payload",),
    track="media.track",
    chunk="media.chunk",
    key=("dtmf.digit",),
    mark=("mark.name",),
    complaint=("payload.code", "payload.title"),
    sound='{"event":"media","media":{"payload":"<payload>"}}',
    set_mark='{"event":"mark","mark":{"name":<name>}}',
    clear_all=('{"event":"clear"}',),
)
