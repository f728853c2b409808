"""Translates the events of a row to the beta dialect.

Rows are written in GA's words. Only the session and some names differ in beta.
"""

from typing import Any

from bridge.client.check.shapes import BETA_NAMES

__all__ = ["client_event", "fields", "kind"]

_PATHS = {
    "session.output_modalities": "session.modalities",
    "session.audio.input.turn_detection": "session.turn_detection",
    "session.audio.input.transcription": "session.input_audio_transcription",
    "session.audio.input.noise_reduction": "session.input_audio_noise_reduction",
    "session.audio.input.format.type": "session.input_audio_format",
    "session.audio.output.format.type": "session.output_audio_format",
    "session.audio.output.voice": "session.voice",
}
_FORMATS = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
_MODALITIES = {"audio": ["audio", "text"], "text": ["text"]}


def kind(name: str) -> str:
    """Returns beta's name of a server event."""
    return BETA_NAMES.get(name, name)


def fields(wanted: dict[str, Any]) -> dict[str, Any]:
    """Returns paths and values as beta has them."""
    return dict(_field(path, value) for path, value in wanted.items())


def _field(path: str, value: Any) -> tuple[str, Any]:
    for ga, beta in _PATHS.items():
        if path == ga or path.startswith(f"{ga}."):
            path = beta + path.removeprefix(ga)
            break
    if path == "session.modalities" and isinstance(value, list):
        value = _MODALITIES[value[0]]
    return path, _FORMATS.get(value, value) if isinstance(value, str) else value


def client_event(event: dict[str, Any]) -> dict[str, Any]:
    """Returns a client event as beta has it."""
    if isinstance(session := event.get("session"), dict):
        return {**event, "session": _flat(session)}
    if isinstance(response := event.get("response"), dict) and "output_modalities" in response:
        rest = {name: value for name, value in response.items() if name != "output_modalities"}
        return {**event, "response": {**rest, "modalities": _MODALITIES[response["output_modalities"][0]]}}
    return event


def _flat(session: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in session.items() if name not in ("type", "audio", "output_modalities")}
    if "output_modalities" in session:
        flat["modalities"] = _MODALITIES[session["output_modalities"][0]]
    audio = session.get("audio", {})
    for side in ("input", "output"):
        settings = audio.get(side, {})
        if "format" in settings:
            flat[f"{side}_audio_format"] = _FORMATS[settings["format"]["type"]]
    for name, value in audio.get("input", {}).items():
        if name == "turn_detection":
            flat[name] = value
        elif name != "format":
            flat[f"input_audio_{name}"] = value
    if "voice" in audio.get("output", {}):
        flat["voice"] = audio["output"]["voice"]
    return flat
