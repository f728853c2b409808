"""Genesys' AudioHook, version 2, as Audio Connector speaks it: numbered JSON messages, and sound in binary ones.

    waiting ── open ──▶ open ◀── resumed ── paused ──▶ paused
                         │                               │
                         ├── close ──▶ closed ◀── close ─┤      Genesys ends it; ``closed`` is the answer
                         └── we say ``disconnect`` ──────┴──▶ leaving ── close ──▶ closed

Each side numbers its messages, and tells the last number of the other that it has seen. A gap, or the id of another
session or organization, ends the session. A session whose ``open`` names another one in ``continuedSessions`` goes on
with the call of that one. An ``open`` whose conversation is all zeros is a probe: it is answered, and
is no call.

Audio Connector has no marks by name, so the bridge's clock tells what was heard. It refuses many small messages (429),
so sound goes in pieces of 200 ms.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from bridge.errors import BadRequest
from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierFault, CarrierReply, Ended, Traits, pressed
from bridge.wire.audio import G711_ULAW, AudioFormat, pcm16_at

__all__ = ["FORMATS", "AudioHookSession", "AudioHookState", "Genesys"]

FORMATS = {"PCMU": G711_ULAW, "L16": pcm16_at(8000)}
"""The formats by AudioHook's names, all at 8000 Hz."""

_VERSION = "2"
_PROBE = "00000000-0000-0000-0000-000000000000"
_DURATION = re.compile(r"PT\d{1,9}(\.\d{1,9})?S")


class AudioHookState(StrEnum):
    """The state of a session."""

    WAITING = "waiting"
    """It waits for ``open``."""
    OPEN = "open"
    PAUSED = "paused"
    """No sound comes for now."""
    LEAVING = "leaving"
    """The bridge has said ``disconnect``, and Genesys has the last word."""
    CLOSED = "closed"


_NEXT: Mapping[AudioHookState, frozenset[AudioHookState]] = {
    AudioHookState.WAITING: frozenset({AudioHookState.OPEN, AudioHookState.LEAVING, AudioHookState.CLOSED}),
    AudioHookState.OPEN: frozenset({AudioHookState.PAUSED, AudioHookState.LEAVING, AudioHookState.CLOSED}),
    AudioHookState.PAUSED: frozenset({AudioHookState.OPEN, AudioHookState.LEAVING, AudioHookState.CLOSED}),
    AudioHookState.LEAVING: frozenset({AudioHookState.CLOSED}),
    AudioHookState.CLOSED: frozenset(),
}
"""The states that a session may enter from each state."""


class AudioHookSession(ABC):
    """The part that all products which speak AudioHook have in common: the life of a session, and its numbers.

    ``session_id`` and ``organization_id`` are those of the upgrade's headers. If one is empty, any is taken.
    """

    name: ClassVar[str]

    def __init__(self, session_id: str = "", organization_id: str = "") -> None:
        self.state = AudioHookState.WAITING
        self._id = session_id
        self._organization_id = organization_id
        self._heard_seq = self._said_seq = 0

    @abstractmethod
    def choose(self, offered: list[Any]) -> tuple[dict[str, Any], AudioFormat]:
        """Returns one of the media that ``open`` offers, and the format of the caller's sound.

        Raises ``BadRequest``.
        """

    def hear(self, sound: bytes) -> bytes:
        """Returns the caller's sound in a binary message."""
        return sound

    def take_own_message(self, kind: str, parameters: dict[str, Any]) -> list[CarrierEvent]:
        """Returns what a message means that only this product has."""
        return [CarrierFault("unknown_message")]

    def decode_message(self, message: str | bytes) -> list[CarrierEvent]:
        """Returns what a message means, and the answer to it."""
        if isinstance(message, bytes):
            return self._sound(message)
        try:
            said = msgspec.json.decode(message, type=dict[str, Any])
            kind, seq, parameters = said["type"], said["seq"], said.get("parameters") or {}
        except (msgspec.DecodeError, RecursionError, UnicodeError, KeyError):
            return [CarrierFault("malformed_message")]
        if said.get("version") != _VERSION or not isinstance(seq, int) or not isinstance(parameters, dict):
            return [CarrierFault("malformed_message")]
        serverseq = said.get("serverseq")
        if seq != self._heard_seq + 1 or (isinstance(serverseq, int) and serverseq > self._said_seq):
            return self._broken("a number is missing")
        self._heard_seq = seq
        if self._id and said.get("id") != self._id:
            return self._broken("this is another session")
        return self._said(str(kind), str(said.get("id") or ""), parameters)

    def _sound(self, sound: bytes) -> list[CarrierEvent]:
        match self.state:
            case AudioHookState.OPEN:
                return [heard] if (heard := self.hear(sound)) else []
            case AudioHookState.WAITING:
                return [CarrierFault("message_before_start")]
            case AudioHookState.PAUSED:
                return [CarrierFault("sound_while_paused")]
        return []  # this sound was on its way when the session ended

    def _said(self, kind: str, session_id: str, parameters: dict[str, Any]) -> list[CarrierEvent]:
        match kind, self.state:
            case _, AudioHookState.CLOSED:
                return [CarrierFault("message_after_end")]
            case "open", AudioHookState.WAITING:
                return self._open(session_id, parameters)
            case "open", _:
                return [CarrierFault("second_start")]
            case "close", _:
                self._enter(AudioHookState.CLOSED)
                return [self._reply("closed"), Ended()]
            case _, AudioHookState.WAITING:
                return [CarrierFault("message_before_start")]
            case "ping", _:
                return [self._reply("pong")]
            case "update", _:
                return [self._reply("updated")]
            case "error", _:
                return [CarrierFault("carrier_error", f"{parameters.get('code')} {parameters.get('message')}"[:100])]
            case (("paused" | "resumed" | "discarded"), _):
                return self._moved(kind, parameters)
        return self.take_own_message(kind, parameters)

    def _moved(self, kind: str, parameters: dict[str, Any]) -> list[CarrierEvent]:
        """Notes that the stream stands still, goes on, or has left sound out. The missing sound is not replaced."""
        spans = [parameters[name] for name in ("start", "discarded") if name in parameters]
        if not all(isinstance(span, str) and _DURATION.fullmatch(span) for span in spans):
            return [CarrierFault("malformed_message")]
        if kind == "paused" and self.state is AudioHookState.OPEN:
            self._enter(AudioHookState.PAUSED)
        elif kind == "resumed" and self.state is AudioHookState.PAUSED:
            self._enter(AudioHookState.OPEN)
        return []

    def _open(self, session_id: str, parameters: dict[str, Any]) -> list[CarrierEvent]:
        self._id = session_id
        if self._organization_id and parameters.get("organizationId") != self._organization_id:
            return self._broken("this is another organization", reason="unauthorized")
        offered = parameters.get("media")
        media, audio_format = self.choose(offered if isinstance(offered, list) else [])
        opened = self._reply("opened", media=[media], startPaused=False)
        self._enter(AudioHookState.OPEN)
        if parameters.get("conversationId") == _PROBE:
            return [opened]
        participant = parameters.get("participant")
        caller = participant if isinstance(participant, dict) else {}
        variables = {name: str(caller[name]) for name in ("ani", "dnis") if caller.get(name)}
        for place in ("inputVariables", "customConfig"):
            given = parameters.get(place)
            variables |= {str(name): str(value) for name, value in (given if isinstance(given, dict) else {}).items()}
        if isinstance(language := parameters.get("language"), str):
            variables.setdefault("language", language)
        ids = {name: str(parameters.get(name) or "") for name in ("conversationId", "organizationId")}
        call = _continued(parameters.get("continuedSessions")) or session_id
        return [CallStarted(call, audio_format, variables, ids={"sessionId": session_id, **ids}), opened]

    def _broken(self, what: str, *, reason: str = "error") -> list[CarrierEvent]:
        if AudioHookState.LEAVING not in _NEXT[self.state]:
            return [CarrierFault("message_after_end")]
        self._enter(AudioHookState.LEAVING)
        return [self._reply("disconnect", reason=reason, info=what), Ended("protocol_error")]

    def _enter(self, state: AudioHookState) -> None:
        assert state in _NEXT[self.state]
        self.state = state

    def _reply(self, kind: str, **parameters: Any) -> CarrierReply:
        return CarrierReply((self._message(kind, parameters),))

    def _message(self, kind: str, parameters: dict[str, Any]) -> str:
        self._said_seq += 1
        said = {
            "version": _VERSION,
            "type": kind,
            "seq": self._said_seq,
            "clientseq": self._heard_seq,
            "id": self._id,
            "parameters": parameters,
        }
        return json.dumps(said, separators=(",", ":"))

    def encode_answer(self) -> list[str | bytes]:
        """Returns no messages, because the carrier has answered already."""
        return []

    def encode_hang_up(self) -> list[str | bytes]:
        """Returns ``disconnect``, which Genesys answers with ``close``; nothing if the session has ended already."""
        return self._disconnect({})

    def _disconnect(self, variables: dict[str, str]) -> list[str | bytes]:
        if self.state not in (AudioHookState.OPEN, AudioHookState.PAUSED):
            return []
        self._enter(AudioHookState.LEAVING)
        return [self._message("disconnect", {"reason": "completed", "outputVariables": variables})]

    def encode_mark(self, name: str) -> list[str | bytes]:
        """Returns no messages, because the protocol has no marks."""
        return []

    def encode_key(self, key: str) -> list[str | bytes]:
        """Returns no messages, because the protocol has no word for keys."""
        return []


def _continued(sessions: Any) -> str:
    """Returns the id of the session that a new one goes on with; empty if there is none."""
    first = sessions[0] if isinstance(sessions, list) and sessions else None
    given = first.get("id") if isinstance(first, dict) else None
    return given if isinstance(given, str) else ""


class Genesys(AudioHookSession):
    """A session of Audio Connector: it brings the caller's sound, and takes an answer."""

    name = "genesys"
    traits = Traits(
        lead_ms=400, has_marks=False, piece_ms=200, min_piece_ms=200, max_message_bytes=64_000, says_goodbye=True
    )

    def choose(self, offered: list[Any]) -> tuple[dict[str, Any], AudioFormat]:
        """Returns the first offer of the caller's sound alone that is served; raises ``BadRequest``."""
        for media in offered:
            if isinstance(media, dict) and media.get("channels") == ["external"]:
                audio_format = FORMATS.get(str(media.get("format"))) if media.get("rate") == 8000 else None
                if audio_format is not None:
                    return media, audio_format
        raise BadRequest(
            "None of the offered media is supported; offer PCMU or L16 at 8000 Hz, with the channel external only.",
            code="unsupported_format",
            param="parameters.media",
        )

    def take_own_message(self, kind: str, parameters: dict[str, Any]) -> list[CarrierEvent]:
        """Takes keys, and what was played, which has no name, so that the bridge's clock counts."""
        match kind:
            case "dtmf":
                return pressed(str(parameters.get("digit")))
            case "playback_started" | "playback_completed":
                return []
        return super().take_own_message(kind, parameters)

    def encode_sound(self, sound: bytes) -> bytes:
        """Returns the sound as it is. Binary messages are not numbered."""
        return sound

    def encode_clear(self) -> list[str | bytes]:
        """Returns ``barge_in``, which empties the buffer."""
        return [self._message("event", {"entities": [{"type": "barge_in", "data": {}}]})]

    def encode_transfer(self, target_uri: str) -> list[str | bytes]:
        """Returns ``disconnect`` with an output variable ``transfer_to``, which the Architect flow acts on."""
        return self._disconnect({"transfer_to": target_uri})
