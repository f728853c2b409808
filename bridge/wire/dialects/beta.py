"""The beta dialect of the Realtime protocol, in both directions. Inside, the bridge knows GA only.

Most of the translation is renaming, and stands in tables: event types, content types, and the fields of the flat
session with their places in the nested one. A client's event is rearranged as plain JSON and then validated as GA; the
path of a complaint is turned back into the name that the client used. A server event that beta clients never knew is
not sent to them.
"""

import binascii
from collections.abc import MutableMapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from bridge.errors import BadEvent
from bridge.wire.client_events import ClientEvent, ClientMessage, message_of, read_event, read_session
from bridge.wire.own_events import server_event_types
from bridge.wire.server_events import Body, ServerEvent
from bridge.wire.sessions import SessionConfig, SessionRequest

__all__ = [
    "AUDIO_DELTA",
    "BETA_CONTENT",
    "BETA_TYPES",
    "FORMATS",
    "NESTED",
    "SERVER_TYPES",
    "Beta",
    "decode_client_event",
    "read_client_message",
    "session_to_beta",
    "session_to_ga",
    "to_beta",
]

AUDIO_DELTA = "response.audio.delta"

SERVER_TYPES = {
    "conversation.item.added": "conversation.item.created",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "response.output_audio.delta": AUDIO_DELTA,
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
}
BETA_TYPES = frozenset({*SERVER_TYPES.values(), "transcription_session.created", "transcription_session.updated"})
"""The names of server events that GA does not have."""
_NOT_IN_BETA = frozenset(
    {
        "conversation.item.done",
        "conversation.item.input_audio_transcription.segment",
        "input_audio_buffer.dtmf_event_received",
        "input_audio_buffer.timeout_triggered",
    }
)

_KNOWN = frozenset(str(kind.__struct_config__.tag) for kind in server_event_types())

FORMATS: dict[str, dict[str, Any]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_DEFAULT_TEMPERATURE = 0.8
_TEMPERATURES = (0.0, 2.0)
_MAX_RESPONSES = 64  # that have temperatures of their own at the same time
_MAX_PAIRS = 16
_Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=_MAX_PAIRS)
]

# Where a field of the flat session stands in the nested one.
NESTED = {
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
_GA_SESSION = frozenset(field.encode_name for field in msgspec.structs.fields(SessionConfig))
_ENVELOPE = ("type", "event_id", "timestamp")
_NOT_SET_HERE = ("type", "client_secret", "status")

# What some documents state beside a format. A session's formats leave no choice here, but a client that believes
# otherwise would send noise.
_RATES_HZ: dict[str, int | str] = {"pcm16": 24000, "g711_ulaw": 8000, "g711_alaw": 8000}
_STATED: dict[str, dict[str, int | str]] = {
    **dict.fromkeys(("sample_rate", "input_audio_sample_rate", "output_audio_sample_rate"), _RATES_HZ),
    "channels": {"pcm16": 1, "g711_ulaw": 1, "g711_alaw": 1},
    "bits_per_sample": {"pcm16": 16, "g711_ulaw": 8, "g711_alaw": 8},
    "encoding": {name: name for name in _RATES_HZ},
    "compression": dict.fromkeys(_RATES_HZ, "none"),
}

_USER_CONTENT = {"text": "input_text", "audio": "input_audio"}
_OF_TEXT = ("encoding", "format")
"""The fields that the beta reference has for a text, and GA does not."""
_ASSISTANT_CONTENT = {"text": "output_text", "audio": "output_audio"}
BETA_CONTENT = {"output_text": "text", "output_audio": "audio"}


class Beta:
    """What one beta session has set and GA has no place for."""

    def __init__(self, metadata: MutableMapping[str, str] | None = None, temperature: float | None = None) -> None:
        self.temperature = _DEFAULT_TEMPERATURE if temperature is None else temperature
        self.metadata: MutableMapping[str, str] = {} if metadata is None else metadata
        """The ``metadata`` of the beta reference: whatever the application wants to find again."""
        self._asked: float | None = None
        self._own: dict[str, float] = {}

    def ask(self, temperature: float | None) -> None:
        """Notes that the next response is asked for with this temperature.

        None stands for the session's temperature.
        """
        self._asked = temperature

    def temperature_of(self, response_id: str, kind: str) -> float:
        """Returns the temperature of a response, about which an event of this ``kind`` tells."""
        if kind == "response.created" and self._asked is not None:
            self._own[response_id], self._asked = self._asked, None
            if len(self._own) > _MAX_RESPONSES:
                del self._own[next(iter(self._own))]
        take = self._own.pop if kind == "response.done" else self._own.get
        return take(response_id, self.temperature)


class _Translation:
    """Fields on their way from the flat form to the nested one.

    It keeps what the fields were called, for complaints, and what GA has no place for. ``prefix`` is the path of the
    flat object in the message: ``session.``, ``response.``, or nothing.
    """

    def __init__(self, prefix: str) -> None:
        self.temperature: float | None = None
        self.metadata: dict[str, str] | None = None
        self._prefix = prefix
        self._names: dict[str, str] = {}

    def session(self, flat: dict[str, Any], kind: str = "realtime") -> dict[str, Any]:
        """Returns the nested session that a flat one means."""
        session: dict[str, Any] = {"type": kind}
        for name, value in flat.items():
            if name == "temperature":
                self.temperature = self._temperature(value)
            elif name == "metadata":
                self.metadata = self._metadata(value)
            elif name in NESTED:
                self._place(session, NESTED[name], name, value)
            elif name in _STATED:
                self._check_stated(flat, name, value)
                if name == "encoding" and value is not None:
                    self._place_encoding(session, flat, value)
            elif name not in _NOT_SET_HERE:
                self._place(session, (name,), name, value)
        return session

    def response(self, flat: dict[str, Any]) -> dict[str, Any]:
        """Returns the nested response that a flat one means."""
        response: dict[str, Any] = {}
        for name, value in flat.items():
            if name == "temperature":
                self.temperature = self._temperature(value)
            elif name == "input" and isinstance(value, list):
                response["input"] = [
                    _item_to_ga(item, f"response.input[{index}]") if isinstance(item, dict) else item
                    for index, item in enumerate(value)
                ]
            elif name in ("voice", "output_audio_format", "modalities", "max_response_output_tokens"):
                self._place(response, NESTED[name], name, value)
            else:
                self._place(response, (name,), name, value)
        return response

    def settle(self, beta: Beta) -> None:
        """Gives the session what GA has no place for."""
        if self.temperature is not None:
            beta.temperature = self.temperature
        if self.metadata is not None:
            beta.metadata.clear()
            beta.metadata.update(self.metadata)

    def complaint(self, error: BadEvent) -> BadEvent:
        """Returns a complaint about a nested field with the name that the client wrote."""
        param = error.param or ""
        for nested, flat in self._names.items():
            if param == nested or param.startswith((f"{nested}.", f"{nested}[")):
                renamed = self._prefix + flat + param[len(nested) :]
                return BadEvent(error.message.replace(param, renamed), code=error.code, param=renamed)
        return error

    def _place(self, root: dict[str, Any], path: tuple[str, ...], name: str, value: Any) -> None:
        *parents, last = path
        place = root
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise BadEvent(f"'{parent}' is not a field of a beta session.", param=f"{self._prefix}{parent}")
        head = "response" if self._prefix == "response." else "session"
        self._names[".".join((head, *path))] = name
        place[last] = self._value(name, value)

    def _value(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in ("input_audio_format", "output_audio_format"):
            if not isinstance(value, str) or value not in FORMATS:
                raise BadEvent(f"'{name}' must be one of {', '.join(FORMATS)}.", param=f"{self._prefix}{name}")
            return FORMATS[value]
        if name == "input_audio_transcription" and isinstance(value, dict):
            return self._transcription(value)
        return self._modalities(value) if name == "modalities" else value

    def _transcription(self, value: dict[str, Any]) -> dict[str, Any] | None:
        """Translates ``enabled`` and the language ``auto`` of the beta reference to null and no language, as in GA."""
        is_enabled = value.get("enabled", True)
        if not isinstance(is_enabled, bool):
            param = f"{self._prefix}input_audio_transcription.enabled"
            raise BadEvent("'enabled' must be true or false.", param=param)
        if not is_enabled:
            return None
        return {k: v for k, v in value.items() if k != "enabled" and (k, v) != ("language", "auto")}

    def _check_stated(self, flat: dict[str, Any], name: str, value: Any) -> None:
        """Checks that what is stated fits the formats that are named beside it, or any format if none is named."""
        ends = (name.partition("_")[0],) if name.endswith("_audio_sample_rate") else ("input", "output")
        named = [flat.get(f"{end}_audio_format") for end in ends]
        by_format = _STATED[name]
        fits = sorted({by_format[f] for f in by_format if f in named} or {*by_format.values()})
        if value is not None and value not in fits:
            text = f"'{name}' is {' or '.join(map(str, fits))} in a session; listeners choose theirs on their URL."
            raise BadEvent(text, param=f"{self._prefix}{name}")

    def _place_encoding(self, session: dict[str, Any], flat: dict[str, Any], encoding: str) -> None:
        """Gives the encoding to each direction that the session has, unless its format is named."""
        for name in ("input_audio_format", "output_audio_format"):
            if flat.get(name) is None and (name.startswith("input") or session["type"] == "realtime"):
                self._place(session, NESTED[name], name, encoding)

    def _modalities(self, value: Any) -> Any:
        """Translates modalities: beta's audio always comes with its text, and GA names only the one that is wanted."""
        if not isinstance(value, list) or not value or not set(map(str, value)) <= {"text", "audio"}:
            raise BadEvent("'modalities' must be a list of text, audio or both.", param=f"{self._prefix}modalities")
        return ["audio"] if "audio" in value else ["text"]

    def _temperature(self, value: Any) -> float | None:
        """Takes the temperature. Null means the default in a session, and the session's temperature in a response."""
        if value is None:
            return None if self._prefix == "response." else _DEFAULT_TEMPERATURE
        low, high = _TEMPERATURES
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            param = f"{self._prefix}temperature"
            raise BadEvent(f"'temperature' must be a number from {low:g} to {high:g}.", param=param)
        return float(value)

    def _metadata(self, value: Any) -> dict[str, str]:
        try:
            return msgspec.convert({} if value is None else value, _Metadata)
        except msgspec.ValidationError:
            text = f"'metadata' may have at most {_MAX_PAIRS} values of up to 512 characters, with keys of up to 64."
            raise BadEvent(text, param=f"{self._prefix}metadata") from None


def read_client_message(text: bytes | str, beta: Beta) -> ClientMessage:
    """Returns the GA message that a beta client means.

    Raises ``BadEvent``, which names the field as the client wrote it.
    """
    return read_event(text, lambda message: _meant(message, beta))


def _meant(message: Any, beta: Beta) -> ClientMessage:
    if not isinstance(message, dict):
        raise BadEvent("An event must be a JSON object.")
    message.pop("timestamp", None)  # the beta reference lets every event have one
    kind = message.get("type")
    translation = _Translation("response." if kind == "response.create" else "session.")
    if kind in ("session.update", "transcription_session.update"):
        message = _session_update(message, translation)
    elif kind == "response.create" and isinstance(message.get("response"), dict):
        message = {**message, "response": translation.response(message["response"])}
    elif kind == "conversation.item.create" and isinstance(message.get("item"), dict):
        message = {**message, "item": _item_to_ga(message["item"], "item")}
    try:
        meant = message_of(message)
    except BadEvent as error:
        raise translation.complaint(error) from None
    if meant.complaint is not None:
        meant.complaint = translation.complaint(meant.complaint)
    elif kind == "response.create":
        beta.ask(translation.temperature)
    else:
        translation.settle(beta)
    return meant


def decode_client_event(text: bytes | str, beta: Beta) -> ClientEvent:
    """Returns the GA event that a beta client means; raises ``BadEvent`` if the bridge does not know all of it."""
    return read_client_message(text, beta).known


def session_to_ga(flat: dict[str, Any], beta: Beta, *, kind: str = "realtime", prefix: str = "") -> SessionRequest:
    """Returns the session that a flat one in a request's body means.

    Raises ``BadEvent``, which names the field of the flat session behind ``prefix``.
    """
    translation = _Translation(prefix)
    try:
        meant = read_session(translation.session(flat, kind))
    except BadEvent as error:
        raise translation.complaint(error) from None
    if meant.complaint is not None:
        return SessionRequest(meant.config, meant.body, translation.complaint(meant.complaint))
    translation.settle(beta)
    return meant


def to_beta(event: ServerEvent | Body, beta: Beta) -> Body | None:
    """Returns a server event as beta has it; None if beta has no such event, or its clients never knew it."""
    message: Body = dict(event) if isinstance(event, dict) else msgspec.to_builtins(event)
    kind = message["type"]
    if kind not in _KNOWN or kind in _NOT_IN_BETA or kind.startswith(("mcp_", "response.mcp_")):
        return None
    message["type"] = SERVER_TYPES.get(kind, kind)
    if isinstance(message.get("session"), dict):
        if message["session"].get("type") == "transcription":
            message["type"] = f"transcription_{kind}"
        message["session"] = session_to_beta(message["session"], beta)
    if "item" in message:
        message["item"] = _item_to_beta(message["item"])
    if isinstance(message.get("response"), dict):
        message["response"] = _response_to_beta(message["response"], beta, kind)
    if kind == "response.function_call_arguments.done":
        message.pop("name", None)
    return message


# Sessions


def session_to_beta(session: dict[str, Any], beta: Beta) -> dict[str, Any]:
    """Returns the complete flat session that a nested one means."""
    inbound, outbound = _dict(_dict(session, "audio"), "input"), _dict(_dict(session, "audio"), "output")
    unknown = {name: value for name, value in session.items() if name not in _GA_SESSION}
    if session.get("type") == "transcription":
        return {
            **unknown,
            "id": session.get("id"),
            "object": session.get("object", "realtime.transcription_session"),
            "expires_at": session.get("expires_at", 0),
            "modalities": ["audio", "text"],
            "input_audio_format": _format_name(inbound.get("format")),
            "input_audio_transcription": inbound.get("transcription"),
            "input_audio_noise_reduction": inbound.get("noise_reduction"),
            "turn_detection": inbound.get("turn_detection"),
            "include": session.get("include"),
            "client_secret": None,
        }
    return {
        **unknown,
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
        "status": "active",
        "metadata": dict(beta.metadata),
        "client_secret": None,
    }


def _session_update(message: dict[str, Any], translation: _Translation) -> dict[str, Any]:
    """Translates a ``session.update``. Its fields stand under ``session``, or at the top as some documents have it."""
    envelope = {"type": "session.update"}
    if "event_id" in message:
        envelope["event_id"] = message["event_id"]
    kind = "transcription" if message["type"] == "transcription_session.update" else "realtime"
    flat = message.get("session", {k: v for k, v in message.items() if k not in _ENVELOPE})
    return {**envelope, "session": translation.session(flat, kind) if isinstance(flat, dict) else flat}


def _modalities_to_beta(value: Any) -> list[str]:
    return ["text"] if value == ["text"] else ["audio", "text"]


def _format_name(ga: Any) -> str:
    media_type = ga.get("type") if isinstance(ga, dict) else None
    return next((name for name, known in FORMATS.items() if known["type"] == media_type), "pcm16")


# Responses and items


def _response_to_beta(response: dict[str, Any], beta: Beta, kind: str) -> dict[str, Any]:
    flat = {key: value for key, value in response.items() if key not in ("output_modalities", "audio")}
    outbound, output = _dict(_dict(response, "audio"), "output"), response.get("output")
    return {
        **flat,
        "output": [_item_to_beta(item) for item in output] if isinstance(output, list) else [],
        "modalities": _modalities_to_beta(response.get("output_modalities")),
        "voice": outbound.get("voice", "alloy"),
        "output_audio_format": _format_name(outbound.get("format")),
        "temperature": beta.temperature_of(str(response.get("id")), kind),
    }


def _item_to_ga(item: dict[str, Any], path: str) -> dict[str, Any]:
    """Translates an item. Null counts as absent: beta's own items are full of it, and clients send them back."""
    item = _without_nulls(item)
    content = item.get("content")
    if not isinstance(content, list):
        return item
    names = _ASSISTANT_CONTENT if item.get("role") == "assistant" else _USER_CONTENT
    parts = [
        _part_to_ga(_without_nulls(part), names, f"{path}.content[{index}]") if isinstance(part, dict) else part
        for index, part in enumerate(content)
    ]
    return {**item, "content": parts}


def _without_nulls(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _part_to_ga(part: dict[str, Any], names: dict[str, str], path: str) -> dict[str, Any]:
    kind = str(part.get("type"))
    if kind == "transcript":  # the beta reference's third kind: words that were spoken
        if "transcript" not in part and "text" not in part:
            param = f"{path}.transcript"
            raise BadEvent(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
        return {"type": names["text"], "text": part.get("transcript", part.get("text"))}
    if isinstance(part.get("text"), str):
        text = _decoded(part["text"], part.get("encoding", "utf-8"), path)
        part = {name: value for name, value in part.items() if name not in _OF_TEXT} | {"text": text}
    return {**part, "type": names.get(kind, part.get("type"))}


def _decoded(text: str, encoding: object, path: str) -> str:
    """Decodes a text, which may come as base64 by the beta reference."""
    if encoding == "utf-8":
        return text
    if encoding != "base64":
        raise BadEvent("'encoding' must be utf-8 or base64.", param=f"{path}.encoding")
    try:
        return binascii.a2b_base64(text, strict_mode=True).decode()
    except ValueError:
        raise BadEvent("'text' is not UTF-8 in base64.", param=f"{path}.text") from None


def _item_to_beta(item: Any) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get("content"), list):
        return item
    return {**item, "content": [_part_to_beta(part) for part in item["content"]]}


def _part_to_beta(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    return {**part, "type": BETA_CONTENT.get(kind, kind)} if isinstance(kind, str) else part


def _dict(holder: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns the object ``name`` of ``holder``; an empty one if an upstream has put something else there."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}
