"""What the bridge says: the GA server events. The bridge's own events are in ``own_events``.

An event is made with the fields that its writer knows; the hub, which numbers events, fills in ``event_id``. Fields
that may be absent are ``UNSET``, fields that may be null are ``None``: stock clients tell the two apart.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.errors import BridgeError
from bridge.wire.items import ContentPart, Item, Response
from bridge.wire.sessions import SessionConfig

__all__ = [
    "Body",
    "ContentPartAdded",
    "ContentPartDone",
    "ConversationCreated",
    "ConversationItemAdded",
    "ConversationItemDeleted",
    "ConversationItemDone",
    "ConversationItemRetrieved",
    "ConversationItemTruncated",
    "DtmfEventReceived",
    "Error",
    "ErrorDetail",
    "FunctionCallArgumentsDelta",
    "FunctionCallArgumentsDone",
    "InputAudioBufferCleared",
    "InputAudioBufferCommitted",
    "InputAudioBufferSpeechStarted",
    "InputAudioBufferSpeechStopped",
    "InputAudioBufferTimeoutTriggered",
    "InputAudioTranscriptionCompleted",
    "InputAudioTranscriptionDelta",
    "InputAudioTranscriptionFailed",
    "InputAudioTranscriptionSegment",
    "McpCallArgumentsDelta",
    "McpCallArgumentsDone",
    "McpCallCompleted",
    "McpCallFailed",
    "McpCallInProgress",
    "McpListToolsCompleted",
    "McpListToolsFailed",
    "McpListToolsInProgress",
    "NumberedEvent",
    "OutputAudioBufferCleared",
    "OutputAudioBufferStarted",
    "OutputAudioBufferStopped",
    "OutputAudioDelta",
    "OutputAudioDone",
    "OutputAudioTranscriptDelta",
    "OutputAudioTranscriptDone",
    "OutputItemAdded",
    "OutputItemDone",
    "OutputTextDelta",
    "OutputTextDone",
    "RateLimit",
    "RateLimitsUpdated",
    "ResponseCreated",
    "ResponseDone",
    "ServerEvent",
    "SessionCreated",
    "SessionUpdated",
    "TranscriptionError",
    "encode",
    "error_event",
]


Body = dict[str, Any]
"""An event as plain JSON, with everything that its writer says."""


class NumberedEvent(Struct, kw_only=True, tag_field="type"):
    """Any event that somebody numbers before a client gets it, whichever protocol the client speaks."""

    event_id: str = ""

    @property
    def type(self) -> str:
        """The event's name on the wire."""
        return str(self.__struct_config__.tag)


class ServerEvent(NumberedEvent, kw_only=True):
    """Any event from the bridge to a Realtime client."""


class ErrorDetail(Struct, kw_only=True):
    """What was wrong, in OpenAI's form; ``event_id`` is the client event that caused it."""

    type: str
    code: str | None = None
    message: str
    param: str | None = None
    event_id: str | None = None


class TranscriptionError(Struct, kw_only=True):
    """Why there is no transcript."""

    type: str = "transcription_error"
    code: str
    message: str
    param: str | UnsetType = UNSET  # absent, not null: stock clients insist


class RateLimit(Struct, kw_only=True):
    """One limit, and what is left of it."""

    name: str
    limit: int
    remaining: int
    reset_seconds: float


class Error(ServerEvent, kw_only=True, tag="error"):
    """Something that was asked for was not done; the session lives on."""

    error: ErrorDetail


class SessionCreated(ServerEvent, kw_only=True, tag="session.created"):
    """The first event of every socket and data channel."""

    session: SessionConfig


class SessionUpdated(ServerEvent, kw_only=True, tag="session.updated"):
    """Answers a ``session.update`` with the whole configuration."""

    session: SessionConfig


class ConversationItemAdded(ServerEvent, kw_only=True, tag="conversation.item.added"):
    """An item stands in the conversation, perhaps unfinished."""

    previous_item_id: str | None | UnsetType = UNSET
    item: Item


class ConversationItemDone(ServerEvent, kw_only=True, tag="conversation.item.done"):
    """An item is complete."""

    previous_item_id: str | None | UnsetType = UNSET
    item: Item


class ConversationItemRetrieved(ServerEvent, kw_only=True, tag="conversation.item.retrieved"):
    """Answers ``conversation.item.retrieve``."""

    item: Item


class ConversationItemDeleted(ServerEvent, kw_only=True, tag="conversation.item.deleted"):
    """An item is gone."""

    item_id: str


class ConversationItemTruncated(ServerEvent, kw_only=True, tag="conversation.item.truncated"):
    """An assistant's sound was cut to what was heard."""

    item_id: str
    content_index: int
    audio_end_ms: int


class InputAudioTranscriptionFailed(
    ServerEvent, kw_only=True, tag="conversation.item.input_audio_transcription.failed"
):
    """The caller's words could not be written down."""

    item_id: str
    content_index: int = 0
    error: TranscriptionError


class InputAudioBufferCommitted(ServerEvent, kw_only=True, tag="input_audio_buffer.committed"):
    """The appended sound became an item."""

    previous_item_id: str | None = None
    item_id: str


class InputAudioBufferCleared(ServerEvent, kw_only=True, tag="input_audio_buffer.cleared"):
    """The appended sound was forgotten."""


class InputAudioBufferSpeechStarted(ServerEvent, kw_only=True, tag="input_audio_buffer.speech_started"):
    """The caller began to speak; the time is in ms since the first sound was appended."""

    audio_start_ms: int
    item_id: str


class InputAudioBufferSpeechStopped(ServerEvent, kw_only=True, tag="input_audio_buffer.speech_stopped"):
    """The caller stopped speaking; the time is in ms since the first sound was appended."""

    audio_end_ms: int
    item_id: str


class OutputAudioBufferStarted(ServerEvent, kw_only=True, tag="output_audio_buffer.started"):
    """The peer begins to hear a response."""

    response_id: str


class OutputAudioBufferStopped(ServerEvent, kw_only=True, tag="output_audio_buffer.stopped"):
    """The peer has heard all of a response."""

    response_id: str


class OutputAudioBufferCleared(ServerEvent, kw_only=True, tag="output_audio_buffer.cleared"):
    """The sound that the peer had not heard yet was thrown away."""

    response_id: str


class ResponseCreated(ServerEvent, kw_only=True, tag="response.created"):
    """A response begins."""

    response: Response


class ResponseDone(ServerEvent, kw_only=True, tag="response.done"):
    """A response ended, whether it is complete or not."""

    response: Response


class OutputItemAdded(ServerEvent, kw_only=True, tag="response.output_item.added"):
    """A response begins an item."""

    response_id: str
    output_index: int
    item: Item


class OutputItemDone(ServerEvent, kw_only=True, tag="response.output_item.done"):
    """A response finished an item."""

    response_id: str
    output_index: int
    item: Item


class ContentPartAdded(ServerEvent, kw_only=True, tag="response.content_part.added"):
    """A part of an item begins."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    part: ContentPart


class ContentPartDone(ServerEvent, kw_only=True, tag="response.content_part.done"):
    """A part of an item is complete."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    part: ContentPart


class OutputTextDelta(ServerEvent, kw_only=True, tag="response.output_text.delta"):
    """A piece of the text of an answer."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    delta: str


class OutputTextDone(ServerEvent, kw_only=True, tag="response.output_text.done"):
    """The whole text of a part."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    text: str


class OutputAudioDone(ServerEvent, kw_only=True, tag="response.output_audio.done"):
    """The sound of a part is complete; the sound itself came in deltas."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int


class OutputAudioTranscriptDelta(ServerEvent, kw_only=True, tag="response.output_audio_transcript.delta"):
    """A piece of the transcript of what is spoken."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    delta: str


class OutputAudioTranscriptDone(ServerEvent, kw_only=True, tag="response.output_audio_transcript.done"):
    """The whole transcript of what was spoken."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    transcript: str


class FunctionCallArgumentsDelta(ServerEvent, kw_only=True, tag="response.function_call_arguments.delta"):
    """A piece of a function call's JSON arguments."""

    response_id: str
    item_id: str
    output_index: int
    call_id: str
    delta: str


class FunctionCallArgumentsDone(ServerEvent, kw_only=True, tag="response.function_call_arguments.done"):
    """The whole of a function call's JSON arguments."""

    response_id: str
    item_id: str
    output_index: int
    call_id: str
    name: str
    arguments: str


class ConversationCreated(ServerEvent, kw_only=True, tag="conversation.created"):
    """The conversation exists; sent to beta clients only, after ``session.created``."""

    conversation: dict[str, str]


class OutputAudioDelta(ServerEvent, kw_only=True, tag="response.output_audio.delta"):
    """A piece of an answer's sound, in base64.

    ``session.stream`` writes it by hand, never from this type. For listeners that take Opus or MP3 it is one packet,
    and says how many samples of the track came before it.
    """

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    delta: str
    timestamp: int | UnsetType = UNSET


class InputAudioTranscriptionDelta(ServerEvent, kw_only=True, tag="conversation.item.input_audio_transcription.delta"):
    """A piece of the transcript of the caller's words."""

    item_id: str
    content_index: int = 0
    delta: str | UnsetType = UNSET


class InputAudioTranscriptionCompleted(
    ServerEvent, kw_only=True, tag="conversation.item.input_audio_transcription.completed"
):
    """The whole transcript of the caller's words."""

    item_id: str
    content_index: int = 0
    transcript: str
    usage: dict[str, Any]


class InputAudioTranscriptionSegment(
    ServerEvent, kw_only=True, tag="conversation.item.input_audio_transcription.segment"
):
    """A stretch of the caller's words with its speaker; times are in seconds."""

    item_id: str
    content_index: int = 0
    id: str
    text: str
    speaker: str
    start: float
    end: float


class InputAudioBufferTimeoutTriggered(ServerEvent, kw_only=True, tag="input_audio_buffer.timeout_triggered"):
    """The caller said nothing for ``idle_timeout_ms``."""

    audio_start_ms: int
    audio_end_ms: int
    item_id: str


class DtmfEventReceived(ServerEvent, kw_only=True, tag="input_audio_buffer.dtmf_event_received"):
    """A key was pressed on a telephone; the time is Unix time."""

    event: str
    received_at: int


class McpListToolsInProgress(ServerEvent, kw_only=True, tag="mcp_list_tools.in_progress"):
    """An MCP server is asked for its tools."""

    item_id: str


class McpListToolsCompleted(ServerEvent, kw_only=True, tag="mcp_list_tools.completed"):
    """An MCP server has listed its tools."""

    item_id: str


class McpListToolsFailed(ServerEvent, kw_only=True, tag="mcp_list_tools.failed"):
    """An MCP server did not list its tools."""

    item_id: str


class McpCallArgumentsDelta(ServerEvent, kw_only=True, tag="response.mcp_call_arguments.delta"):
    """A piece of an MCP call's arguments."""

    response_id: str
    item_id: str
    output_index: int
    delta: str
    obfuscation: str = ""


class McpCallArgumentsDone(ServerEvent, kw_only=True, tag="response.mcp_call_arguments.done"):
    """All of an MCP call's arguments."""

    response_id: str
    item_id: str
    output_index: int
    arguments: str


class McpCallInProgress(ServerEvent, kw_only=True, tag="response.mcp_call.in_progress"):
    """An MCP call runs."""

    item_id: str
    output_index: int


class McpCallCompleted(ServerEvent, kw_only=True, tag="response.mcp_call.completed"):
    """An MCP call has succeeded."""

    item_id: str
    output_index: int


class McpCallFailed(ServerEvent, kw_only=True, tag="response.mcp_call.failed"):
    """An MCP call has failed."""

    item_id: str
    output_index: int


class RateLimitsUpdated(ServerEvent, kw_only=True, tag="rate_limits.updated"):
    """What is left of the rate limits."""

    rate_limits: list[RateLimit]


def error_event(error: BridgeError, *, event_id: str | None = None) -> Error:
    """Returns the ``error`` event that answers the client event ``event_id``."""
    return Error(
        error=ErrorDetail(type=error.type, code=error.code, message=error.message, param=error.param, event_id=event_id)
    )


encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
"""Encodes an event of any protocol as JSON bytes."""
