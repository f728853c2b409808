"""What clients may say: the GA client events, and how a message becomes one or a ``BadEvent`` that names the field."""

import re
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.errors import BadEvent
from bridge.wire.checks import check_item, check_response, check_session, check_update
from bridge.wire.items import Item, ResponseConfig
from bridge.wire.sessions import SessionConfig

__all__ = [
    "ClientEvent",
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
    "OutputAudioBufferClear",
    "ResponseCancel",
    "ResponseCreate",
    "SessionUpdate",
    "bad_event",
    "check_event",
    "decode_client_event",
    "decode_json",
    "decode_session",
    "event_id_of",
    "refuse_flat",
]

# Of beta's flat session; GA has each of them elsewhere, or not at all.
_FLAT_NAMES = (
    "input_audio_format",
    "input_audio_transcription",
    "input_audio_noise_reduction",
    "turn_detection",
    "output_audio_format",
    "voice",
    "speed",
    "modalities",
    "max_response_output_tokens",
    "temperature",
)

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

_decoder: msgspec.json.Decoder[ClientEvent] = msgspec.json.Decoder(ClientEvent)

_session_decoder = msgspec.json.Decoder(SessionConfig)


_Flat = msgspec.defstruct("_Flat", [(name, Any, UNSET) for name in _FLAT_NAMES])
_flat_decoder: Any = msgspec.json.Decoder(_Flat)
_flat_event_decoder: Any = msgspec.json.Decoder(
    msgspec.defstruct("_FlatEvent", [(name, _Flat | UnsetType, UNSET) for name in ("session", "response")])
)


class _Envelope(Struct):
    event_id: Any = None


_envelope = msgspec.json.Decoder(_Envelope)

_PATH = re.compile(r"^(.*?)(?: - at `(?:key in )?\$\.?(.*?)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(.+)`$")
_UNKNOWN_FIELD = re.compile(r"^Object contains unknown field `(.+)`$", re.DOTALL)
_UNKNOWN_TYPE = re.compile(r"^Invalid value '(.*)'$", re.DOTALL)


def decode_client_event(text: bytes | str) -> ClientEvent:
    """The event in ``text``; raises ``BadEvent`` naming the field in ``param``."""
    try:
        event = _decoder.decode(text)
        if isinstance(event, SessionUpdate | ResponseCreate):
            flat = _flat_event_decoder.decode(text)
            for path in ("session", "response"):
                refuse_flat(_given(getattr(flat, path)), path)
        if isinstance(event, SessionUpdate) and event.session.type is UNSET:
            param = "session.type"
            raise BadEvent(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
        check_event(event)
        return event
    except msgspec.ValidationError as error:
        raise bad_event(error) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(error) from None


def _given(flat: Struct | UnsetType) -> list[str]:
    if flat is UNSET:
        return []
    return [name for name in flat.__struct_fields__ if getattr(flat, name) is not UNSET]


def refuse_flat(names: Iterable[str], path: str = "session") -> None:
    """A beta client on a GA connection is told so: its fields would be taken for unknown ones and forgotten."""
    for name in names:
        if name in _FLAT_NAMES:
            param = f"{path}.{name}"
            raise BadEvent(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


def check_event(event: ClientEvent) -> None:
    """Raises ``BadEvent`` for what the types cannot say."""
    if isinstance(event, SessionUpdate):
        check_update(event.session)
    elif isinstance(event, ConversationItemCreate):
        check_item(event.item)
    elif isinstance(event, ResponseCreate) and event.response is not UNSET:
        check_response(event.response)


def decode_json(text: bytes | str) -> Any:
    """Any JSON value; raises ``BadEvent``."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(error) from None


def _not_json(error: Exception) -> BadEvent:
    if isinstance(error, RecursionError):
        return BadEvent("The message is nested too deeply.")
    return BadEvent(f"The message is not valid JSON: {error}", code="invalid_json")


def decode_session(text: bytes | str) -> SessionConfig:
    """A session in a request's body; raises ``BadEvent`` naming the field below ``session``."""
    try:
        session = _session_decoder.decode(text)
        refuse_flat(_given(_flat_decoder.decode(text)))
        check_session(session)
        return session
    except msgspec.ValidationError as error:
        complaint = bad_event(error)
        param = f"session.{complaint.param}" if complaint.param else "session"
        raise BadEvent(complaint.message, code=complaint.code, param=param) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(error) from None


def bad_event(error: msgspec.ValidationError) -> BadEvent:
    """msgspec's complaint in the protocol's words: ``param`` is the path of the field."""
    match = _PATH.match(str(error))
    what, path = (match[1], match[2] or "") if match else (str(error), "")
    if missing := _MISSING.match(what):
        param = f"{path}.{missing[1]}" if path else missing[1]
        return BadEvent(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    if extra := _UNKNOWN_FIELD.match(what):
        param = f"{path}.{extra[1][:64]}" if path else extra[1][:64]
        return BadEvent(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)
    if path == "type" and (unknown := _UNKNOWN_TYPE.match(what)):
        return BadEvent(f"Unknown event type: '{unknown[1][:64]}'.", param="type")
    return BadEvent(f"Invalid value for '{path}': {what}." if path else f"{what}.", param=path or None)


def event_id_of(text: bytes | str) -> str | None:
    """The ``event_id`` of a message that may be otherwise wrong, for the error that answers it."""
    try:
        event_id = _envelope.decode(text).event_id
    except (msgspec.MsgspecError, RecursionError):
        return None
    return event_id[:512] if isinstance(event_id, str) else None
