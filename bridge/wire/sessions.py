"""A session's configuration in its GA shape, and how an update is laid over it.

Every field may be absent (``UNSET``): a client's ``session.update`` has the same shape as the whole. ``merged`` lays
one over the other as the Realtime API does: the nested ``audio`` objects and ``noise_reduction`` field by field,
everything else as one value, and ``null`` if it means "off". ``laid_over`` does the same with sessions as plain JSON,
which hold fields that the types here do not know. A ``SessionRequest`` has both.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.errors import BadEvent
from bridge.wire.audio import G711_ALAW, G711_ULAW, PCM16, AudioFormat
from bridge.wire.reading import MERGED

__all__ = [
    "AudioConfig",
    "AudioInput",
    "AudioOutput",
    "ChosenTool",
    "Format",
    "FunctionTool",
    "McpTool",
    "NoiseReduction",
    "PcmFormat",
    "PcmaFormat",
    "PcmuFormat",
    "SemanticVad",
    "ServerVad",
    "SessionConfig",
    "SessionRequest",
    "ToolChoice",
    "Transcription",
    "TurnDetection",
    "default_session",
    "default_transcription",
    "default_translation",
    "defaults_of",
    "format_of",
    "laid_over",
    "merged",
]


class PcmFormat(Struct, frozen=True, tag="audio/pcm"):
    """16-bit little-endian mono PCM; the protocol knows no other rate than 24 kHz."""

    rate: Literal[24000] = 24000


class PcmuFormat(Struct, frozen=True, tag="audio/pcmu"):
    """G.711 µ-law, 8 kHz."""


class PcmaFormat(Struct, frozen=True, tag="audio/pcma"):
    """G.711 A-law, 8 kHz."""


Format = PcmFormat | PcmuFormat | PcmaFormat

_FORMATS: dict[type, AudioFormat] = {PcmFormat: PCM16, PcmuFormat: G711_ULAW, PcmaFormat: G711_ALAW}


def format_of(audio_format: Format | UnsetType) -> AudioFormat:
    """Returns the ``AudioFormat`` that a session's ``format`` object stands for; PCM if it is absent."""
    return _FORMATS.get(type(audio_format), PCM16)


class ServerVad(Struct, frozen=True, tag="server_vad"):
    """Turn detection by silence: a turn ends after this much of it."""

    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=5000)] = 300
    silence_duration_ms: Annotated[int, Meta(ge=100, le=10000)] = 500
    idle_timeout_ms: Annotated[int, Meta(ge=5000, le=30000)] | None = None
    create_response: bool = True
    interrupt_response: bool = True
    model_version: str | None | UnsetType = UNSET


class SemanticVad(Struct, frozen=True, tag="semantic_vad"):
    """Turn detection by meaning: a turn ends if the speaker seems to have finished."""

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True
    model_version: str | None | UnsetType = UNSET


TurnDetection = ServerVad | SemanticVad


class Transcription(Struct, frozen=True):
    """The request for a transcript of the caller's words."""

    model: str | UnsetType = UNSET
    language: str | None | UnsetType = UNSET
    languages: list[str] | None | UnsetType = UNSET
    prompt: str | None | UnsetType = UNSET
    keywords: list[str] | None | UnsetType = UNSET
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None | UnsetType = UNSET


class NoiseReduction(Struct, frozen=True):
    """A hint where the microphone is, and how much noise to suppress."""

    type: Literal["near_field", "far_field"] | UnsetType = UNSET
    strength: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    """How much noise to suppress. An update that leaves it out does not change it."""


class FunctionTool(Struct, frozen=True, tag="function"):
    """A function that the model may call; ``parameters`` is a JSON schema."""

    name: str
    description: str | None | UnsetType = UNSET
    parameters: dict[str, Any] | None | UnsetType = UNSET


class McpTool(Struct, frozen=True, tag="mcp"):
    """A remote MCP server. The bridge passes it on to upstreams that know it."""

    server_label: str
    server_url: str | None | UnsetType = UNSET
    connector_id: str | None | UnsetType = UNSET
    server_description: str | None | UnsetType = UNSET
    authorization: str | None | UnsetType = UNSET
    headers: dict[str, str] | None | UnsetType = UNSET
    allowed_tools: Any = UNSET
    require_approval: Any = UNSET
    tunnel_id: str | None | UnsetType = UNSET
    defer_loading: bool | None | UnsetType = UNSET
    allowed_callers: list[Literal["direct", "programmatic"]] | None | UnsetType = UNSET


class ChosenTool(Struct, frozen=True):
    """The one tool that the model has to call."""

    type: Literal["function", "mcp"]
    name: str | UnsetType = UNSET
    server_label: str | UnsetType = UNSET


ToolChoice = Literal["auto", "none", "required"] | ChosenTool


class AudioInput(Struct, frozen=True):
    """What the caller's sound is, and what is done with it."""

    format: Format | UnsetType = UNSET
    transcription: Transcription | None | UnsetType = UNSET
    noise_reduction: NoiseReduction | None | UnsetType = UNSET
    turn_detection: TurnDetection | None | UnsetType = UNSET


class AudioOutput(Struct, frozen=True):
    """What the answer's sound is."""

    format: Format | UnsetType = UNSET
    voice: str | dict[str, str] | UnsetType = UNSET
    speed: Annotated[float, Meta(ge=0.25, le=1.5)] | UnsetType = UNSET


class AudioConfig(Struct, frozen=True):
    """Both directions of sound."""

    input: AudioInput | UnsetType = UNSET
    output: AudioOutput | UnsetType = UNSET


class TokenLimits(Struct, frozen=True):
    """How many tokens of a conversation are kept."""

    post_instructions: Annotated[int, Meta(ge=0)] | UnsetType = UNSET


class RetentionRatio(Struct, frozen=True, tag="retention_ratio"):
    """How much of a conversation that has grown too long is kept."""

    retention_ratio: Annotated[float, Meta(ge=0, le=1)]
    token_limits: TokenLimits | UnsetType = UNSET


Truncation = Literal["auto", "disabled"] | RetentionRatio
Include = Literal["item.input_audio_transcription.logprobs"]


class SessionConfig(Struct, frozen=True, kw_only=True):
    """A whole session, or an update of one, with GA's names."""

    type: Literal["realtime", "transcription", "translation"] | UnsetType = UNSET
    object: Literal["realtime.session", "realtime.transcription_session"] | UnsetType = UNSET
    id: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    expires_at: int | UnsetType = UNSET
    output_modalities: Annotated[list[Literal["text", "audio"]], Meta(min_length=1, max_length=1)] | UnsetType = UNSET
    instructions: str | UnsetType = UNSET
    audio: AudioConfig | UnsetType = UNSET
    tools: list[FunctionTool | McpTool] | UnsetType = UNSET
    tool_choice: ToolChoice | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    max_output_tokens: Annotated[int, Meta(ge=1, le=4096)] | Literal["inf"] | UnsetType = UNSET
    truncation: Truncation | UnsetType = UNSET
    tracing: Any = UNSET
    prompt: Any = UNSET
    reasoning: Any = UNSET
    include: list[Include] | None | UnsetType = UNSET


def default_session(*, session_id: str, model: str, expires_at: int) -> SessionConfig:
    """Returns the session of a client that has asked for nothing."""
    return SessionConfig(
        type="realtime",
        object="realtime.session",
        id=session_id,
        model=model,
        expires_at=expires_at,
        output_modalities=["audio"],
        instructions="",
        audio=AudioConfig(
            input=AudioInput(format=PcmFormat(), transcription=None, noise_reduction=None, turn_detection=ServerVad()),
            output=AudioOutput(format=PcmFormat(), voice="alloy", speed=1.0),
        ),
        tools=[],
        tool_choice="auto",
        max_output_tokens="inf",
        truncation="auto",
        tracing=None,
        prompt=None,
        include=None,
    )


def default_transcription(*, session_id: str, model: str, expires_at: int) -> SessionConfig:
    """Returns a session that only writes down what is said."""
    return SessionConfig(
        type="transcription",
        object="realtime.transcription_session",
        id=session_id,
        model=model,
        expires_at=expires_at,
        audio=AudioConfig(
            input=AudioInput(
                format=PcmFormat(), transcription=Transcription(), noise_reduction=None, turn_detection=ServerVad()
            )
        ),
        include=None,
    )


def default_translation(*, session_id: str, model: str, expires_at: int) -> SessionConfig:
    """Returns a session that translates what is said; which language it gives is known to its service alone."""
    return SessionConfig(
        type="translation",
        id=session_id,
        model=model,
        expires_at=expires_at,
        audio=AudioConfig(input=AudioInput(transcription=None, noise_reduction=None), output=AudioOutput()),
    )


_NESTED = (AudioConfig, AudioInput, AudioOutput, NoiseReduction)
_S = TypeVar("_S", bound=Struct)


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A session as a client asks for it."""

    config: SessionConfig
    """The part of it that the bridge understands."""
    body: dict[str, Any]
    """All that the client wrote, in GA's words, which an upstream gets."""
    complaint: BadEvent | None = None
    """Why the embedded engine, which knows no more than the bridge, would refuse it; None if it would not."""

    @classmethod
    def of(cls, config: SessionConfig) -> "SessionRequest":
        """Makes a request that the bridge itself sends."""
        return cls(config, msgspec.to_builtins(config))

    def with_update(self, update: "SessionRequest") -> "SessionRequest":
        """Returns this request with ``update`` laid over it."""
        return SessionRequest(
            merged(self.config, update.config),
            laid_over(self.body, update.body),
            self.complaint or update.complaint,
        )


def defaults_of(kind: Any) -> dict[str, Any]:
    """Returns the values that fields of a session of this ``type`` get if null asks for the default."""
    new = default_transcription if kind == "transcription" else default_session
    whole: dict[str, Any] = msgspec.to_builtins(new(session_id="", model="", expires_at=0))
    return {name: value for name, value in whole.items() if name not in _FIXED}


_FIXED = ("type", "object", "id", "model", "expires_at")


def laid_over(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """Returns ``base`` with every field that ``update`` has, as ``merged`` does it, for sessions as plain JSON."""
    whole = {**base, **update}
    for name in MERGED & base.keys() & update.keys():
        old, new = base[name], update[name]
        if isinstance(old, dict) and isinstance(new, dict):
            whole[name] = laid_over(old, new)
    return whole


def merged(base: _S, update: _S) -> _S:
    """Returns ``base`` with every field that ``update`` has; the ``audio`` objects are laid over field by field."""
    changes: dict[str, Any] = {}
    for name in update.__struct_fields__:
        new = getattr(update, name)
        if new is UNSET:
            continue
        old = getattr(base, name)
        changes[name] = merged(old, new) if isinstance(new, _NESTED) and type(old) is type(new) else new
    return msgspec.structs.replace(base, **changes)
