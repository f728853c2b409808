"""A Live session as clients ask for it, and as they are told of it. The schema is strict: an unknown field is an error.

Absent and null are two things. Null is taken only where the protocol knows it.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.errors import BadEvent
from bridge.wire.audio import G711_ALAW, G711_ULAW, PCM16, AudioFormat, pcm16_at
from bridge.wire.checks import require_tellable
from bridge.wire.reading import bad_event
from bridge.wire.server_events import Body

__all__ = [
    "ClientDelegation",
    "DecisionsDelegation",
    "Delegation",
    "CustomVoice",
    "LiveAudio",
    "LiveOutput",
    "LiveClient",
    "LiveSession",
    "LiveUpdate",
    "LivePcmFormat",
    "ResponsesDelegation",
    "ResponsesSettings",
    "ServerEventChoice",
    "format_of_live",
    "model_of",
    "read_live_session",
    "read_live_update",
]

_MAX_INPUT = 128
_POST_ONLY = ("idle_timeout_s", "wake_policy")
_IMMUTABLE = frozenset(
    {"model", "instructions", "input", "audio", "store", "safety_identifier", "client", "idle_timeout_s", "wake_policy"}
)

Delay = Annotated[int, Meta(ge=0)] | None | UnsetType


class _Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class LivePcmFormat(_Strict, frozen=True, kw_only=True, tag="audio/pcm"):
    """16-bit little-endian mono PCM."""

    rate: Literal[16000, 24000]


class LivePcmuFormat(_Strict, frozen=True, kw_only=True, tag="audio/pcmu"):
    """G.711 µ-law, 8 kHz."""

    rate: Literal[8000]


class LivePcmaFormat(_Strict, frozen=True, kw_only=True, tag="audio/pcma"):
    """G.711 A-law, 8 kHz."""

    rate: Literal[8000]


class CustomVoice(_Strict, frozen=True, kw_only=True):
    """A voice of the customer's own."""

    id: str


class LiveOutput(_Strict, frozen=True, kw_only=True):
    """How the model sounds."""

    voice: str | CustomVoice | UnsetType = UNSET


class LiveAudio(_Strict, frozen=True, kw_only=True):
    """The sound of a session. The format goes with a WebSocket only, and is the same both ways."""

    format: LivePcmFormat | LivePcmuFormat | LivePcmaFormat | UnsetType = UNSET
    output: LiveOutput | UnsetType = UNSET


class LiveInputText(_Strict, frozen=True, kw_only=True, tag="input_text"):
    """What the developer or the user has said."""

    text: str


class PlainText(_Strict, frozen=True, kw_only=True, tag="text"):
    """What the model has said."""

    text: str


class LiveOutputText(_Strict, frozen=True, kw_only=True, tag="output_text"):
    """What the model has said."""

    text: str


class InputMessage(_Strict, frozen=True, kw_only=True):
    """One message of the history with which a session begins."""

    type: Literal["message"] = "message"
    role: Literal["developer", "user", "assistant"]
    content: Annotated[list[LiveInputText | PlainText | LiveOutputText], Meta(min_length=1, max_length=1)]


class Reasoning(_Strict, frozen=True, kw_only=True):
    """How much the model that works thinks."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None | UnsetType = UNSET
    summary: Literal["concise", "detailed", "auto"] | None | UnsetType = UNSET


class ResponseText(_Strict, frozen=True, kw_only=True):
    """How the model that works writes."""

    verbosity: Literal["low", "medium", "high"] | None | UnsetType = UNSET


class ResponsesSettings(_Strict, frozen=True, kw_only=True):
    """The model that works behind a Live session, and its tools. An update may leave out the model."""

    model: str | UnsetType = UNSET
    instructions: str | None | UnsetType = UNSET
    tools: list[dict[str, Any]] | UnsetType = UNSET
    tool_choice: str | dict[str, Any] | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    reasoning: Reasoning | None | UnsetType = UNSET
    text: ResponseText | None | UnsetType = UNSET
    max_output_tokens: Annotated[int, Meta(ge=16)] | None | UnsetType = UNSET
    service_tier: str | None | UnsetType = UNSET


class ClientDelegation(_Strict, frozen=True, kw_only=True, tag="client"):
    """The application does what the model delegates."""

    acknowledgement_delay_ms: Delay = UNSET


class ResponsesDelegation(_Strict, frozen=True, kw_only=True, tag="responses"):
    """A Responses model does what the Live model delegates."""

    acknowledgement_delay_ms: Delay = UNSET
    responses: ResponsesSettings | UnsetType = UNSET


class DecisionsDelegation(_Strict, frozen=True, kw_only=True, tag="decisions"):
    """The Decision API answers questions for the Live model."""

    acknowledgement_delay_ms: Delay = UNSET
    decisions: dict[str, Any] | UnsetType = UNSET


Delegation = ClientDelegation | ResponsesDelegation | DecisionsDelegation


class ServerEventChoice(_Strict, frozen=True, kw_only=True):
    """A server event that a data channel gets; ``response_event`` goes with ``response.event``."""

    type: str
    response_event: str | UnsetType = UNSET


class DataChannel(_Strict, frozen=True, kw_only=True):
    """What a page may send and hear over its data channel."""

    allowed_client_events: Literal["all"] | list[str] | None | UnsetType = UNSET
    allowed_server_events: Literal["all"] | list[ServerEventChoice] | None | UnsetType = UNSET


class LiveClient(_Strict, frozen=True, kw_only=True):
    """What is granted to the page that is the call."""

    data_channel: DataChannel


class LiveSession(_Strict, frozen=True, kw_only=True):
    """A Live session as a client asks for it."""

    model: Annotated[str, Meta(min_length=1)]
    instructions: str | None | UnsetType = UNSET
    input: Annotated[list[InputMessage], Meta(max_length=_MAX_INPUT)] | None | UnsetType = UNSET
    audio: LiveAudio | UnsetType = UNSET
    delegation: Delegation | None | UnsetType = UNSET
    triggers: list[dict[str, Any]] | UnsetType = UNSET
    store: bool | UnsetType = UNSET
    safety_identifier: str | None | UnsetType = UNSET
    client: LiveClient | UnsetType = UNSET
    idle_timeout_s: Annotated[float, Meta(gt=0)] | None | UnsetType = UNSET
    wake_policy: dict[str, Any] | None | UnsetType = UNSET


class LiveUpdate(_Strict, frozen=True, kw_only=True):
    """What may be changed of a running session."""

    delegation: Delegation | None | UnsetType = UNSET
    triggers: list[dict[str, Any]] | UnsetType = UNSET


def model_of(body: Any, path: str = "session") -> str:
    """Returns the model that a session names; raises ``BadEvent``. Nothing else of the session is looked at."""
    if not isinstance(body, dict):
        raise BadEvent(f"'{path}' must be a JSON object.", code="invalid_value", param=path)
    require_tellable(body, path)
    model = body.get("model")
    if model is None:
        param = f"{path}.model"
        raise BadEvent(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    if not isinstance(model, str) or not model.strip():
        raise BadEvent(f"'{path}.model' must be the name of a model.", code="invalid_value", param=f"{path}.model")
    return model


def read_live_session(body: Any, path: str = "session", *, is_socket: bool) -> LiveSession:
    """Reads the session of a new call; raises ``BadEvent``, which names the field.

    ``is_socket`` says that it comes over a WebSocket, which alone may choose a format; the rest is for WebRTC alone.
    """
    model_of(body, path)
    session: LiveSession = _converted(body, LiveSession, path)
    given = {} if not isinstance(body, dict) else body
    wrong = [name for name in _POST_ONLY if is_socket and name in given]
    if not is_socket and isinstance(session.audio, LiveAudio) and session.audio.format is not UNSET:
        wrong.append("audio.format")
    if wrong:
        param = f"{path}.{wrong[0]}"
        raise BadEvent(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)
    if isinstance(session.delegation, ResponsesDelegation):
        _require(session.delegation.responses, "model", f"{path}.delegation.responses")
    for index, message in enumerate(session.input or ()):
        _check_message(message, f"{path}.input[{index}]")
    return session


def read_live_update(body: Any, path: str = "session") -> LiveUpdate:
    """Reads what a ``session.update`` changes; raises ``BadEvent`` also for what is fixed since the start."""
    if isinstance(body, dict):
        require_tellable(body, path)
        for name in body:
            if name in _IMMUTABLE:
                message = f"'{path}.{name}' cannot be changed after the start."
                raise BadEvent(message, code="immutable_field_update", param=f"{path}.{name}")
    update: LiveUpdate = _converted(body, LiveUpdate, path)
    return update


def format_of_live(session: LiveSession) -> AudioFormat:
    """Returns the format of a WebSocket's sound, which is PCM of 24 kHz if the session asks for none."""
    audio_format = session.audio.format if isinstance(session.audio, LiveAudio) else UNSET
    if isinstance(audio_format, LivePcmFormat):
        return PCM16 if audio_format.rate == PCM16.rate_hz else pcm16_at(audio_format.rate)
    if isinstance(audio_format, LivePcmuFormat):
        return G711_ULAW
    return G711_ALAW if isinstance(audio_format, LivePcmaFormat) else PCM16


def _converted(body: Body, kind: Any, path: str) -> Any:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise bad_event(error, path) from None


def _require(value: Any, name: str, path: str) -> None:
    missing = path if value is UNSET else f"{path}.{name}" if getattr(value, name) is UNSET else None
    if missing is not None:
        message = f"Missing required parameter: '{missing}'."
        raise BadEvent(message, code="missing_required_parameter", param=missing)


def _check_message(message: InputMessage, path: str) -> None:
    is_input = isinstance(message.content[0], LiveInputText)
    if is_input == (message.role == "assistant"):
        wanted = "'text' or 'output_text'" if message.role == "assistant" else "'input_text'"
        text = f"A message of the {message.role} must have a part of type {wanted}."
        raise BadEvent(text, code="invalid_value", param=f"{path}.content[0].type")
