"""The figures that a call and its parts give of themselves, with names and types.

``GET /v1/calls``, the API's description, call events, the closing log line and the console take them from here.
"""

from enum import StrEnum
from typing import Annotated, Any, NewType

from msgspec import UNSET, Meta, Struct, UnsetType

__all__ = [
    "WEBRTC",
    "WEBSOCKET",
    "BearerStats",
    "CallResult",
    "CallState",
    "CallStats",
    "CallStatus",
    "CallWarning",
    "CarrierLegStats",
    "DaemonStats",
    "Dialect",
    "EndpointStats",
    "Framing",
    "IncomingOutcome",
    "LIVE",
    "LegStats",
    "ListenerRole",
    "ListenerStats",
    "PeerStats",
    "RecordingState",
    "RecordingStats",
    "RecordingsStats",
    "SipHeader",
    "Stage",
    "StageStats",
    "TargetStats",
    "TelephonyStats",
    "Transport",
    "UpstreamStats",
]


Transport = NewType("Transport", str)
"""The way in which a call came: ``WEBRTC``, ``WEBSOCKET``, ``LIVE``, or the name of its carrier."""

WEBRTC = Transport("webrtc")
WEBSOCKET = Transport("websocket")
LIVE = Transport("live")
"""A WebSocket of a Live client; over WebRTC a Live call is like any other."""


class CallState(StrEnum):
    """The state that a call is in."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"
    """The caller's connection broke, and may come back for a while."""
    CLOSED = "closed"


class CallStatus(StrEnum):
    """How a call is doing, in the words of the beta reference."""

    ACTIVE = "active"
    ENDED = "ended"
    ERROR = "error"


class CallResult(StrEnum):
    """The result with which every call ends: one word that says whose doing it was."""

    SUCCESS = "success"
    CLIENT_ERROR = "client_error"
    UPSTREAM_ERROR = "upstream_error"
    SERVER_ERROR = "server_error"


class IncomingOutcome(StrEnum):
    """What became of a telephone call that waited to be accepted."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    REFERRED = "referred"
    """The call was transferred to somebody else."""
    HUNG_UP = "hung_up"
    """The application hung up."""
    CALLER_HUNG_UP = "caller_hung_up"
    EXPIRED = "expired"
    """Nobody decided in time."""
    STOPPED = "stopped"
    """The server stopped, or could not open the call."""


class ListenerRole(StrEnum):
    """What a listener is to its call, and so what it may do."""

    OWNER = "owner"
    """The call itself, over a WebSocket."""
    PEER = "peer"
    """The call itself, over its data channel."""
    CONTROLLER = "controller"
    OBSERVER = "observer"
    """A listener that may send no events."""
    AGENT = "agent"
    """A client that answers as the model."""
    RECORDER = "recorder"
    PLAYER = "player"
    """A client that hears only the sound, over WebRTC."""


class Dialect(StrEnum):
    """The protocols that a client may speak."""

    GA = "ga"
    BETA = "beta"
    TRANSLATION = "translation"
    """All clients of a translation speak it, and nobody else does."""
    LIVE = "live"
    """The Live protocol, which stands in front of a session that speaks GA."""


class Framing(StrEnum):
    """How sound is sent to a listener."""

    JSON = "json"
    BINARY = "binary"
    """Sound comes in frames as ``bridge.wire.binary`` describes them."""


class RecordingState(StrEnum):
    """The state that a recording is in."""

    RECORDING = "recording"
    FINISHING = "finishing"
    FAILED = "failed"


class SipHeader(Struct, frozen=True):
    """A header of SIP's INVITE, in which a carrier describes an incoming call. Anybody may have written it."""

    name: str
    value: str


class CallWarning(Struct, frozen=True):
    """A part of the request for a call that is of no use, although the call can be made; ``code`` is a slug."""

    code: str
    message: str


class LegStats(Struct, frozen=True, kw_only=True):
    """The figures of what carries the caller's sound."""

    sent: Annotated[int, Meta(description="packets or chunks of the answer that were sent")]
    queued_ms: Annotated[int, Meta(description="of the answer, still to be played")]
    overflow_ms: Annotated[int, Meta(description="of the answer, dropped because too much was queued")]
    faults: Annotated[int, Meta(description="packets and messages that could not be used")]


class PeerStats(LegStats, frozen=True, kw_only=True):
    """The figures of a leg over WebRTC."""

    packets: Annotated[int, Meta(description="packets received from the caller")]
    lost: Annotated[int, Meta(description="packets from the caller that never arrived")]
    late: Annotated[int, Meta(description="packets that arrived too late to be played")]
    too_fast: Annotated[int, Meta(description="packets dropped because they arrived at more than twice real time")]
    doubles: Annotated[int, Meta(description="packets that arrived twice, or far too late")]
    recovered: Annotated[int, Meta(description="lost packets recovered by FEC or redundancy")]
    concealed_ms: Annotated[int, Meta(description="sound that was made up because packets were lost or late")]
    silence_ms: Annotated[int, Meta(description="time during which the caller sent nothing")]
    jitter_ms: Annotated[float, Meta(description="how much the delay of packets varies")]
    reorder_ms: Annotated[int, Meta(description="how long the bridge waits for a missing packet")]
    held: Annotated[int, Meta(description="packets that wait behind a missing one")]
    round_trip_ms: float | None
    passed_on: Annotated[int, Meta(description="packets among `sent` that were passed on without being decoded")]
    resent: Annotated[int, Meta(description="packets that the peer requested again")]
    remote_lost_percent: float
    remote_jitter_ms: float
    moves: Annotated[int, Meta(description="new addresses")]
    datagrams_dropped: int


class CarrierLegStats(LegStats, frozen=True, kw_only=True):
    """The figures of a telephone call's leg."""

    is_connected: bool
    messages: Annotated[int, Meta(description="of the caller's sound")]
    input_late_ms: Annotated[
        int, Meta(description="of the caller's sound, what arrived late, in a burst after a pause of 0.1 s or more")
    ]
    late_ms: Annotated[int, Meta(description="by how much the carrier played later than it should")]
    returns: Annotated[int, Meta(description="how often the carrier's connection was lost and came back")]


class BearerStats(Struct, frozen=True):
    """What brings the caller's sound, a leg or its owner's socket; ``input`` and ``output`` are its formats."""

    kind: Transport
    input: str
    output: str
    quality: LegStats | None


class ListenerStats(Struct, frozen=True, kw_only=True):
    """The figures of a listener: its choices in the words of the URL, and how far it is behind."""

    id: str
    role: ListenerRole
    dialect: Dialect
    audio: str
    chunk_ms: int | None
    chunk_size: int | None
    tracks: list[str]
    events: list[str] | None
    framing: Framing
    is_held: bool
    last_event_id: str
    backlog_bytes: int
    dropped_events: int
    dropped_ms: int


class Stage(StrEnum):
    """A stage of an embedded engine."""

    EAR = "ear"
    MIND = "mind"
    VOICE = "voice"


class StageStats(Struct, frozen=True, kw_only=True):
    """The figures of one stage of the engine that answers a call."""

    name: Annotated[Stage, Meta(description="`ear`, `mind` or `voice`")]
    answered: Annotated[
        int, Meta(description="requests that were answered: stretches of speech, questions or sentences")
    ]
    failed: Annotated[int, Meta(description="requests that failed")]
    first_ms: Annotated[float | None, Meta(description="mean time to the first word or sound, in milliseconds")]
    slowest_ms: Annotated[float | None, Meta(description="the longest of these times")]


class UpstreamStats(Struct, frozen=True, kw_only=True):
    """The figures of the upstream that answers a call."""

    name: Annotated[str, Meta(description="name of the upstream that answers now: as in the settings, or `local`")]
    lines: Annotated[int, Meta(description="connections to services that were opened")]
    lost: Annotated[int, Meta(description="connections to services that were lost")]
    answers: Annotated[int, Meta(description="responses that were completed")]
    stages: Annotated[
        tuple[StageStats, ...], Meta(description="ears, mind and voice, if an embedded engine answers")
    ] = ()
    input_seconds: Annotated[float, Meta(description="sound sent to a translating service")] = 0.0
    output_seconds: Annotated[float, Meta(description="sound received from a translating service")] = 0.0


class TargetStats(Struct, frozen=True, kw_only=True):
    """The figures of one upstream of the settings, over all calls since the start."""

    name: Annotated[str, Meta(description="as in the settings; `upstream` for the address in the setting of that name")]
    dials: Annotated[int, Meta(description="attempts to open a connection")]
    failures: Annotated[int, Meta(description="attempts that brought no session")]
    lost: Annotated[int, Meta(description="connections that broke or fell silent during a call")]
    renewals: Annotated[int, Meta(description="connections replaced before the service would have ended them")]
    given_up: Annotated[int, Meta(description="how often a call gave it up, and went to the next upstream or ended")]
    down: Annotated[
        str | None, Meta(description="the error code with which it was given up, until it answers again")
    ] = None


class RecordingStats(Struct, frozen=True, kw_only=True):
    """The figures of a call's recording."""

    id: str
    object: str = "bridge.recording"
    call_id: str
    state: RecordingState
    seconds: float


class CallStats(Struct, frozen=True, kw_only=True):
    """The figures of a call. After its end they say how it ended, have its last values, and no listeners."""

    id: str
    object: str = "realtime.call"
    session_id: str
    state: CallState
    transport: Annotated[Transport, Meta(description="`webrtc`, `websocket`, `live`, or a carrier's name")]
    model: str
    started_at: Annotated[float, Meta(description="Unix time")]
    metadata: dict[str, str]
    warnings: list[CallWarning]
    status: CallStatus
    seconds: float
    listeners: list[ListenerStats]
    legs: list[BearerStats]
    peer: Annotated[LegStats | None, Meta(description="the `quality` of the leg, if there is one")]
    upstream: UpstreamStats
    trace_id: Annotated[str | None, Meta(description="ID of the distributed trace that the call is part of")] = None
    key_id: Annotated[str, Meta(description="ID of the key that opened the call; `api` for an API key")]
    setup_ms: Annotated[int | None, Meta(description="time from the request until sound could flow; null before that")]
    dropped_events: Annotated[
        int, Meta(description="events dropped for slow listeners, including those that have left")
    ]
    ended_at: Annotated[float, Meta(description="Unix time")] | UnsetType = UNSET
    result: CallResult | UnsetType = UNSET
    reason: Annotated[str, Meta(description="a slug, such as `hangup`")] | UnsetType = UNSET
    session: (
        Annotated[dict[str, Any], Meta(extra_json_schema={"$ref": "#/components/schemas/SessionConfig"})] | UnsetType
    ) = UNSET


class EndpointStats(Struct, frozen=True, kw_only=True):
    """The figures of the socket and the clock that all peers share."""

    peers: int
    late_ticks: int
    datagrams_dropped: dict[str, int]


class TelephonyStats(Struct, frozen=True, kw_only=True):
    """The figures of all carriers.

    Refused connections are counted by ``CARRIER.code``, messages of no use by what was wrong with them.
    """

    refused: dict[str, int]
    faults: dict[str, int]
    late_ticks: Annotated[int, Meta(description="ticks of 20 ms, skipped because the process stood still")]
    hang_ups_failed: Annotated[int, Meta(description="calls that a carrier's API failed to hang up")]


class RecordingsStats(Struct, frozen=True, kw_only=True):
    """The figures of all recordings together, counted since the start."""

    kept: int = 0
    """The number in the directory when it was last looked at."""
    kept_bytes: int = 0
    deleted: int = 0
    """The number that were deleted for their age, or to make room."""
    uploaded: int = 0
    upload_failures: int = 0
    awaiting_upload: int = 0


class DaemonStats(Struct, frozen=True, kw_only=True):
    """The figures of the whole process, without its calls."""

    is_draining: bool
    is_overloaded: bool
    loop_lag_ms: Annotated[float, Meta(description="event loop lag, averaged over two seconds")]
    kept_bytes: Annotated[int, Meta(description="bytes kept by all conversations")]
    connections_refused: Annotated[int, Meta(description="connections refused because too many were pending")]
    log_lines_dropped: Annotated[int, Meta(description="lines dropped because standard error was not read fast enough")]
    endpoint: EndpointStats
    telephony: TelephonyStats
    targets: list[TargetStats]
