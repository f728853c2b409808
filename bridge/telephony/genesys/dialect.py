"""Genesys Audio Connector, AudioHook version 2: numbered JSON messages, sound beside them in binary ones.

    ── open ──▶ opened ──▶ … ──▶ close ──▶ closed          Genesys ends it
                            └──▶ disconnect ──▶ close ──▶ closed   the bridge ends it

Each side numbers its messages, and tells the last number of the other that it has seen. A gap, or the id of another
session, ends the session. An ``open`` whose conversation is all zeros is a probe: it is answered, and is no call. There
are no marks by name; what was heard the bridge's clock tells. Many small messages are refused (429), so that sound goes
in pieces of 200 ms.
"""

import json
from typing import Any

import msgspec

from bridge.errors import BadRequest
from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierReply, Ended, Traits, Trouble, pressed
from bridge.wire.audio import G711_ULAW, AudioFormat, pcm16_at

__all__ = ["Genesys"]

_VERSION = "2"
_PROBE = "00000000-0000-0000-0000-000000000000"
_FORMATS = {"PCMU": G711_ULAW, "L16": pcm16_at(8000)}
_IGNORED = frozenset({"playback_started", "playback_completed", "paused", "resumed", "discarded", "update"})


class Genesys:
    """One session; ``session_id`` is that of the upgrade's header."""

    name = "genesys"
    traits = Traits(
        lead_ms=400, has_marks=False, piece_ms=200, min_piece_ms=200, max_message_bytes=64_000, says_goodbye=True
    )

    def __init__(self, session_id: str = "") -> None:
        self._id = session_id
        self._is_open = False
        self._heard_seq = self._said_seq = 0

    def decode_message(self, message: str | bytes) -> list[CarrierEvent]:
        """What a message means, and what is answered to it."""
        if isinstance(message, bytes):
            if not self._is_open:
                return [Trouble("message_before_start")]
            return [message] if message else []
        try:
            said = msgspec.json.decode(message, type=dict[str, Any])
            kind, seq, parameters = said["type"], said["seq"], said.get("parameters") or {}
        except (msgspec.DecodeError, RecursionError, UnicodeError, KeyError):
            return [Trouble("malformed_message")]
        if said.get("version") != _VERSION or not isinstance(seq, int) or not isinstance(parameters, dict):
            return [Trouble("malformed_message")]
        serverseq = said.get("serverseq")
        if seq != self._heard_seq + 1 or (isinstance(serverseq, int) and serverseq > self._said_seq):
            return self._broken("a number is missing")
        self._heard_seq = seq
        if self._id and said.get("id") != self._id:
            return self._broken("this is another session")
        return self._said(str(kind), str(said.get("id") or ""), parameters)

    def _said(self, kind: str, session_id: str, parameters: dict[str, Any]) -> list[CarrierEvent]:
        match kind:
            case "open":
                return [Trouble("second_start")] if self._is_open else self._open(session_id, parameters)
            case "ping":
                return [self._reply("pong")]
            case "close":
                self._is_open = False
                return [self._reply("closed"), Ended()]
            case "dtmf":
                return pressed(str(parameters.get("digit")))
            case "error":
                return [Trouble("carrier_error", f"{parameters.get('code')} {parameters.get('message')}"[:100])]
            case _ if kind in _IGNORED:
                return []
        return [Trouble("unknown_message")]

    def _open(self, session_id: str, parameters: dict[str, Any]) -> list[CarrierEvent]:
        self._id = session_id
        offered = parameters.get("media")
        media, audio_format = _chosen(offered if isinstance(offered, list) else [])
        opened = self._reply("opened", media=[media], startPaused=False)
        self._is_open = True
        if parameters.get("conversationId") == _PROBE:
            return [opened]
        participant, given = parameters.get("participant"), parameters.get("inputVariables")
        caller = participant if isinstance(participant, dict) else {}
        variables = {
            **{name: str(caller[name]) for name in ("ani", "dnis") if caller.get(name)},
            **{str(name): str(value) for name, value in (given if isinstance(given, dict) else {}).items()},
        }
        ids = {name: str(parameters.get(name) or "") for name in ("conversationId", "organizationId")}
        return [CallStarted(session_id, audio_format, variables, ids={"sessionId": session_id, **ids}), opened]

    def _broken(self, what: str) -> list[CarrierEvent]:
        return [self._reply("disconnect", reason="error", info=what), Ended("protocol_error")]

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

    def encode_sound(self, sound: bytes) -> bytes:
        """As it is; binary messages are not numbered."""
        return sound

    def encode_mark(self, name: str) -> list[str | bytes]:
        """There are none."""
        return []

    def encode_clear(self) -> list[str | bytes]:
        """``barge_in`` empties the buffer."""
        return [self._message("event", {"entities": [{"type": "barge_in", "data": {}}]})]

    def encode_answer(self) -> list[str | bytes]:
        """The carrier has answered already."""
        return []

    def encode_hang_up(self) -> list[str | bytes]:
        """``disconnect``, which is answered by ``close``; nothing if that has come already."""
        return self._disconnect({})

    def encode_transfer(self, target_uri: str) -> list[str | bytes]:
        """The same, with an output variable ``transfer_to`` for the Architect flow to act on."""
        return self._disconnect({"transfer_to": target_uri})

    def _disconnect(self, variables: dict[str, str]) -> list[str | bytes]:
        if not self._is_open:
            return []
        return [self._message("disconnect", {"reason": "completed", "outputVariables": variables})]

    def encode_key(self, key: str) -> list[str | bytes]:
        """There is no word for it."""
        return []


def _chosen(offered: list[Any]) -> tuple[dict[str, Any], AudioFormat]:
    """The first offer of the caller's sound alone that is served; raises ``BadRequest``."""
    for media in offered:
        if isinstance(media, dict) and media.get("channels") == ["external"]:
            audio_format = _FORMATS.get(str(media.get("format"))) if media.get("rate") == 8000 else None
            if audio_format is not None:
                return media, audio_format
    raise BadRequest(
        "None of the offered media is served; offer PCMU or L16 at 8000 Hz, of channel external alone.",
        code="unsupported_format",
        param="parameters.media",
    )
