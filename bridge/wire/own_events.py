"""What only the bridge says, under ``bridge.``: to those who have chosen what only the bridge offers."""

from msgspec import UNSET, UnsetType

from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import CallResult, CallStats, IncomingOutcome, SipHeader, Transport

__all__ = [
    "CallClosed",
    "CallIncoming",
    "CallLost",
    "CallOpened",
    "CallResumed",
    "CallSettled",
    "CallsRunning",
    "ListenerDropped",
    "MarkReached",
    "RecordingEnded",
    "RecordingStarted",
    "RecordingUploaded",
    "UpstreamDialled",
    "UpstreamDown",
    "UpstreamUp",
    "server_event_types",
]


class CallsRunning(ServerEvent, kw_only=True, tag="bridge.calls"):
    """The calls that run already, each as ``GET /v1/calls`` has it: the first event for those who watch calls."""

    calls: list[CallStats]


class CallIncoming(ServerEvent, kw_only=True, tag="bridge.call.incoming"):
    """A telephone call waits to be accepted, for so many seconds; for those who watch calls.

    ``sip_headers`` are what the carrier says of it, which anybody may have written.
    """

    call_id: str
    transport: Transport
    sip_headers: list[SipHeader]
    seconds: float
    traceparent: str | None = None
    """The call's place in a trace (W3C Trace Context), if it has one."""


class CallSettled(ServerEvent, kw_only=True, tag="bridge.call.settled"):
    """It waits no more; for the same. If it was accepted, ``bridge.call.opened`` came before.

    ``status_code`` is SIP's, with which it was rejected.
    """

    call_id: str
    transport: Transport
    outcome: IncomingOutcome
    status_code: int | None = None


class CallOpened(ServerEvent, kw_only=True, tag="bridge.call.opened"):
    """A call begins, as ``GET /v1/calls`` has it; for those who watch calls."""

    call: CallStats


class CallLost(ServerEvent, kw_only=True, tag="bridge.call.lost"):
    """The connection of who is the call broke; so many seconds it may come back. Sent to the bridge's own listeners."""

    call_id: str
    reason: str
    seconds: float


class CallResumed(ServerEvent, kw_only=True, tag="bridge.call.resumed"):
    """It has come back.

    If another process has taken the call over, ``moved_behind`` is the last event that is known to have been sent
    before: what came between that and the end of the other process is missing.
    """

    call_id: str
    moved_behind: str | UnsetType = UNSET


class CallClosed(ServerEvent, kw_only=True, tag="bridge.call.closed"):
    """A call is over: for its listeners that have made a choice, before their socket closes, and for call watchers."""

    call_id: str
    result: CallResult
    reason: str


class RecordingStarted(ServerEvent, kw_only=True, tag="bridge.recording.started"):
    """A call is recorded from now on; for its listeners that have made a choice, and for those who watch calls."""

    call_id: str
    recording_id: str


class RecordingEnded(ServerEvent, kw_only=True, tag="bridge.recording.ended"):
    """A recording is over and its files are complete, or it ``failed`` and ``error`` says why; for the same."""

    call_id: str
    recording_id: str
    reason: str
    seconds: float
    files: list[str]
    error: str | None = None
    awaits_upload: bool = False
    """``bridge.recording.uploaded`` follows, when the files are in the object store."""


class RecordingUploaded(ServerEvent, kw_only=True, tag="bridge.recording.uploaded"):
    """A recording's files are in the object store, at ``urls``; for those who watch calls.

    ``seconds`` is null, and ``reason`` is ``server_killed``, if the process that recorded it was killed.
    """

    call_id: str
    recording_id: str
    reason: str
    seconds: float | None
    files: list[str]
    urls: list[str]


class UpstreamDialled(ServerEvent, kw_only=True, tag="bridge.upstream.dialled"):
    """A call has tried to open a connection to an upstream of the settings; for those who watch calls.

    ``seconds`` is how long that took, and ``code`` why it failed; null if the upstream has given the call its session.
    """

    call_id: str
    upstream: str
    seconds: float
    code: str | None = None


class UpstreamDown(ServerEvent, kw_only=True, tag="bridge.upstream.down"):
    """A call has given an upstream of the settings up, after one before had been answered; for those who watch calls.

    ``code`` says why. Told once, until it answers again.
    """

    upstream: str
    code: str


class UpstreamUp(ServerEvent, kw_only=True, tag="bridge.upstream.up"):
    """An upstream that was down has answered a call; for those who watch calls."""

    upstream: str


class ListenerDropped(ServerEvent, kw_only=True, tag="bridge.listener.dropped"):
    """This listener was too slow: so much of its sound was left out, oldest first."""

    events: int
    audio_ms: int


class MarkReached(ServerEvent, kw_only=True, tag="bridge.mark"):
    """The sound before the mark has been played to the caller (``played``), or will never be (``cleared``)."""

    name: str
    status: str


def server_event_types() -> list[type[ServerEvent]]:
    """Every server event there is, GA's and these, by name."""
    return sorted(ServerEvent.__subclasses__(), key=lambda kind: str(kind.__struct_config__.tag))
