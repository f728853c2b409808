"""What clients of the Realtime protocol say, as a Live session can be told it; what cannot be told is refused by name.

The Live model talks and is interrupted as it sees fit. It has no turns that a client could end, no items that could be
cut or deleted, and no tools: a backend model works for it, if the settings name one.
"""

from typing import Any

import msgspec
from msgspec import UNSET

from bridge.errors import BadEvent
from bridge.wire import client_events as client
from bridge.wire import items
from bridge.wire.server_events import Body
from bridge.wire.sessions import AudioConfig, AudioInput, AudioOutput, SessionConfig

__all__ = ["RealtimeClient", "live_session"]

_UNSUPPORTED = "unsupported_by_live"
_REPLY_NOW = "Reply now."
_MAX_OPEN_CALLS = 256
_FIXED = ("instructions", "audio.output.voice")
_NO_COUNTERPART = (
    client.InputAudioBufferCommit,
    client.InputAudioBufferClear,
    client.ConversationItemTruncate,
    client.ConversationItemDelete,
    client.ConversationItemRetrieve,
    client.ResponseCancel,
)


def live_session(config: SessionConfig, *, model: str, backend_model: str | None) -> Body:
    """The Live session for a Realtime one; raises ``BadEvent``, which names what has no counterpart.

    Functions are called by ``backend_model``; without one they are refused.
    """
    _require_possible(config)
    session: Body = {"model": model}
    if config.instructions not in (UNSET, ""):
        session["instructions"] = config.instructions
    output = config.audio.output if isinstance(config.audio, AudioConfig) else UNSET
    if isinstance(output, AudioOutput) and output.voice not in (
        UNSET,
        "alloy",
    ):  # what a session has that asks for none
        session["audio"] = {"output": {"voice": output.voice}}
    session["delegation"] = {"type": "client"}
    if backend_model is not None:
        session["delegation"] = {"type": "responses", "responses": {"model": backend_model, **_tools(config)}}
    elif config.tools:
        raise _refusal("session.tools", "functions need a backend model, set with live_backend_model")
    return session


def _tools(config: SessionConfig) -> Body:
    """What the backend model is told of tools."""
    told: Body = {}
    if config.tools is not UNSET:
        told["tools"] = [msgspec.to_builtins(tool) for tool in config.tools]
    if config.tool_choice is not UNSET:
        told["tool_choice"] = msgspec.to_builtins(config.tool_choice)
    if config.parallel_tool_calls is not UNSET:
        told["parallel_tool_calls"] = config.parallel_tool_calls
    if isinstance(config.max_output_tokens, int):
        told["max_output_tokens"] = max(16, config.max_output_tokens)
    return told


def _require_possible(config: SessionConfig) -> None:
    """Raises ``BadEvent`` for what no Live session can be set to."""
    if config.type == "transcription":
        raise _refusal("session.type", "a Live session always answers by itself")
    if config.output_modalities not in (UNSET, ["audio"]):
        raise _refusal("session.output_modalities", "a Live session answers with sound")
    for name in ("prompt", "include"):
        if getattr(config, name) not in (UNSET, None, []):
            raise _refusal(f"session.{name}", "Live sessions have no equivalent")
    if config.truncation not in (UNSET, "auto"):
        raise _refusal("session.truncation", "a Live session compacts its context itself")
    audio = config.audio
    if not isinstance(audio, AudioConfig):
        return
    if isinstance(audio.input, AudioInput) and audio.input.turn_detection is None:
        raise _refusal("session.audio.input.turn_detection", "in a Live session, clients do not end turns")
    if isinstance(audio.output, AudioOutput) and audio.output.speed not in (UNSET, 1.0):
        raise _refusal("session.audio.output.speed", "the speed of a Live session cannot be set")


def _refusal(param: str, why: str) -> BadEvent:
    return BadEvent(f"'{param}' cannot be set on this upstream: {why}.", code=_UNSUPPORTED, param=param)


class RealtimeClient:
    """Translates the events of Realtime clients for one Live session that has started."""

    def __init__(self, *, has_backend: bool) -> None:
        """``has_backend`` says whether a backend model takes items and calls functions."""
        self._has_backend = has_backend
        self._open_calls: dict[str, None] = {}
        """The function calls that wait for their output, oldest first."""
        self._has_outputs = False
        """Whether an output was given since the backend model was asked last."""

    def call(self, call_id: str) -> None:
        """Notes that the backend model has called a function; of unanswered calls the newest 256 are known."""
        self._open_calls[call_id] = None
        if len(self._open_calls) > _MAX_OPEN_CALLS:
            del self._open_calls[next(iter(self._open_calls))]

    def events(self, message: client.ClientMessage) -> list[Body]:
        """What the service is told of a client event other than ``session.update``; raises ``BadEvent``."""
        event = message.event
        if isinstance(event, _NO_COUNTERPART):
            kind = str(event.__struct_config__.tag)
            raise BadEvent(
                f"'{kind}' has no equivalent on this upstream, whose sessions have neither turns nor items.",
                code=_UNSUPPORTED,
                param="type",
            )
        event = message.known
        if isinstance(event, client.ConversationItemCreate):
            return self._item(event.item)
        if isinstance(event, client.ResponseCreate):
            return self._response(event.response)
        raise BadEvent(f"'{event.__struct_config__.tag}' is not for this upstream.", code=_UNSUPPORTED, param="type")

    def update(self, before: SessionConfig, update: SessionConfig) -> list[Body]:
        """What the service is told of an update of a session that has started; raises ``BadEvent``."""
        _require_possible(update)
        changed = _changed(before, update)
        if changed is not None:
            raise _refusal(changed, "it cannot be changed once the session has started")
        tools = _tools(update)
        if not tools:
            return []
        if not self._has_backend:
            if update.tools:
                raise _refusal("session.tools", "functions need a backend model")
            return []
        return [{"type": "session.update", "session": {"delegation": {"type": "responses", "responses": tools}}}]

    def _item(self, item: items.Item) -> list[Body]:
        if isinstance(item, items.FunctionCallOutput):
            if not self._has_backend:
                raise _refusal("item.type", "without a backend model, no functions are called")
            self._open_calls.pop(item.call_id, None)
            self._has_outputs = True
            output = {"type": "function_call_output", "call_id": item.call_id, "output": item.output}
            return [{"type": "response.item.create", "item": output}]
        if not isinstance(item, items.Message):
            raise _refusal("item.type", "a Live session accepts only messages and outputs of functions")
        text = _text_of(item)
        if item.role == "system":
            return [_append("instructions", text)]
        if item.role == "assistant":
            raise _refusal("item.role", "only the model itself can add what it said")
        if not self._has_backend:
            return [_append("thinking", f"The user writes: {text}")]
        content = [{"type": "input_text", "text": text}]
        return [{"type": "response.item.create", "item": {"type": "message", "role": "user", "content": content}}]

    def _response(self, wanted: Any) -> list[Body]:
        asked: Body = {} if wanted is UNSET else msgspec.to_builtins(wanted)
        for name, value in asked.items():
            if name not in ("instructions", "metadata") and (name, value) != ("output_modalities", ["audio"]):
                raise _refusal(f"response.{name}", "a Live session gives no responses other than its own")
        if self._has_outputs and not self._open_calls:
            self._has_outputs = False
            return [{"type": "response.create"}]
        return [_append("commentary", str(asked.get("instructions") or _REPLY_NOW))]


def _append(kind: str, content: str) -> Body:
    return {"type": f"session.{kind}.append", "content": content, "delegation_id": None}


def _text_of(item: items.Message) -> str:
    texts = []
    for part in item.content:
        if not isinstance(part, items.InputText | items.OutputText):
            raise _refusal("item.content", "in a Live session, sound comes from the caller; items can only have text")
        texts.append(part.text)
    return " ".join(texts)


def _changed(before: SessionConfig, update: SessionConfig) -> str | None:
    """The first setting that an update would change although it is fixed; None if there is none."""
    if update.instructions not in (UNSET, before.instructions):
        return f"session.{_FIXED[0]}"
    outputs = [config.audio.output if isinstance(config.audio, AudioConfig) else UNSET for config in (before, update)]
    had, wanted = (output.voice if isinstance(output, AudioOutput) else UNSET for output in outputs)
    return f"session.{_FIXED[1]}" if wanted not in (UNSET, had) else None
