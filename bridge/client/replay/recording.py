"""Reads a recording, and finds out from it what the client did.

A recording has what the server said, with times, and what the caller said, as sound. What the client sent beside its
sound is not in it, and is concluded from the server's answers: a ``session.updated`` had a ``session.update``, an item
of text was created, a response that nothing else explains was asked for.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from bridge.client.address import CallFailed
from bridge.client.sound import BYTES_PER_MS
from bridge.wire.audio import SESSION_HZ

__all__ = ["ClientAct", "Recorded", "TimedEvent", "client_acts", "read_recording"]

_SOUNDS = (".ogg", ".wav")
_MOST_BYTES = 256 * 1024 * 1024
_MOST_EVENTS = 1_000_000
_SETTABLE = (
    "output_modalities",
    "instructions",
    "tools",
    "tool_choice",
    "max_output_tokens",
    "truncation",
    "parallel_tool_calls",
    "reasoning",
    "prompt",
    "tracing",
    "include",
)
_ASKED_BY_CLIENTS = ("function_call_output", "mcp_approval_response")


@dataclass(frozen=True, slots=True)
class TimedEvent:
    """A server event, and when it came, in milliseconds since the recording or the call began."""

    at_ms: int
    event: dict[str, Any]

    @property
    def kind(self) -> str:
        """The event's type."""
        return str(self.event.get("type"))


@dataclass(frozen=True, slots=True)
class ClientAct:
    """An event that the client sent, and when at the latest, in milliseconds since the recording began."""

    at_ms: int
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded call."""

    events: Sequence[TimedEvent]
    acts: Sequence[ClientAct]
    model: str | None
    pcm: bytes = field(repr=False)
    """What the caller said, from the beginning of the recording, PCM16 24 kHz mono."""


def read_recording(path: str) -> Recorded:
    """Reads ``NAME.jsonl`` and the sound beside it; raises ``CallFailed`` if it is no complete recording."""
    file = Path(path)
    if file.suffix == ".age":
        raise CallFailed(f"{path} is encrypted: decrypt it and the sound beside it with age first.")
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise CallFailed(
                f"{path} has more than {_MOST_BYTES // 1024 // 1024} MiB, more than a recording's events can have."
            )
        events = list(_events(file))
    except OSError as error:
        raise CallFailed(f"{path} cannot be read: {error.strerror}.") from None
    sound = next((each for suffix in _SOUNDS if (each := file.with_suffix(suffix)).is_file()), None)
    if sound is None:
        raise CallFailed(f"There is no sound beside {path}: expected {file.stem}.ogg or {file.stem}.wav.")
    created = next((each.event for each in events if each.kind in ("session.created", "session.updated")), {})
    model = created.get("session", {}).get("model")
    return Recorded(events, list(client_acts(events)), model if isinstance(model, str) else None, _caller(str(sound)))


def _events(file: Path) -> Iterator[TimedEvent]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number > _MOST_EVENTS:
                raise CallFailed(f"{file} has more than {_MOST_EVENTS} events.")
            try:
                entry = json.loads(line)
                at_ms, event = entry["at_ms"], entry["event"]
            except (ValueError, TypeError, KeyError):
                at_ms, event = None, None
            if not isinstance(at_ms, int) or not isinstance(event, dict):
                raise CallFailed(f'{file}, line {number}, is no {{"at_ms": …, "event": {{…}}}}: is it a recording?')
            yield TimedEvent(at_ms, event)


def _caller(path: str) -> bytes:
    """Returns the left channel, which has the caller; raises ``CallFailed``."""
    pcm = bytearray()
    try:
        with av.open(path) as container:
            resampler = av.AudioResampler(format="s16p", layout="stereo", rate=SESSION_HZ)
            for frame in (*container.decode(audio=0), None):
                for converted in resampler.resample(frame):
                    pcm += converted.to_ndarray()[0].tobytes()
                if len(pcm) > _MOST_BYTES:
                    raise CallFailed(f"{path} is longer than {_MOST_BYTES // BYTES_PER_MS // 60_000} minutes.")
    except (av.FFmpegError, IndexError) as error:
        raise CallFailed(f"{path} cannot be read as sound: {error}.") from None
    return bytes(pcm)


def client_acts(events: Sequence[TimedEvent]) -> Iterator[ClientAct]:
    """Yields what the client must have sent for the server to say this."""
    settings: dict[str, Any] = {}
    is_answered_alone: bool | None = True
    owes_answer = False
    for each in events:
        match each.event:
            case {"type": "session.created", "session": dict(session)}:
                settings = _settings(session)
                is_answered_alone = _answers_alone(session)
            case {"type": "session.updated", "session": dict(session)}:
                changed = _changes(settings, now := _settings(session))
                settings, is_answered_alone = now, _answers_alone(session)
                yield ClientAct(each.at_ms, {"type": "session.update", "session": {"type": "realtime", **changed}})
            case {"type": "conversation.item.added", "item": dict(item)} if _is_clients(item):
                item = {name: value for name, value in item.items() if name not in ("object", "status")}
                yield ClientAct(each.at_ms, {"type": "conversation.item.create", "item": item})
            case {"type": "conversation.item.deleted", "item_id": str(item_id)}:
                yield ClientAct(each.at_ms, {"type": "conversation.item.delete", "item_id": item_id})
            case {"type": "input_audio_buffer.cleared"}:
                yield ClientAct(each.at_ms, {"type": "input_audio_buffer.clear"})
            case {"type": "input_audio_buffer.committed"}:
                if is_answered_alone is None:
                    yield ClientAct(each.at_ms, {"type": "input_audio_buffer.commit"})
                owes_answer = is_answered_alone is True
            case {"type": "response.created", "response": dict(response)}:
                if not owes_answer:
                    yield ClientAct(each.at_ms, {"type": "response.create", "response": _asked(response)})
                owes_answer = False


def _answers_alone(session: dict[str, Any]) -> bool | None:
    """Returns whether each turn is answered without being asked; None if not even turns are found."""
    detection = session.get("audio", {}).get("input", {}).get("turn_detection")
    return None if detection is None else bool(detection.get("create_response", True))


def _settings(session: dict[str, Any]) -> dict[str, Any]:
    """Returns what a client can set of a session."""
    found = {name: session[name] for name in _SETTABLE if session.get(name) is not None}
    audio = session.get("audio", {})
    heard = {name: value for name, value in audio.get("input", {}).items() if name != "format"}
    spoken = {name: value for name, value in audio.get("output", {}).items() if name in ("voice", "speed")}
    return {**found, "audio": {"input": heard, "output": spoken}}


def _changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Returns what of ``now`` is different, in as small parts as an update can have."""
    changed = {name: value for name, value in now.items() if name != "audio" and before.get(name) != value}
    sides: dict[str, dict[str, Any]] = {}
    for side, values in now["audio"].items():
        old = before.get("audio", {}).get(side, {})
        if new := {name: value for name, value in values.items() if name not in old or old[name] != value}:
            sides[side] = new
    return {**changed, "audio": sides} if sides else changed


def _is_clients(item: dict[str, Any]) -> bool:
    """Returns whether a client made the item: no turn of sound, and nothing that the model said."""
    if item.get("type") in _ASKED_BY_CLIENTS:
        return True
    parts = item.get("content") or []
    return item.get("role") in ("user", "system") and all(part.get("type") != "input_audio" for part in parts)


def _asked(response: dict[str, Any]) -> dict[str, Any]:
    """Returns what ``response.create`` said, as far as the response shows it."""
    asked: dict[str, Any] = {}
    if response.get("output_modalities"):
        asked["output_modalities"] = response["output_modalities"]
    if response.get("conversation_id") is None and "conversation_id" in response:
        asked["conversation"] = "none"
    if response.get("metadata"):
        asked["metadata"] = response["metadata"]
    return asked
