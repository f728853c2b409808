"""Conversation items and responses: what was said, by whom, and in which state it is."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.wire.sessions import Format, FunctionTool, McpTool, ToolChoice

__all__ = [
    "Content",
    "FunctionCall",
    "FunctionCallOutput",
    "InputAudio",
    "InputImage",
    "InputText",
    "Item",
    "ItemReference",
    "McpApprovalRequest",
    "McpApprovalResponse",
    "McpCall",
    "McpListTools",
    "Message",
    "OutputAudio",
    "OutputText",
    "ContentPart",
    "Response",
    "ResponseAudio",
    "ResponseAudioOutput",
    "ResponseConfig",
    "StatusDetails",
    "Usage",
]

Status = Literal["completed", "in_progress", "incomplete"]


class InputText(Struct, tag="input_text"):
    """Text from the caller or the application."""

    text: str


class InputAudio(Struct, tag="input_audio"):
    """Sound from the caller. ``transcript`` is always written, as null while there is none: stock clients insist."""

    audio: str | UnsetType = UNSET
    transcript: str | None = None


class InputImage(Struct, tag="input_image"):
    """A picture. The bridge passes it on to upstreams that can see."""

    image_url: str
    detail: Literal["auto", "low", "high"] | UnsetType = UNSET


class OutputText(Struct, tag="output_text"):
    """Text from the model."""

    text: str = ""


class OutputAudio(Struct, tag="output_audio"):
    """Sound from the model. Only the deltas carry the sound itself."""

    audio: str | UnsetType = UNSET
    transcript: str | None | UnsetType = UNSET


Content = InputText | InputAudio | InputImage | OutputText | OutputAudio


class Message(Struct, tag="message", kw_only=True):
    """What somebody said."""

    id: str | UnsetType = UNSET
    object: Literal["realtime.item"] | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    role: Literal["user", "assistant", "system"]
    content: list[Content]


class FunctionCall(Struct, tag="function_call", kw_only=True):
    """The model's call of a function of the application; ``arguments`` is JSON text."""

    id: str | UnsetType = UNSET
    object: Literal["realtime.item"] | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    call_id: str | UnsetType = UNSET
    name: str
    arguments: str


class FunctionCallOutput(Struct, tag="function_call_output", kw_only=True):
    """What a function returned."""

    id: str | UnsetType = UNSET
    object: Literal["realtime.item"] | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    call_id: str
    output: str


class McpApprovalResponse(Struct, tag="mcp_approval_response", kw_only=True):
    """Whether a remote tool may be called. The bridge passes it on to upstreams that asked."""

    id: str | UnsetType = UNSET
    object: Literal["realtime.item"] | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    approval_request_id: str
    approve: bool
    reason: str | None | UnsetType = UNSET


class McpApprovalRequest(Struct, tag="mcp_approval_request", kw_only=True):
    """The model's question whether it may call a remote tool."""

    id: str | UnsetType = UNSET
    object: Literal["realtime.item"] | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    server_label: str
    name: str
    arguments: str


class McpCall(Struct, tag="mcp_call", kw_only=True):
    """The call of a remote tool."""

    id: str | UnsetType = UNSET
    object: Literal["realtime.item"] | UnsetType = UNSET
    status: str | UnsetType = UNSET
    server_label: str
    name: str
    arguments: str
    approval_request_id: str | None | UnsetType = UNSET
    output: str | None | UnsetType = UNSET
    error: Any = UNSET


class McpListTools(Struct, tag="mcp_list_tools", kw_only=True):
    """The tools that a remote server has."""

    id: str | UnsetType = UNSET
    object: Literal["realtime.item"] | UnsetType = UNSET
    status: str | UnsetType = UNSET
    server_label: str
    tools: list[dict[str, Any]]


Item = Message | FunctionCall | FunctionCallOutput | McpApprovalResponse | McpApprovalRequest | McpCall | McpListTools


class ItemReference(Struct, tag="item_reference"):
    """Stands for an item of the conversation in the input of a response."""

    id: str


class ContentPart(Struct, kw_only=True):
    """The ``part`` of ``response.content_part`` events, which keeps the short type names also in GA."""

    type: Literal["text", "audio"]
    text: str | UnsetType = UNSET
    transcript: str | UnsetType = UNSET


class ResponseAudioOutput(Struct, frozen=True):
    """How a response sounds."""

    format: Format | UnsetType = UNSET
    voice: str | dict[str, str] | UnsetType = UNSET


class ResponseAudio(Struct, frozen=True):
    """The ``audio`` of a response."""

    output: ResponseAudioOutput | UnsetType = UNSET


class ResponseConfig(Struct, frozen=True, kw_only=True):
    """What a ``response.create`` may set for this one response."""

    conversation: str | UnsetType = UNSET
    """``none`` for a response beside the conversation.

    Every other value means the one conversation that a session has.
    """
    output_modalities: Annotated[list[Literal["text", "audio"]], Meta(min_length=1, max_length=1)] | UnsetType = UNSET
    instructions: str | UnsetType = UNSET
    audio: ResponseAudio | UnsetType = UNSET
    tools: list[FunctionTool | McpTool] | UnsetType = UNSET
    tool_choice: ToolChoice | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    max_output_tokens: Annotated[int, Meta(ge=1, le=4096)] | Literal["inf"] | UnsetType = UNSET
    metadata: dict[str, str] | None | UnsetType = UNSET
    input: list[Item | ItemReference] | UnsetType = UNSET
    prompt: Any = UNSET
    reasoning: Any = UNSET

    @property
    def is_beside(self) -> bool:
        """Whether the response is out of band: the conversation neither waits for it nor has its items."""
        return self.conversation == "none"


class StatusDetails(Struct, kw_only=True):
    """Why a response did not complete."""

    type: Literal["cancelled", "failed", "incomplete"]
    reason: str | UnsetType = UNSET
    error: dict[str, Any] | UnsetType = UNSET


class TokenDetails(Struct, kw_only=True):
    """Tokens by kind."""

    text_tokens: int = 0
    audio_tokens: int = 0
    cached_tokens: int | UnsetType = UNSET


class Usage(Struct, kw_only=True):
    """What a response cost."""

    total_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_token_details: TokenDetails
    output_token_details: TokenDetails

    @classmethod
    def of(cls, *, input_text: int = 0, input_audio: int = 0, output_text: int = 0, output_audio: int = 0) -> "Usage":
        """Returns a usage with its sums made."""
        return cls(
            total_tokens=input_text + input_audio + output_text + output_audio,
            input_tokens=input_text + input_audio,
            output_tokens=output_text + output_audio,
            input_token_details=TokenDetails(text_tokens=input_text, audio_tokens=input_audio, cached_tokens=0),
            output_token_details=TokenDetails(text_tokens=output_text, audio_tokens=output_audio),
        )

    def plus(self, other: "Usage") -> "Usage":
        """Returns the sum of both."""
        ours, theirs = ((usage.input_token_details, usage.output_token_details) for usage in (self, other))
        return Usage.of(
            input_text=ours[0].text_tokens + theirs[0].text_tokens,
            input_audio=ours[0].audio_tokens + theirs[0].audio_tokens,
            output_text=ours[1].text_tokens + theirs[1].text_tokens,
            output_audio=ours[1].audio_tokens + theirs[1].audio_tokens,
        )


class Response(Struct, kw_only=True):
    """One answer of the model."""

    id: str
    object: Literal["realtime.response"] = "realtime.response"
    status: Literal["in_progress", "completed", "cancelled", "failed", "incomplete"] = "in_progress"
    status_details: StatusDetails | None = None
    output: list[Item] = []
    conversation_id: str | None = None
    output_modalities: list[str]
    max_output_tokens: int | Literal["inf"] = "inf"
    audio: ResponseAudio | UnsetType = UNSET
    usage: Usage | None = None
    metadata: dict[str, str] | None = None
