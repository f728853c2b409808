"""What Live clients may say, by who says it: the primary WebSocket, a page's data channel, a server's sideband."""

from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from bridge.errors import BadEvent
from bridge.wire.checks import require_tellable
from bridge.wire.client_events import EventId, read_event
from bridge.wire.reading import bad_event
from bridge.wire.server_events import Body

__all__ = [
    "APPEND",
    "KEY",
    "LiveAppend",
    "CommentaryAppend",
    "DecisionCreate",
    "DecisionItemCreate",
    "DecisionItemDelete",
    "DtmfSend",
    "FixturePlay",
    "InputAppend",
    "InputMute",
    "InputUnmute",
    "InstructionsAppend",
    "LiveBearer",
    "LiveEvent",
    "LiveMessage",
    "LiveResponseCreate",
    "ResponseItemCreate",
    "SessionClose",
    "SessionStart",
    "LiveSessionUpdate",
    "ThinkingAppend",
    "live_client_event_types",
    "read_live_event",
    "read_live_message",
]

APPEND = "session.input_audio.append"
KEY = "transport.dtmf.send"


class LiveBearer(Enum):
    """The kind of connection that a Live event comes by."""

    PRIMARY = "the primary WebSocket"
    CHANNEL = "a data channel"
    SIDEBAND = "a sideband"


_P, _D, _S = LiveBearer


class LiveEvent(Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """Any Live client event; what the server answers names its ``event_id`` as ``client_event_id``."""

    event_id: EventId | None = None


class SessionStart(LiveEvent, frozen=True, kw_only=True, tag="session.start"):
    """Begins the session, as the first event of a WebSocket; answered by ``session.started``."""

    session: dict[str, Any]


class LiveSessionUpdate(LiveEvent, frozen=True, kw_only=True, tag="session.update"):
    """Changes the delegation or the triggers; answered by ``session.updated``."""

    session: dict[str, Any]


class InputAppend(LiveEvent, frozen=True, kw_only=True, tag=APPEND):
    """Brings sound in the session's format, as base64; it is never acknowledged."""

    audio: str


class InputMute(LiveEvent, frozen=True, kw_only=True, tag="session.input_audio.mute"):
    """From now on the model hears silence."""


class InputUnmute(LiveEvent, frozen=True, kw_only=True, tag="session.input_audio.unmute"):
    """From now on the model hears the caller again."""


class FixturePlay(LiveEvent, frozen=True, kw_only=True, tag="session.output_audio.fixture.play"):
    """Plays up to 30 seconds of PCM16 at 24 kHz in place of what the model says."""

    audio: str


class LiveAppend(LiveEvent, frozen=True, kw_only=True):
    """Something that the model is told; a ``delegation_id`` says which delegation it answers."""

    content: str
    delegation_id: str | None


class InstructionsAppend(LiveAppend, frozen=True, kw_only=True, tag="session.instructions.append"):
    """Tells the model a rule that holds from now on."""


class ThinkingAppend(LiveAppend, frozen=True, kw_only=True, tag="session.thinking.append"):
    """Tells the model something that it does not speak of by itself."""


class CommentaryAppend(LiveAppend, frozen=True, kw_only=True, tag="session.commentary.append"):
    """Tells the model something that it speaks of."""


class ResponseItemCreate(LiveEvent, frozen=True, kw_only=True, tag="response.item.create"):
    """Adds an item for the model that works: the output of a function, or a message."""

    item: dict[str, Any]


class LiveResponseCreate(LiveEvent, frozen=True, kw_only=True, tag="response.create"):
    """Asks the model that works to go on."""


class DecisionCreate(LiveEvent, frozen=True, kw_only=True, tag="decision.create"):
    """Asks the Decision API."""


class DecisionItemCreate(LiveEvent, frozen=True, kw_only=True, tag="decision.item.create"):
    """Adds an item for the Decision API."""

    item: dict[str, Any]


class DecisionItemDelete(LiveEvent, frozen=True, kw_only=True, tag="decision.item.delete"):
    """Removes an item of the Decision API."""

    item_id: str


class DtmfSend(LiveEvent, frozen=True, kw_only=True, tag=KEY):
    """Presses a key on the line to the telephone."""

    event: str


class SessionClose(LiveEvent, frozen=True, kw_only=True, tag="session.close"):
    """Ends the session; answered by ``session.closed``."""


_ALL, _NO_CHANNEL = frozenset(LiveBearer), frozenset({_P, _S})
_MAY_SEND: dict[type[LiveEvent], frozenset[LiveBearer]] = {
    SessionStart: frozenset({_P}),
    LiveSessionUpdate: _ALL,
    InputAppend: frozenset({_P}),
    InputMute: _ALL,
    InputUnmute: _ALL,
    FixturePlay: _NO_CHANNEL,
    InstructionsAppend: _ALL,
    ThinkingAppend: _ALL,
    CommentaryAppend: _ALL,
    ResponseItemCreate: _ALL,
    LiveResponseCreate: _ALL,
    DecisionCreate: _ALL,
    DecisionItemCreate: _ALL,
    DecisionItemDelete: _ALL,
    DtmfSend: frozenset({_S}),
    SessionClose: _ALL,
}
_KINDS: dict[str, type[LiveEvent]] = {str(kind.__struct_config__.tag): kind for kind in _MAY_SEND}


@dataclass(frozen=True, slots=True)
class LiveMessage:
    """A Live client event, by its type alone, with the JSON that it was read from."""

    type: str
    body: Body

    @property
    def event_id(self) -> str | None:
        """The id that the client has given it, if that is one."""
        event_id = self.body.get("event_id")
        return event_id if isinstance(event_id, str) and len(event_id) <= 512 else None


def live_client_event_types() -> list[type[LiveEvent]]:
    """Returns the types of all client events by name."""
    return [_KINDS[name] for name in sorted(_KINDS)]


def read_live_message(text: bytes | str, bearer: LiveBearer) -> LiveMessage:
    """Reads no more of a message than its type; raises ``BadEvent`` if there is none, or ``bearer`` may not send it.

    An event that nobody here knows is let through: the service behind may know it.
    """
    return read_event(text, partial(_message_in, bearer=bearer), append=APPEND, may_be_long=frozenset())


def _message_in(body: Any, bearer: LiveBearer) -> LiveMessage:
    if not isinstance(body, dict):
        raise BadEvent("An event must be a JSON object.", code="invalid_json")
    kind = body.get("type")
    if not isinstance(kind, str):
        raise BadEvent("Missing required parameter: 'type'.", code="missing_required_parameter", param="type")
    if kind != APPEND:
        require_tellable(body, "event")
    known = _KINDS.get(kind)
    if known is not None and bearer not in _MAY_SEND[known]:
        raise BadEvent(f"'{kind}' is not for {bearer.value}.", code="event_not_allowed", param="type")
    return LiveMessage(kind, body)


def read_live_event(message: LiveMessage) -> LiveEvent:
    """Reads all of an event; raises ``BadEvent``, which names the field, if one is not as the protocol has it."""
    kind = _KINDS.get(message.type)
    if kind is None:
        raise BadEvent(f"Unknown event type: '{message.type[:64]}'.", param="type")
    try:
        return msgspec.convert(message.body, kind)
    except msgspec.ValidationError as error:
        raise bad_event(error) from None
