"""The beta dialect of the Realtime protocol, both ways. Inside, the bridge knows GA only.

Most of it is renaming, and stands in tables: event types, content types, the flat session against the nested one. A
client's event is rearranged as plain JSON and then validated as GA; the path of a complaint is turned back into the
name that the client used. A server event that beta clients never knew is not sent to them.
"""

from typing import Any

import msgspec

from bridge.errors import BadEvent
from bridge.wire.client_events import ClientEvent, bad_event, decode_json
from bridge.wire.server_events import ServerEvent

__all__ = ["AUDIO_DELTA", "Beta", "decode_client_event", "session_to_beta", "session_to_ga", "to_beta"]

AUDIO_DELTA = "response.audio.delta"

_SERVER_TYPES = {
    "conversation.item.added": "conversation.item.created",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "response.output_audio.delta": AUDIO_DELTA,
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
}
_NOT_IN_BETA = frozenset({"conversation.item.done", "input_audio_buffer.timeout_triggered"})

_FORMATS: dict[str, dict[str, Any]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_FORMAT_NAMES = {ga["type"]: name for name, ga in _FORMATS.items()}
_DEFAULT_TEMPERATURE = 0.8
_TEMPERATURES = (0.0, 2.0)

# Where a field of the flat session stands in the nested one.
_NESTED = {
    "input_audio_format": ("audio", "input", "format"),
    "input_audio_transcription": ("audio", "input", "transcription"),
    "input_audio_noise_reduction": ("audio", "input", "noise_reduction"),
    "turn_detection": ("audio", "input", "turn_detection"),
    "output_audio_format": ("audio", "output", "format"),
    "voice": ("audio", "output", "voice"),
    "speed": ("audio", "output", "speed"),
    "modalities": ("output_modalities",),
    "max_response_output_tokens": ("max_output_tokens",),
}
_PATHS = {".".join(path): name for name, path in _NESTED.items()}

_USER_CONTENT = {"text": "input_text", "audio": "input_audio"}
_ASSISTANT_CONTENT = {"text": "output_text", "audio": "output_audio"}
_BETA_CONTENT = {"output_text": "text", "output_audio": "audio"}


class Beta:
    """What one beta connection has set that GA has no place for."""

    def __init__(self) -> None:
        self.temperature = _DEFAULT_TEMPERATURE


def decode_client_event(text: bytes | str, beta: Beta) -> ClientEvent:
    """The GA event that a beta client means; raises ``BadEvent`` naming the field as the client wrote it."""
    message = decode_json(text)
    if not isinstance(message, dict):
        raise BadEvent("An event is a JSON object.")
    kind = message.get("type")
    if kind in ("session.update", "transcription_session.update"):
        message = _session_update(message, beta)
    elif kind == "response.create" and isinstance(message.get("response"), dict):
        message = {**message, "response": _response_to_ga(message["response"], beta)}
    elif kind == "conversation.item.create" and isinstance(message.get("item"), dict):
        message = {**message, "item": _item_to_ga(message["item"])}
    try:
        event: ClientEvent = msgspec.convert(message, ClientEvent)
    except msgspec.ValidationError as error:
        raise _in_beta_words(bad_event(error)) from None
    return event


def to_beta(event: ServerEvent, beta: Beta) -> dict[str, Any] | None:
    """A server event as beta has it; None where beta has no such event."""
    message: dict[str, Any] = msgspec.to_builtins(event)
    kind = message["type"]
    if kind in _NOT_IN_BETA or kind.startswith(("mcp_", "response.mcp_")):
        return None
    message["type"] = _SERVER_TYPES.get(kind, kind)
    if "session" in message:
        if message["session"].get("type") == "transcription" and kind == "session.updated":
            message["type"] = "transcription_session.updated"
        message["session"] = session_to_beta(message["session"], beta)
    if "item" in message:
        message["item"] = _item_to_beta(message["item"])
    if "response" in message:
        message["response"] = _response_to_beta(message["response"], beta)
    if kind == "response.function_call_arguments.done":
        message.pop("name", None)
    return message


# Sessions


def session_to_ga(flat: dict[str, Any], beta: Beta) -> dict[str, Any]:
    """The nested session that a flat one means."""
    session: dict[str, Any] = {"type": "realtime"}
    for name, value in flat.items():
        if name == "temperature":
            beta.temperature = _temperature(value, "session.temperature")
        elif name in _NESTED:
            *parents, last = _NESTED[name]
            place = session
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = _value_to_ga(name, value)
        elif name not in ("client_secret", "input_audio_sample_rate"):
            session[name] = value
    return session


def session_to_beta(session: dict[str, Any], beta: Beta) -> dict[str, Any]:
    """The flat session that a nested one means, complete."""
    audio = session.get("audio", {})
    inbound, outbound = audio.get("input", {}), audio.get("output", {})
    return {
        "id": session.get("id"),
        "object": session.get("object", "realtime.session"),
        "model": session.get("model"),
        "expires_at": session.get("expires_at", 0),
        "modalities": _modalities_to_beta(session.get("output_modalities")),
        "instructions": session.get("instructions", ""),
        "voice": outbound.get("voice", "alloy"),
        "input_audio_format": _format_name(inbound.get("format")),
        "output_audio_format": _format_name(outbound.get("format")),
        "input_audio_transcription": inbound.get("transcription"),
        "input_audio_noise_reduction": inbound.get("noise_reduction"),
        "turn_detection": inbound.get("turn_detection"),
        "tools": session.get("tools", []),
        "tool_choice": session.get("tool_choice", "auto"),
        "temperature": beta.temperature,
        "max_response_output_tokens": session.get("max_output_tokens", "inf"),
        "speed": outbound.get("speed", 1.0),
        "tracing": session.get("tracing"),
        "client_secret": None,
    }


def _session_update(message: dict[str, Any], beta: Beta) -> dict[str, Any]:
    """A ``session.update``; its fields stand under ``session``, or at the top as some documents have it."""
    envelope = {"type": "session.update"}
    if "event_id" in message:
        envelope["event_id"] = message["event_id"]
    flat = message.get("session", {k: v for k, v in message.items() if k not in ("type", "event_id")})
    return {**envelope, "session": session_to_ga(flat, beta) if isinstance(flat, dict) else flat}


def _value_to_ga(name: str, value: Any) -> Any:
    if name.endswith("_format"):
        if not isinstance(value, str) or value not in _FORMATS:
            raise BadEvent(f"'{name}' is one of {', '.join(_FORMATS)}.", param=f"session.{name}")
        return _FORMATS[value]
    if name == "modalities":
        return _modalities_to_ga(value)
    return value


def _modalities_to_ga(value: Any) -> Any:
    """Beta's audio always comes with its text; GA names the one that is wanted."""
    if isinstance(value, list) and set(map(str, value)) <= {"text", "audio"} and value:
        return ["audio"] if "audio" in value else ["text"]
    return value


def _modalities_to_beta(value: Any) -> list[str]:
    return ["text"] if value == ["text"] else ["audio", "text"]


def _format_name(ga: Any) -> str:
    return _FORMAT_NAMES.get(ga.get("type"), "pcm16") if isinstance(ga, dict) else "pcm16"


def _temperature(value: Any, param: str) -> float:
    low, high = _TEMPERATURES
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadEvent(f"'temperature' is a number from {low:g} to {high:g}.", param=param)
    return float(value)


# Responses and items


def _response_to_ga(flat: dict[str, Any], beta: Beta) -> dict[str, Any]:
    response: dict[str, Any] = {}
    output: dict[str, Any] = {}
    for name, value in flat.items():
        if name == "temperature":
            _temperature(value, "response.temperature")
        elif name == "modalities":
            response["output_modalities"] = _modalities_to_ga(value)
        elif name == "voice":
            output["voice"] = value
        elif name == "output_audio_format":
            output["format"] = _value_to_ga(name, value)
        elif name == "max_response_output_tokens":
            response["max_output_tokens"] = value
        elif name == "input" and isinstance(value, list):
            response["input"] = [_item_to_ga(item) if isinstance(item, dict) else item for item in value]
        else:
            response[name] = value
    if output:
        response["audio"] = {"output": output}
    return response


def _response_to_beta(response: dict[str, Any], beta: Beta) -> dict[str, Any]:
    flat = {key: value for key, value in response.items() if key not in ("output_modalities", "audio")}
    outbound = response.get("audio", {}).get("output", {})
    return {
        **flat,
        "output": [_item_to_beta(item) for item in response.get("output", [])],
        "modalities": _modalities_to_beta(response.get("output_modalities")),
        "voice": outbound.get("voice", "alloy"),
        "output_audio_format": _format_name(outbound.get("format")),
        "temperature": beta.temperature,
    }


def _item_to_ga(item: dict[str, Any]) -> dict[str, Any]:
    content = item.get("content")
    if not isinstance(content, list):
        return item
    names = _ASSISTANT_CONTENT if item.get("role") == "assistant" else _USER_CONTENT
    parts = [
        {**part, "type": names.get(str(part.get("type")), part.get("type"))} if isinstance(part, dict) else part
        for part in content
    ]
    return {**item, "content": parts}


def _item_to_beta(item: dict[str, Any]) -> dict[str, Any]:
    if "content" not in item:
        return item
    parts = [{**part, "type": _BETA_CONTENT.get(part["type"], part["type"])} for part in item["content"]]
    return {**item, "content": parts}


def _in_beta_words(error: BadEvent) -> BadEvent:
    """The complaint about a nested field, named as the client wrote it."""
    param = error.param or ""
    head, _, path = param.partition(".")
    for nested, flat in _PATHS.items():
        if head in ("session", "response") and (path == nested or path.startswith(f"{nested}.")):
            renamed = f"{head}.{flat}{path[len(nested) :]}"
            return BadEvent(error.message.replace(param, renamed), code=error.code, param=renamed)
    return error
