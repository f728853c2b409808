"""The events that only the bridge has, under ``bridge.``.

They go to those who have chosen what only the bridge offers.
"""

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
    """The calls that run already, each as ``GET /v1/calls`` has it; the first event for those who watch calls."""

    calls: list[CallStats]


class CallIncoming(ServerEvent, kw_only=True, tag="bridge.call.incoming"):
    """A telephone call waits to be accepted, for this many seconds; for those who watch calls.

    ``sip_headers`` are what the carrier says of the call. Anybody may have written them.
    """

    call_id: str
    transport: Transport
    sip_headers: list[SipHeader]
    seconds: float
    traceparent: str | None = None
    """The call's place in a trace (W3C Trace Context), if it has one."""


class CallSettled(ServerEvent, kw_only=True, tag="bridge.call.settled"):
    """A telephone call waits no more to be accepted; for those who watch calls.

    If it was accepted, ``bridge.call.opened`` came before. If it was rejected, ``status_code`` is SIP's code for it.
    """

    call_id: str
    transport: Transport
    outcome: IncomingOutcome
    status_code: int | None = None


class CallOpened(ServerEvent, kw_only=True, tag="bridge.call.opened"):
    """A call begins; it is described as in ``GET /v1/calls``. For those who watch calls."""

    call: CallStats


class CallLost(ServerEvent, kw_only=True, tag="bridge.call.lost"):
    """The caller's connection broke; the caller may come back within this many seconds.

    For the bridge's own listeners.
    """

    call_id: str
    reason: str
    seconds: float


class CallResumed(ServerEvent, kw_only=True, tag="bridge.call.resumed"):
    """The caller whose connection broke has come back.

    If another process has taken the call over, ``moved_behind`` is the last event that is known to have been sent
    before. Events between that one and the end of the other process are missing.
    """

    call_id: str
    moved_behind: str | UnsetType = UNSET


class CallClosed(ServerEvent, kw_only=True, tag="bridge.call.closed"):
    """A call is over.

    Listeners that have made a choice get it before their socket closes; those who watch calls get it too.
    """

    call_id: str
    result: CallResult
    reason: str


class RecordingStarted(ServerEvent, kw_only=True, tag="bridge.recording.started"):
    """A call is recorded from now on; for its listeners that have made a choice, and for those who watch calls."""

    call_id: str
    recording_id: str


class RecordingEnded(ServerEvent, kw_only=True, tag="bridge.recording.ended"):
    """A recording is over: its files are complete, or it ``failed`` and ``error`` says why.

    For the call's listeners that have made a choice, and for those who watch calls.
    """

    call_id: str
    recording_id: str
    reason: str
    seconds: float
    files: list[str]
    error: str | None = None
    awaits_upload: bool = False
    """Whether ``bridge.recording.uploaded`` follows, as soon as the files are in the object store."""


class RecordingUploaded(ServerEvent, kw_only=True, tag="bridge.recording.uploaded"):
    """A recording's files are in the object store, at ``urls``; for those who watch calls.

    If the process that recorded the call was killed, ``seconds`` is null and ``reason`` is ``server_killed``.
    """

    call_id: str
    recording_id: str
    reason: str
    seconds: float | None
    files: list[str]
    urls: list[str]


class UpstreamDialled(ServerEvent, kw_only=True, tag="bridge.upstream.dialled"):
    """A call has tried to open a connection to an upstream of the settings; for those who watch calls.

    ``seconds`` is how long that took. ``code`` says why it failed; it is null if the upstream has given the call its
    session.
    """

    call_id: str
    upstream: str
    seconds: float
    code: str | None = None


class UpstreamDown(ServerEvent, kw_only=True, tag="bridge.upstream.down"):
    """A call has given up an upstream of the settings that had answered calls before; for those who watch calls.

    ``code`` says why. The event comes once, until the upstream answers again.
    """

    upstream: str
    code: str


class UpstreamUp(ServerEvent, kw_only=True, tag="bridge.upstream.up"):
    """An upstream that was down has answered a call; for those who watch calls."""

    upstream: str


class ListenerDropped(ServerEvent, kw_only=True, tag="bridge.listener.dropped"):
    """This listener was too slow: this much of its sound was left out, the oldest first."""

    events: int
    audio_ms: int


class MarkReached(ServerEvent, kw_only=True, tag="bridge.mark"):
    """The sound before the mark has been played to the caller (``played``), or will never be (``cleared``)."""

    name: str
    status: str


def server_event_types() -> list[type[ServerEvent]]:
    """Returns the types of all server events by name, GA's and the bridge's own."""
    return sorted(ServerEvent.__subclasses__(), key=lambda kind: str(kind.__struct_config__.tag))
