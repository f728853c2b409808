"""What Live clients are told. Fields that may be absent are ``UNSET``: the protocol tells absent and null apart.

The two events that carry sound have no ``event_id``.
"""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from bridge.errors import BridgeError
from bridge.wire.server_events import Body, NumberedEvent

__all__ = [
    "LiveClosed",
    "CommentaryAppended",
    "Delegation",
    "DelegationCreated",
    "DtmfReceived",
    "LiveDtmfSent",
    "FixturePlayed",
    "FixturePlaying",
    "Info",
    "InputMuted",
    "InputSound",
    "InputTranscriptDelta",
    "InputUnmuted",
    "InstructionsAppended",
    "LiveError",
    "LiveErrorDetail",
    "LiveServerEvent",
    "OutputSound",
    "OutputTranscriptDelta",
    "Paused",
    "ResponseEvent",
    "Resumed",
    "LiveStarted",
    "ThinkingAppended",
    "Updated",
    "LiveUsage",
    "UsageUpdated",
    "live_error",
    "live_server_event_types",
]


class LiveServerEvent(NumberedEvent, kw_only=True):
    """Any Live server event but those of sound."""

    client_event_id: str | UnsetType = UNSET


class LiveUsage(Struct, kw_only=True):
    """The seconds of a session so far, never those since the last event."""

    seconds: int
    active_seconds: int | UnsetType = UNSET
    paused_seconds: int | UnsetType = UNSET


class LiveStarted(LiveServerEvent, kw_only=True, tag="session.started"):
    """The session has begun; it is told whole, with its defaults."""

    session: Body


class Updated(LiveServerEvent, kw_only=True, tag="session.updated"):
    """Answers ``session.update`` with the whole session."""

    session: Body


class Paused(LiveServerEvent, kw_only=True, tag="session.paused"):
    """The model hears nothing until somebody speaks."""


class Resumed(LiveServerEvent, kw_only=True, tag="session.resumed"):
    """The model hears again."""


class InputMuted(LiveServerEvent, kw_only=True, tag="session.input_audio.muted"):
    """The model hears silence from now on."""


class InputUnmuted(LiveServerEvent, kw_only=True, tag="session.input_audio.unmuted"):
    """The model hears the caller again."""


class FixturePlaying(LiveServerEvent, kw_only=True, tag="session.output_audio.fixture.playing"):
    """A fixture was taken, and is played."""


class FixturePlayed(LiveServerEvent, kw_only=True, tag="session.output_audio.fixture.played"):
    """All of a fixture was played."""


class _Appended(LiveServerEvent, kw_only=True):
    start_ms: int
    end_ms: int


class InstructionsAppended(_Appended, kw_only=True, tag="session.instructions.appended"):
    """The model was told a rule."""


class ThinkingAppended(_Appended, kw_only=True, tag="session.thinking.appended"):
    """The model was told something that it does not speak of by itself."""


class CommentaryAppended(_Appended, kw_only=True, tag="session.commentary.appended"):
    """The model was told something to speak of. It has not been spoken yet, and may never be."""


class InputTranscriptDelta(LiveServerEvent, kw_only=True, tag="session.input_transcript.delta"):
    """The caller's words between two times of the session; pieces are joined as they are."""

    delta: str
    start_ms: int
    end_ms: int


class OutputTranscriptDelta(LiveServerEvent, kw_only=True, tag="session.output_transcript.delta"):
    """The model's words between two times of the session; pieces are joined as they are."""

    delta: str
    start_ms: int
    end_ms: int


class Delegation(Struct, kw_only=True):
    """A task that the model has given away."""

    id: str
    type: str = "delegation"
    target: str
    response_id: str | UnsetType = UNSET


class DelegationCreated(LiveServerEvent, kw_only=True, tag="session.delegation.created"):
    """The model has given a task to somebody else."""

    delegation: Delegation
    offset_ms: int


class ResponseEvent(LiveServerEvent, kw_only=True, tag="response.event"):
    """An event of the model that works, as the Responses API streams it."""

    event: dict[str, Any]
    delegation_id: str | None | UnsetType = UNSET


class UsageUpdated(LiveServerEvent, kw_only=True, tag="session.usage.updated"):
    """What the session has cost so far."""

    usage: LiveUsage


class LiveClosed(LiveServerEvent, kw_only=True, tag="session.closed"):
    """The session is over, and complete. A connection that closes without this event has not ended the session."""

    reason: str
    session: Body
    usage: LiveUsage


class LiveErrorDetail(Struct, kw_only=True):
    """What was wrong."""

    type: str
    code: str
    message: str
    param: str | UnsetType = UNSET
    client_event_id: str | UnsetType = UNSET


class LiveError(LiveServerEvent, kw_only=True, tag="error"):
    """Something that was asked for was not done; the session lives on."""

    error: LiveErrorDetail


class Info(LiveServerEvent, kw_only=True, tag="info"):
    """Something that is good to know of the session."""

    code: str
    message: str


class DtmfReceived(LiveServerEvent, kw_only=True, tag="transport.dtmf.received"):
    """The caller has pressed a key of the telephone."""

    event: str


class LiveDtmfSent(LiveServerEvent, kw_only=True, tag="transport.dtmf.sent"):
    """A key was pressed on the line to the telephone."""

    event: str


class InputSound(Struct, kw_only=True, tag="session.input_audio.append"):
    """What the caller says, before it is muted, for sidebands: PCM16 at 24 kHz as base64."""

    audio: str


class OutputSound(Struct, kw_only=True, tag="session.output_audio.delta"):
    """What the caller hears, as base64: in the session's format for the primary WebSocket.

    Sidebands get PCM16 at 24 kHz, with the times of its beginning and end.
    """

    delta: str
    start_ms: int | UnsetType = UNSET
    end_ms: int | UnsetType = UNSET


def live_error(error: BridgeError, *, client_event_id: str | None = None) -> LiveError:
    """Returns the ``error`` event that answers the client event ``client_event_id``."""
    named = UNSET if client_event_id is None else client_event_id
    return LiveError(
        client_event_id=named,
        error=LiveErrorDetail(
            type=error.type,
            code=error.code,
            message=error.message,
            param=UNSET if error.param is None else error.param,
            client_event_id=named,
        ),
    )


def live_server_event_types() -> list[type[Struct]]:
    """Returns the types of all server events by name."""
    kinds: list[type[Struct]] = [InputSound, OutputSound]
    parents: list[type[Struct]] = [LiveServerEvent]
    while parents:
        children = parents.pop().__subclasses__()
        parents += children
        kinds += [kind for kind in children if kind.__struct_config__.tag is not None and kind is not _Appended]
    return sorted(kinds, key=lambda kind: str(kind.__struct_config__.tag))
