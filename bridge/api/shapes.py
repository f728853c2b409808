"""What requests and answers hold, where no other type says it already: for the description of the API."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.api.ice_servers import IceServer
from bridge.wire.audio import COMPRESSED, FORMATS, PACKETS
from bridge.wire.server_events import ErrorDetail
from bridge.wire.sessions import SessionConfig
from bridge.wire.stats import CallStats
from bridge.wire.translations import TranslationSession

__all__ = [
    "BetaKey",
    "BetaSession",
    "CallList",
    "CallListQuery",
    "CallQuery",
    "ClientSecret",
    "ErrorBody",
    "HeardInput",
    "LiveAcceptRequest",
    "LiveCreateRequest",
    "LiveCreated",
    "LiveRejectRequest",
    "LiveSessionId",
    "LiveTransport",
    "Model",
    "ModelList",
    "OfferForm",
    "PageQuery",
    "ReferRequest",
    "RejectRequest",
    "PlayQuery",
    "ResumeQuery",
    "SocketQuery",
    "TranslationQuery",
    "TranslationSecret",
    "WatchQuery",
]


def _meaning(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


_TURN = _meaning("only if there is a TURN server: the configuration for a page's `RTCPeerConnection`")
_RATES_OF_COMPRESSED = "; ".join(f"for `{name}`, {compression.rates}" for name, compression in COMPRESSED.items())
_Model = Annotated[str, _meaning("model of the new session; an `ek_` key may bring its own")]


class ClientSecret(Struct, frozen=True, rename={"ice_servers": "iceServers"}):
    """A key for clients."""

    value: str
    expires_at: int
    session: SessionConfig
    ice_servers: Annotated[list[IceServer], _TURN] | UnsetType = UNSET


class TranslationSecret(Struct, frozen=True, rename={"ice_servers": "iceServers"}):
    """A key for translations."""

    value: str
    expires_at: int
    session: TranslationSession
    ice_servers: Annotated[list[IceServer], _TURN] | UnsetType = UNSET


class ErrorBody(Struct, frozen=True):
    """Why a request was refused."""

    error: ErrorDetail


class OfferForm(Struct, frozen=True):
    """An offer and the session that it is for."""

    sdp: str
    session: Annotated[SessionConfig, _meaning("ignored if the `ek_` key has its own session")] | None = None


class RejectRequest(Struct, frozen=True):
    """How a call that waits is rejected."""

    status_code: Annotated[int, msgspec.Meta(ge=400, le=699), _meaning("SIP status: 486 busy, 603 decline")] = 603


class ReferRequest(Struct, frozen=True):
    """To whom a telephone call is transferred."""

    target_uri: Annotated[
        str,
        msgspec.Meta(pattern=r"^(tel:\+?[0-9][0-9().-]{1,30}|sips?:[A-Za-z0-9._~%!$()*,;:=@\[\]+-]{1,200})$"),
        _meaning("`tel:+15550001111` or `sip:somebody@example.com`"),
    ]


class LiveAcceptRequest(Struct, frozen=True):
    """The Live session that answers a telephone call; its ``type`` is ``live``."""

    session: dict[str, Any]


class LiveRejectRequest(Struct, frozen=True):
    """The status of SIP by which a telephone call is turned away."""

    status_code: Annotated[int, msgspec.Meta(ge=300, le=699)]


class LiveTransport(Struct, frozen=True):
    """The way of the caller's sound; ``sdp`` is an offer, or the answer to it."""

    sdp: str
    type: str = "webrtc"


class LiveSessionId(Struct, frozen=True):
    """The id of a Live session."""

    id: str


class LiveCreateRequest(Struct, frozen=True):
    """A Live session over WebRTC."""

    session: dict[str, Any]
    transport: LiveTransport


class LiveCreated(Struct, frozen=True):
    """The Live session that was made, and the answer to its offer."""

    session: LiveSessionId
    transport: LiveTransport


class CallList(Struct, frozen=True):
    """Calls that the key may see: running ones from the oldest on, ended ones from the last on."""

    data: list[CallStats]
    object: str = "list"


class Model(Struct, frozen=True):
    """A model that a call may ask for."""

    id: str
    created: int
    owned_by: Annotated[str, _meaning("the upstream that serves it")]
    object: str = "model"


class ModelList(Struct, frozen=True):
    """Those that the configuration names."""

    data: list[Model]
    object: str = "list"


class BetaKey(Struct, frozen=True):
    """The ``client_secret`` of a flat beta session."""

    value: str
    expires_at: int


class BetaSession(Struct, frozen=True, rename={"ice_servers": "iceServers"}):
    """A flat session as beta has it; its key is what it was asked for."""

    client_secret: BetaKey
    ice_servers: Annotated[list[IceServer], _TURN] | UnsetType = UNSET


class HeardInput(Struct, frozen=True, tag_field="type", tag="input_audio_buffer.append"):
    """What the caller says, in the format that the listener chose."""

    event_id: str
    audio: Annotated[str, _meaning(f"base64: samples, or {PACKETS}; for Opus, empty if packets were lost here")]
    timestamp: (
        Annotated[
            int, _meaning("for compressed sound, with Opus at 48 kHz: number of samples of the track before these")
        ]
        | UnsetType
    ) = UNSET


class CallListQuery(Struct, frozen=True):
    """Which calls are to be listed."""

    ended: Annotated[Literal["0", "1"], _meaning("1: list the calls that ended last, not the running ones")] | None = (
        "0"
    )
    q: (
        Annotated[
            str,
            msgspec.Meta(max_length=256),
            _meaning(
                "only calls with this text in their ID, their carrier's IDs, their caller's address, a value of their "
                "metadata, their trace or the ID of their key; telephone numbers match however they are written"
            ),
        ]
        | None
    ) = None


class CallQuery(Struct, frozen=True):
    """What a ``POST`` of an offer may say on its URL."""

    model: _Model | None = None
    intent: Annotated[Literal["transcription"], _meaning("a session that only transcribes")] | None = None


class TranslationQuery(Struct, frozen=True):
    """What a request for a translation says on its URL."""

    model: Annotated[str, _meaning("model that translates; an `ek_` key may bring its own")] | None = None


class PlayQuery(Struct, frozen=True):
    """What a player may say on its URL."""

    tracks: (
        Annotated[
            str,
            _meaning(
                "which sound: `input` (the caller), `output` (the answer), or both, separated by a comma and mixed"
            ),
        ]
        | None
    ) = "input,output"


class ResumeQuery(Struct, frozen=True):
    """What a peer that comes back may say on its URL."""

    after: Annotated[str, _meaning("ID of the last event that it received")] | None = None


class PageQuery(Struct, frozen=True):
    """What a web page may ask of its session."""

    model: _Model | None = None
    voice: str | None = None


class SocketQuery(Struct, frozen=True):
    """What a WebSocket says on its URL: ``model`` or ``intent``, or ``call_id`` and what it wants of the call.

    A minted key stands for a session, and may leave all of them out.
    """

    model: _Model | None = None
    intent: Annotated[Literal["transcription"], _meaning("a session that only transcribes")] | None = None
    session_id: Annotated[str, _meaning("the session to which its owner returns")] | None = None
    call_id: Annotated[str, _meaning("the running call to attach to")] | None = None
    audio: (
        Annotated[
            str,
            _meaning("format of the sound for a listener; this and all that follow, except `events`, need `call_id`"),
            msgspec.Meta(extra_json_schema={"enum": ["none", *FORMATS, *COMPRESSED]}),
        ]
        | None
    ) = "none"
    role: (
        Annotated[
            Literal["controller", "observer", "agent"],
            _meaning("an observer may not send events; an agent is the model of this call, or of the next one"),
        ]
        | None
    ) = "controller"
    rate: (
        Annotated[
            Literal[8000, 16000, 24000, 44100, 48000],
            _meaning(f"sample rate for `audio=pcm16`, in Hz; {_RATES_OF_COMPRESSED}"),
        ]
        | None
    ) = 24000
    channels: Annotated[Literal[1, 2], _meaning("for `audio=pcm16`; with 2, both channels are the same")] | None = 1
    compression: (
        Annotated[
            str,
            _meaning(f"the same as that name in `audio=`: {PACKETS} per message"),
            msgspec.Meta(extra_json_schema={"enum": ["none", *COMPRESSED]}),
        ]
        | None
    ) = "none"
    latency: (
        Annotated[
            Literal["low", "balanced", "high"], _meaning("sound in chunks of 20, 60 or 200 ms; if unset, as it arrives")
        ]
        | None
    ) = None
    chunk_ms: (
        Annotated[
            int, msgspec.Meta(ge=20, le=1000), _meaning("instead of `latency`: length of a chunk, in milliseconds")
        ]
        | None
    ) = None
    chunk_size: (
        Annotated[Literal[1024, 2048, 4096], _meaning("instead of `latency`: length of a chunk, in bytes")] | None
    ) = None
    tracks: (
        Annotated[
            str, _meaning("which sound: `input` (the caller), `output` (the answer), or both, separated by a comma")
        ]
        | None
    ) = "input,output"
    events: (
        Annotated[str, _meaning("control events, by name or by prefix up to a dot, separated by commas; `!` excludes")]
        | None
    ) = None
    framing: (
        Annotated[Literal["json", "binary"], _meaning("`binary`: sound in binary messages with a header of 16 bytes")]
        | None
    ) = "json"
    after: Annotated[str, _meaning("for a listener that reconnects: ID of the last event that it received")] | None = (
        None
    )


class WatchQuery(Struct, frozen=True):
    """What one who watches calls says on the URL."""

    events: Annotated[str, _meaning("which events, chosen as for listeners")] | None = None
    after: Annotated[str, _meaning("for a watcher that reconnects: ID of the last event that it received")] | None = (
        None
    )
