"""What clients may say: the GA client events, and how a message becomes one or a ``BadEvent`` that names the field.

A ``ClientMessage`` keeps the message's JSON beside the event that the bridge understands of it, so that an upstream
gets what the client wrote. If something does not fit the bridge's types, that is a complaint and not yet an error: the
embedded engine answers with the complaint, and other services judge for themselves. The bridge refuses at once only
what it has to understand itself: its own events, ids, audio formats, and the settings of turn detection that it acts
on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.errors import BadEvent
from bridge.wire.bounds import MAX_EVENT_BYTES, require_few_values, too_large
from bridge.wire.checks import (
    MAX_TEXT_BYTES,
    check_item,
    check_response,
    check_session,
    check_update,
    require_id,
    require_shallow,
    require_tellable,
)
from bridge.wire.items import Item, ResponseConfig
from bridge.wire.reading import Reading, bad_event
from bridge.wire.sessions import SessionConfig, SessionRequest, defaults_of

__all__ = [
    "ClientEvent",
    "ClientMessage",
    "ConversationItemCreate",
    "ConversationItemDelete",
    "ConversationItemRetrieve",
    "ConversationItemTruncate",
    "EventId",
    "FlowPause",
    "FlowResume",
    "InputAudioBufferAppend",
    "InputAudioBufferClear",
    "InputAudioBufferCommit",
    "Mark",
    "OtherEvent",
    "OutputAudioBufferClear",
    "ResponseCancel",
    "ResponseCreate",
    "SessionUpdate",
    "decode_client_event",
    "decode_json",
    "decode_session",
    "id_in",
    "message_of",
    "read_client_message",
    "read_event",
    "read_session",
]

EventId = Annotated[str, Meta(max_length=512)]
"""The id of a client event, by which an answer to it names it."""


class _Event(Struct, kw_only=True, tag_field="type"):
    event_id: EventId | None = None


class SessionUpdate(_Event, kw_only=True, tag="session.update"):
    """Lays ``session`` over the current configuration; answered by ``session.updated``."""

    session: SessionConfig


class InputAudioBufferAppend(_Event, kw_only=True, tag="input_audio_buffer.append"):
    """Brings sound in the session's input format, as base64; never acknowledged."""

    audio: str


class InputAudioBufferCommit(_Event, kw_only=True, tag="input_audio_buffer.commit"):
    """Makes the sound that was appended a user item."""


class InputAudioBufferClear(_Event, kw_only=True, tag="input_audio_buffer.clear"):
    """Forgets the sound that was appended."""


class OutputAudioBufferClear(_Event, kw_only=True, tag="output_audio_buffer.clear"):
    """Stops the sound that still waits to be played, if the bridge plays it."""


class ConversationItemCreate(_Event, kw_only=True, tag="conversation.item.create"):
    """Adds an item behind ``previous_item_id``.

    ``root`` stands for the beginning of the conversation; if it is absent, the item goes to the end.
    """

    item: Item
    previous_item_id: str | None = None


class ConversationItemRetrieve(_Event, kw_only=True, tag="conversation.item.retrieve"):
    """Asks for an item with its sound."""

    item_id: str


class ConversationItemDelete(_Event, kw_only=True, tag="conversation.item.delete"):
    """Removes an item."""

    item_id: str


class ConversationItemTruncate(_Event, kw_only=True, tag="conversation.item.truncate"):
    """Cuts an assistant's sound to the part that was heard."""

    item_id: str
    content_index: Annotated[int, Meta(ge=0)]
    audio_end_ms: Annotated[int, Meta(ge=0)]


class ResponseCreate(_Event, kw_only=True, tag="response.create"):
    """Asks for an answer at once."""

    response: ResponseConfig | UnsetType = UNSET


class ResponseCancel(_Event, kw_only=True, tag="response.cancel"):
    """Stops the answer in progress."""

    response_id: str | None = None


class FlowPause(_Event, kw_only=True, tag="bridge.flow.pause"):
    """Asks the bridge to send nothing for now: events wait in the listener's backlog, within its limits."""


class FlowResume(_Event, kw_only=True, tag="bridge.flow.resume"):
    """Asks the bridge to go on, and to send first what has waited."""


class Mark(_Event, kw_only=True, tag="bridge.mark"):
    """Asks to be told when the sound that is queued by now has been played; answered by ``bridge.mark``."""

    name: Annotated[str, Meta(max_length=512)]


ClientEvent = (
    SessionUpdate
    | InputAudioBufferAppend
    | InputAudioBufferCommit
    | InputAudioBufferClear
    | OutputAudioBufferClear
    | ConversationItemCreate
    | ConversationItemRetrieve
    | ConversationItemDelete
    | ConversationItemTruncate
    | ResponseCreate
    | ResponseCancel
    | FlowPause
    | FlowResume
    | Mark
)


class OtherEvent(_Event, kw_only=True, tag=""):
    """An event that the bridge does not understand, although an upstream may."""


Body = dict[str, Any]


@dataclass(slots=True, eq=False)
class ClientMessage:
    """One client event, with the JSON that it was read from."""

    event: ClientEvent | OtherEvent
    """What the bridge understands of it."""
    body: Body
    """The whole message in GA's words, which an upstream gets.

    It is empty for an append, whose sound goes another way.
    """
    complaint: BadEvent | None = None
    """Why a service that knows no more than the bridge would refuse the message; None if it would not."""

    @classmethod
    def of(cls, event: ClientEvent) -> "ClientMessage":
        """Makes a message that the bridge itself sends."""
        return cls(event, msgspec.to_builtins(event))

    @property
    def known(self) -> ClientEvent:
        """Returns the event; raises ``BadEvent`` if the bridge does not know all of it."""
        if self.complaint is not None:
            raise self.complaint.anew()
        assert not isinstance(self.event, OtherEvent), "there is a complaint about those"
        return self.event


_append_decoder = msgspec.json.Decoder(InputAudioBufferAppend)

_KINDS: dict[str, type[Struct]] = {str(kind.__struct_config__.tag): kind for kind in ClientEvent.__args__}
_OWN = (InputAudioBufferAppend, OutputAudioBufferClear, FlowPause, FlowResume, Mark)
"""The events that the bridge carries out itself."""
_OWN_PREFIX = "bridge."
_MUST_FIT = frozenset({"event_id", "id", "item_id", "format", "create_response", "interrupt_response"})
"""The fields that have to fit.

The bridge tells items apart by their ids, converts between formats, and plays according to the turn detection.
"""


class _Envelope(Struct):
    event_id: Any = None


class _Head(_Envelope):
    type: Any = None
    audio: Any = None


_envelope = msgspec.json.Decoder(_Envelope)
_APPEND = "input_audio_buffer.append"
_head = msgspec.json.Decoder(_Head)
_LONG = frozenset({"conversation.item.create", "response.create"})
"""The events that may be over 2 MiB, as an append may, because their items carry sound and pictures."""
_MAX_ID_CHARS = 512

_T = TypeVar("_T")


def read_client_message(text: bytes | str) -> ClientMessage:
    """Reads a client's message; raises ``BadEvent`` if a field that the bridge has to understand does not fit.

    ``param`` of the error names the field.
    """
    if len(text) > MAX_EVENT_BYTES:
        return read_event(text, message_of)
    try:
        return ClientMessage(_append_decoder.decode(text), {})
    except msgspec.ValidationError:
        return read_event(text, message_of)  # it is another event, or a wrong one
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(error) from None


def decode_client_event(text: bytes | str) -> ClientEvent:
    """Reads the client event in ``text``.

    Raises ``BadEvent``, naming the field, if the bridge does not know all of it.
    """
    return read_client_message(text).known


def message_of(body: Any) -> ClientMessage:
    """Reads a client event that is plain JSON in GA's words; raises ``BadEvent`` as ``read_client_message`` does."""
    kind = _type_of(body)
    if require_shallow(body) > MAX_TEXT_BYTES:
        for name in ("session", "response", "item"):
            require_tellable(body.get(name), name)
    wanted = _KINDS.get(kind)
    reading = Reading(must_fit=_MUST_FIT)
    if wanted is None:
        reading.read({**body, "type": ""}, OtherEvent)
        unknown = BadEvent(f"Unknown event type: '{kind[:64]}'.", param="type")
        raise_now = reading.fatal or (unknown if kind.startswith(_OWN_PREFIX) else None)
        if raise_now is not None:
            raise raise_now.anew()
        return ClientMessage(OtherEvent(event_id=body.get("event_id")), body, unknown)
    session = body.get("session")
    defaults = {"session": defaults_of(session.get("type"))} if isinstance(session, dict) else {}
    event: Any = reading.read(body, wanted, defaults=defaults)
    if reading.fatal is not None:
        raise reading.fatal.anew()
    complaint = reading.invalid or _misjudged(event) or (reading.unknown if wanted not in _OWN else None)
    if complaint is None and isinstance(event, SessionUpdate) and event.session.type is UNSET:
        param = "session.type"
        text = f"Missing required parameter: '{param}'."
        complaint = BadEvent(text, code="missing_required_parameter", param=param)
    if complaint is not None and wanted in _OWN:
        raise complaint.anew()
    if isinstance(event, ConversationItemCreate):
        require_id(event.item.id, "item")
    return ClientMessage(event or OtherEvent(event_id=body.get("event_id")), body, complaint)


def _type_of(body: Any) -> str:
    try:
        return msgspec.convert(body, _Typed).type
    except msgspec.ValidationError as error:
        raise bad_event(error) from None


class _Typed(Struct):
    type: str


def _misjudged(event: ClientEvent | None) -> BadEvent | None:
    """Returns what is wrong with an event that its types cannot express; None if nothing is."""
    try:
        if isinstance(event, SessionUpdate):
            check_update(event.session)
        elif isinstance(event, ConversationItemCreate):
            check_item(event.item)
        elif isinstance(event, ResponseCreate) and event.response is not UNSET:
            check_response(event.response)
    except BadEvent as error:
        return error.anew()
    return None


def read_event(
    text: bytes | str, read: Callable[[Any], _T], *, append: str = _APPEND, may_be_long: frozenset[str] = _LONG
) -> _T:
    """Decodes a client event to plain JSON, and returns what ``read`` makes of it.

    ``append`` is the type of the event that brings sound. It may be over 2 MiB, as the types of ``may_be_long`` may; of
    a long one only its type, id and sound are kept. Raises ``BadEvent``, which has the event's id, so that nobody reads
    a wrong event again only to find that.
    """
    event: Any = None
    try:
        if len(text) > MAX_EVENT_BYTES:
            event = _head_of(text)
            kind = event["type"]
            if not isinstance(kind, str) or (kind != append and kind not in may_be_long):
                raise too_large(len(text))
        if event is None or event["type"] != append:
            event = decode_json(text)
        return read(event)
    except BadEvent as error:
        error.event_id = _id_in_text(text) if event is None else id_in(event)
        raise


def _head_of(text: bytes | str) -> dict[str, Any]:
    """Returns the fields of a long event by which it is judged; raises ``BadEvent``."""
    try:
        head = _head.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _not_json(error) from None
    return {"type": head.type, "event_id": head.event_id, "audio": head.audio}


def decode_json(text: bytes | str) -> Any:
    """Decodes any JSON value; raises ``BadEvent``, also if it consists of too many values."""
    require_few_values(text)
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(error) from None


def _not_json(error: Exception) -> BadEvent:
    if isinstance(error, RecursionError):
        return BadEvent("The message is nested too deeply.")
    return BadEvent(f"The message is not valid JSON: {error}", code="invalid_json")


def read_session(body: Any, path: str = "session") -> SessionRequest:
    """Reads a session that a request asks for, in GA's words.

    Raises ``BadEvent`` if a field that the bridge has to understand does not fit. ``path`` is where the session stands
    in the request.
    """
    require_tellable(body, path)
    reading = Reading(must_fit=_MUST_FIT)
    config = reading.read(body, SessionConfig, path=path)
    if reading.fatal is not None:
        raise reading.fatal.anew()
    complaint = reading.invalid
    if config is None:
        raise complaint.anew() if complaint else BadEvent("A session must be a JSON object.", param=path)
    try:
        check_session(config)
    except BadEvent as error:
        complaint = complaint or error.anew()
    return SessionRequest(config, body, complaint or reading.unknown)


def decode_session(text: bytes | str) -> SessionConfig:
    """Decodes the session in a request's body; raises ``BadEvent`` if the bridge does not know all of it."""
    request = read_session(decode_json(text))
    if request.complaint is not None:
        raise request.complaint.anew()
    return request.config


def id_in(event: Any) -> str | None:
    """Returns the id in a decoded event, which may be anything, for the error that answers it."""
    event_id = event.get("event_id") if isinstance(event, dict) else None
    return event_id[:_MAX_ID_CHARS] if isinstance(event_id, str) else None


def _id_in_text(text: bytes | str) -> str | None:
    """Returns the id of an event that could not be decoded; None for a long one, which is not JSON then."""
    if len(text) > MAX_EVENT_BYTES:
        return None
    try:
        return id_in({"event_id": _envelope.decode(text).event_id})
    except (msgspec.MsgspecError, RecursionError):
        return None
