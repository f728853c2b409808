"""The beta dialect for an upstream that knows no other: translates client events to beta, and server events to GA.

It is the mirror of ``beta``, whose tables it uses. It is lenient where that one is strict, since nobody tells a server
what it does wrong. What neither dialect knows is passed on as it is, in both directions. Beta says null where GA leaves
a field out. Beta has one event where GA has two: ``conversation.item.created`` becomes ``…added``, and also ``…done``
if the item is complete. An item of an answer is done with its ``response.output_item.done``.
"""

from typing import Any

from bridge.wire.dialects.beta import BETA_CONTENT, FORMATS, NESTED, SERVER_TYPES
from bridge.wire.server_events import Body

__all__ = ["client_to_beta", "server_to_ga", "session_update_to_beta"]

_GA_TYPES = {beta: ga for ga, beta in SERVER_TYPES.items()} | {
    "transcription_session.created": "session.created",
    "transcription_session.updated": "session.updated",
}
_GA_CONTENT = {beta: ga for ga, beta in BETA_CONTENT.items()}
_FORMAT_NAMES = {ga["type"]: name for name, ga in FORMATS.items()}
_NOT_SET = frozenset({"type", "id", "object", "expires_at", "audio", "output_modalities", "max_output_tokens"})
"""The fields of a GA session that an update of a flat one has in another place, or not at all."""
_TRANSCRIPTION = "realtime.transcription_session"
_GA_ALONE = frozenset({"truncation", "prompt", "parallel_tool_calls", "reasoning"})
"""The settings of GA that beta never had."""
_BETA_ALONE = frozenset({*NESTED, "temperature", "client_secret", "status", "metadata"})

_FLAT_PLACES = frozenset(NESTED.values())


def client_to_beta(body: Body) -> Body:
    """Returns a GA client event as a beta server takes it."""
    kind = body["type"]
    session, item = body.get("session"), body.get("item")
    if kind == "session.update" and isinstance(session, dict):
        flat = session_update_to_beta(session)
        is_transcription = session.get("type") == "transcription"
        return {**body, "type": f"transcription_{kind}" if is_transcription else kind, "session": flat}
    if kind == "response.create" and isinstance(body.get("response"), dict):
        return {**body, "response": _response_to_beta(body["response"])}
    if kind == "conversation.item.create" and isinstance(item, dict):
        return {**body, "item": _item_to_beta(item)}
    return body


def session_update_to_beta(session: Body) -> Body:
    """Returns the flat fields for what an update sets. What the update leaves out stays out."""
    flat = {name: value for name, value in session.items() if name not in _NOT_SET | _GA_ALONE}
    for name, path in NESTED.items():
        found, value = _at(session, path)
        if found:
            flat[name] = _flat_value(name, value)
    unknown = _unknown_audio(session.get("audio"))
    return {**flat, "audio": unknown} if unknown else flat


def _unknown_audio(audio: Any) -> Body:
    """Returns what a nested session says of its sound and a flat one has no place for."""
    if not isinstance(audio, dict):
        return {}
    unknown: Body = {}
    for side, settings in audio.items():
        if not isinstance(settings, dict):
            continue
        rest = {name: value for name, value in settings.items() if ("audio", side, name) not in _FLAT_PLACES}
        if rest:
            unknown[side] = rest
    return unknown


def server_to_ga(body: Body) -> list[Body]:
    """Returns a beta server event as one or two GA events."""
    kind = _GA_TYPES.get(body["type"], body["type"])
    event = {**body, "type": kind}
    session = body.get("session")
    if isinstance(session, dict):
        is_transcription = body["type"].startswith("transcription_") or session.get("object") == _TRANSCRIPTION
        event["session"] = _session_to_ga(session, is_transcription=is_transcription)
    if isinstance(body.get("response"), dict):
        event["response"] = _response_to_ga(body["response"])
    if isinstance(body.get("item"), dict):
        event["item"] = item = _item_to_ga(body["item"])
        if kind == "conversation.item.added" and item.get("status", "completed") == "completed":
            return [event, {**event, "type": "conversation.item.done"}]
        if kind == "response.output_item.done":
            done = {"type": "conversation.item.done", "event_id": body.get("event_id"), "item": item}
            return [event, done]
    return [event]


def _at(nested: Body, path: tuple[str, ...]) -> tuple[bool, Any]:
    value: Any = nested
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return False, None
        value = value[name]
    return True, value


def _flat_value(name: str, value: Any) -> Any:
    if name in ("input_audio_format", "output_audio_format"):
        return _FORMAT_NAMES.get(value.get("type"), "pcm16") if isinstance(value, dict) else "pcm16"
    if name == "modalities":
        return ["text"] if value == ["text"] else ["text", "audio"]
    return value


def _session_to_ga(flat: Body, *, is_transcription: bool) -> Body:
    session: Body = {"type": "transcription" if is_transcription else "realtime"}
    session |= {name: value for name, value in flat.items() if name not in _BETA_ALONE and value is not None}
    for name, path in NESTED.items():
        if name in flat:
            place = session
            for parent in path[:-1]:
                place = place.setdefault(parent, {})
            place[path[-1]] = _nested_value(name, flat[name])
    return session


def _nested_value(name: str, value: Any) -> Any:
    if name in ("input_audio_format", "output_audio_format"):
        return FORMATS.get(value, FORMATS["pcm16"]) if isinstance(value, str) else FORMATS["pcm16"]
    if name == "modalities":
        return ["audio"] if isinstance(value, list) and "audio" in value else ["text"]
    return value


def _response_to_beta(response: Body) -> Body:
    flat = {name: value for name, value in response.items() if name not in ("output_modalities", "audio", "input")}
    if "output_modalities" in response:
        flat["modalities"] = _flat_value("modalities", response["output_modalities"])
    for name in ("voice", "output_audio_format"):
        found, value = _at(response, NESTED[name])
        if found:
            flat[name] = _flat_value(name, value)
    if isinstance(response.get("input"), list):
        flat["input"] = [_item_to_beta(item) for item in response["input"]]
    return flat


def _response_to_ga(response: Body) -> Body:
    left_out = ("modalities", "voice", "output_audio_format", "temperature", "output")
    nested = {name: value for name, value in response.items() if name not in left_out}
    nested["output_modalities"] = _nested_value("modalities", response.get("modalities", ["audio"]))
    output = {}
    if response.get("voice") is not None:
        output["voice"] = response["voice"]
    if response.get("output_audio_format") is not None:
        output["format"] = _nested_value("output_audio_format", response["output_audio_format"])
    if output:
        nested["audio"] = {"output": output}
    items = response.get("output")
    nested["output"] = (
        [_item_to_ga(item) for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    )
    return nested


def _item_to_beta(item: Body) -> Body:
    if not isinstance(item.get("content"), list):
        return item
    parts = [{**part, "type": BETA_CONTENT.get(part["type"], part["type"])} for part in item["content"]]
    return {**item, "content": parts}


def _item_to_ga(item: Body) -> Body:
    kept = {name: value for name, value in item.items() if value is not None and name != "content"}
    if isinstance(item.get("content"), list):
        kept["content"] = [_part_to_ga(part, item.get("role")) for part in item["content"] if isinstance(part, dict)]
    return kept


def _part_to_ga(part: Body, role: Any) -> Body:
    kind = part.get("type")
    if role == "assistant":
        kind = _GA_CONTENT.get(str(kind), kind)
    kept = {name: value for name, value in part.items() if value is not None}
    kept["type"] = kind
    if kind == "input_audio":
        kept["transcript"] = part.get("transcript")  # null is written: stock clients insist
    return kept
