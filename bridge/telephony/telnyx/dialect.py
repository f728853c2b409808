"""The dialect of Telnyx media streaming: Twilio's words in snake_case, with a codec for each direction.

Messages may come in any order. The caller's sound is in the codec of ``start.media_format``: PCMU, PCMA or L16. The
answer's sound is in the codec that the application asked Telnyx for as ``stream_bidirectional_codec``. No message of
Telnyx says which that is. The application tells it by the same names, on the stream's URL or in the custom parameters.
If it does not, the codec is PCMU, as at Telnyx. Telnyx does not say the byte order of L16; the bridge reads it as
little-endian, like everybody's but that of RTP.
"""

from bridge.telephony.dialect import Traits
from bridge.telephony.json_dialect import JsonSpec, Meaning
from bridge.wire.audio import G711_ALAW, G711_ULAW

__all__ = ["ANSWER_CODEC", "ANSWER_RATE", "AUTH_TOKEN_HEADER", "TELNYX_DIALECT"]

AUTH_TOKEN_HEADER = "x-telnyx-streaming-auth-token"
"""The header of the upgrade that carries ``stream_auth_token``. ``connected`` has a field of the same name."""
ANSWER_CODEC, ANSWER_RATE = "stream_bidirectional_codec", "stream_bidirectional_sampling_rate"
"""The parameters by which the application asked Telnyx for the answer's format; PCMU at 8000 Hz if it has not."""

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
