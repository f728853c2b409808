"""What clients may say: the GA client events, and how a message becomes one or a ``BadEvent`` that names the field.

A ``ClientMessage`` keeps the message's JSON beside the event that the bridge understands of it, so that an upstream
gets what the client wrote. What does not fit the bridge's types is no error then, but a complaint: the embedded engine
answers with it, and other services judge for themselves. Only what the bridge itself has to understand is refused at
once: its own events, ids, audio formats, and the settings of turn detection that it acts on.
"""

from dataclasses import dataclass
from typing import Annotated, Any

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
    "decode_event",
    "decode_json",
    "decode_session",
    "event_id_of",
    "message_of",
    "read_client_message",
    "read_session",
]

EventId = Annotated[str, Meta(max_length=512)]


class _Event(Struct, kw_only=True, tag_field="type"):
    event_id: EventId | None = None


class SessionUpdate(_Event, kw_only=True, tag="session.update"):
    """Lays ``session`` over the current configuration; answered by ``session.updated``."""

    session: SessionConfig


class InputAudioBufferAppend(_Event, kw_only=True, tag="input_audio_buffer.append"):
    """Sound in the session's input format, base64; never acknowledged."""

    audio: str


class InputAudioBufferCommit(_Event, kw_only=True, tag="input_audio_buffer.commit"):
    """Makes what was appended a user item."""


class InputAudioBufferClear(_Event, kw_only=True, tag="input_audio_buffer.clear"):
    """Forgets what was appended."""


class OutputAudioBufferClear(_Event, kw_only=True, tag="output_audio_buffer.clear"):
    """Stops the sound that still waits to be played; where the bridge does the playing."""


class ConversationItemCreate(_Event, kw_only=True, tag="conversation.item.create"):
    """Adds an item behind ``previous_item_id`` (``root``: in front; absent: at the end)."""

    item: Item
    previous_item_id: str | None = None


class ConversationItemRetrieve(_Event, kw_only=True, tag="conversation.item.retrieve"):
    """Asks for an item, sound included."""

    item_id: str


class ConversationItemDelete(_Event, kw_only=True, tag="conversation.item.delete"):
    """Removes an item."""

    item_id: str


class ConversationItemTruncate(_Event, kw_only=True, tag="conversation.item.truncate"):
    """Cuts an assistant's sound to what was heard."""

    item_id: str
    content_index: Annotated[int, Meta(ge=0)]
    audio_end_ms: Annotated[int, Meta(ge=0)]


class ResponseCreate(_Event, kw_only=True, tag="response.create"):
    """Asks for an answer now."""

    response: ResponseConfig | UnsetType = UNSET


class ResponseCancel(_Event, kw_only=True, tag="response.cancel"):
    """Stops the answer in progress."""

    response_id: str | None = None


class FlowPause(_Event, kw_only=True, tag="bridge.flow.pause"):
    """Send me nothing for now: events wait in my backlog, within its limits."""


class FlowResume(_Event, kw_only=True, tag="bridge.flow.resume"):
    """Go on, with what has waited first."""


class Mark(_Event, kw_only=True, tag="bridge.mark"):
    """Tell me when the sound that is queued by now has been played; answered by ``bridge.mark``."""

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
    """An event that the bridge does not understand, and that an upstream may."""


Body = dict[str, Any]


@dataclass(slots=True, eq=False)
class ClientMessage:
    """One client event, and the JSON that it was read from."""

    event: ClientEvent | OtherEvent
    """What the bridge understands of it."""
    body: Body
    """All of it, in GA's words; an upstream gets this. Empty for an append: its sound goes another way."""
    complaint: BadEvent | None = None
    """Why a service that knows no more than the bridge refuses it."""

    @classmethod
    def of(cls, event: ClientEvent) -> "ClientMessage":
        """One that the bridge itself makes."""
        return cls(event, msgspec.to_builtins(event))

    @property
    def known(self) -> ClientEvent:
        """The event; raises ``BadEvent`` if the bridge does not know all of it."""
        if self.complaint is not None:
            raise self.complaint.anew()
        assert not isinstance(self.event, OtherEvent), "there is a complaint about those"
        return self.event


_append_decoder = msgspec.json.Decoder(InputAudioBufferAppend)

_KINDS: dict[str, type[Struct]] = {str(kind.__struct_config__.tag): kind for kind in ClientEvent.__args__}
_OWN = (InputAudioBufferAppend, OutputAudioBufferClear, FlowPause, FlowResume, Mark)
"""Events that the bridge carries out itself."""
_OWN_PREFIX = "bridge."
_MUST_FIT = frozenset({"event_id", "id", "item_id", "format", "create_response", "interrupt_response"})
"""The bridge tells items by their ids, converts between formats, and plays according to the turn detection."""


class _Envelope(Struct):
    event_id: Any = None


class _Head(_Envelope):
    type: Any = None
    audio: Any = None


_envelope = msgspec.json.Decoder(_Envelope)
_APPEND = "input_audio_buffer.append"
_head = msgspec.json.Decoder(_Head)
_LONG = frozenset({"conversation.item.create", "response.create"})
"""Events that may be over 2 MiB, as an append may: their items have sound and pictures."""


def read_client_message(text: bytes | str) -> ClientMessage:
    """The message ``text``; raises ``BadEvent`` naming the field in ``param`` if the bridge must understand it."""
    if len(text) > MAX_EVENT_BYTES:
        return message_of(decode_event(text))
    try:
        return ClientMessage(_append_decoder.decode(text), {})
    except msgspec.ValidationError:
        return message_of(decode_event(text))  # another event, or a wrong one
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(error) from None


def decode_client_event(text: bytes | str) -> ClientEvent:
    """The event in ``text``; raises ``BadEvent``, naming the field, if the bridge does not know all of it."""
    return read_client_message(text).known


def message_of(body: Any) -> ClientMessage:
    """A client event as plain JSON in GA's words, understood; raises ``BadEvent`` as ``read_client_message`` does."""
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
    """What the types cannot say."""
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


def decode_event(text: bytes | str) -> Any:
    """A client event as plain JSON; raises ``BadEvent``, also for one that is longer than its type may be.

    Of a long append there is no more than what an append has.
    """
    if len(text) > MAX_EVENT_BYTES:
        try:
            head = _head.decode(text)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise _not_json(error) from None
        if head.type == _APPEND:
            return {"type": _APPEND, "event_id": head.event_id, "audio": head.audio}
        if not isinstance(head.type, str) or head.type not in _LONG:
            raise too_large(len(text))
    return decode_json(text)


def decode_json(text: bytes | str) -> Any:
    """Any JSON value; raises ``BadEvent``, also for one that consists of too many values."""
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
    """A session as a request asks for it, in GA's words; raises ``BadEvent`` if the bridge must understand it.

    ``path`` is where it stands in the request.
    """
    require_tellable(body, path)
    reading = Reading(must_fit=_MUST_FIT)
    config = reading.read(body, SessionConfig, path=path)
    if reading.fatal is not None:
        raise reading.fatal.anew()
    complaint = reading.invalid
    if config is None:
        raise complaint.anew() if complaint else BadEvent("A session is a JSON object.", param=path)
    try:
        check_session(config)
    except BadEvent as error:
        complaint = complaint or error.anew()
    return SessionRequest(config, body, complaint or reading.unknown)


def decode_session(text: bytes | str) -> SessionConfig:
    """A session in a request's body; raises ``BadEvent`` if the bridge does not know all of it."""
    request = read_session(decode_json(text))
    if request.complaint is not None:
        raise request.complaint.anew()
    return request.config


def event_id_of(text: bytes | str) -> str | None:
    """The ``event_id`` of a message that may be otherwise wrong, for the error that answers it."""
    try:
        event_id = _envelope.decode(text).event_id
    except (msgspec.MsgspecError, RecursionError):
        return None
    return event_id[:512] if isinstance(event_id, str) else None
