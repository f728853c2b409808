"""Rows about the Live API: one session over a WebSocket that the client begins, appends, mutes, sidebands, its end."""

from typing import Any

from bridge.client.check.steps import (
    AnswerFits,
    Attach,
    Closed,
    Connect,
    Expect,
    Never,
    PostOffer,
    Refused,
    Request,
    Row,
    Send,
    SendRaw,
    Speak,
)
from bridge.client.check.values import ID, NUMBER, TEXT, OneOf

__all__ = ["ROWS"]

_REFERENCE = "Live API reference, {}"
_CLIENT, _SERVER = _REFERENCE.format("client events"), _REFERENCE.format("server events")
_SESSIONS = _REFERENCE.format("sessions")
_MEASURED = "third parties' notes about the service"
_NO_KEY = "sk-this-is-no-key-of-anybody"
_SOCKET = Connect(path="/live/sessions")
_MUTE = (Send({"type": "session.input_audio.mute"}), Expect("session.input_audio.muted"))


def _row(**more: Any) -> Row:
    return Row(transports=("websocket",), dialects=("live",), **more)


def _start(**session: Any) -> Send:
    return Send({"type": "session.start", "session": {"model": "$model", **session}})


def _append(kind: str) -> Row:
    """Returns a row for an append. Sound goes in meanwhile, because by that alone a model's time goes on."""
    return _row(
        id=f"live.append_{kind}",
        says=f"session.{kind}.append is answered with session.{kind}.appended, which names the event and its time.",
        source=_CLIENT,
        steps=(
            Send({"type": f"session.{kind}.append", "content": "The caller's name is Ada.", "delegation_id": None}),
            Speak(until=f"session.{kind}.appended", since_sent=True),
            Expect(f"session.{kind}.appended", {"client_event_id": "$last_id", "start_ms": NUMBER, "end_ms": NUMBER}),
        ),
    )


ROWS: tuple[Row, ...] = (
    _row(
        id="live.silent_first",
        says="After the upgrade the server sends nothing until session.start.",
        source=_SESSIONS,
        steps=(_SOCKET, Never("session.created", 1.0), _start(), Expect("session.started")),
        opens=False,
    ),
    _row(
        id="live.started",
        says="session.start is answered with session.started: an ID, the model, a voice and the default format.",
        source=_SESSIONS,
        steps=(
            Expect(
                "session.started",
                {
                    "session.id": ID,
                    "session.model": TEXT,
                    "session.status": "active",
                    "session.expires_at": NUMBER,
                    "session.audio.format.type": "audio/pcm",
                    "session.audio.format.rate": 24000,
                    "session.audio.output.voice": TEXT,
                },
            ),
        ),
    ),
    _row(
        id="live.format_ulaw",
        says="A session can use G.711 µ-law, both ways.",
        source=_SESSIONS,
        steps=(
            _SOCKET,
            _start(audio={"format": {"type": "audio/pcmu", "rate": 8000}}),
            Expect("session.started", {"session.audio.format.type": "audio/pcmu"}),
        ),
        opens=False,
    ),
    _row(
        id="live.instructions",
        says="The instructions are those of session.start.",
        source=_SESSIONS,
        steps=(
            _SOCKET,
            _start(instructions="Be brief."),
            Expect("session.started", {"session.instructions": "Be brief."}),
        ),
        opens=False,
    ),
    _row(
        id="live.model_required",
        says="A session.start without a model is refused, and the error names the field.",
        source=_SESSIONS,
        steps=(
            _SOCKET,
            Send({"type": "session.start", "session": {}}),
            Expect(
                "error",
                {"error.code": OneOf(("missing_required_parameter", "invalid_model")), "error.param": "session.model"},
            ),
        ),
        opens=False,
    ),
    _row(
        id="live.strict",
        says="A field of Realtime sessions is refused, and the error names it.",
        source=_MEASURED,
        steps=(
            _SOCKET,
            _start(turn_detection={"type": "server_vad"}),
            Expect("error", {"error.code": "unknown_parameter", "error.param": "session.turn_detection"}),
        ),
        opens=False,
    ),
    _row(
        id="live.started_twice",
        says="A second session.start is refused.",
        source=_SESSIONS,
        steps=(_start(), Refused()),
    ),
    _row(
        id="live.immutable",
        says="session.update cannot change instructions, and the error says so.",
        source=_CLIENT,
        steps=(
            Send({"type": "session.update", "session": {"instructions": "Be long."}}),
            Refused(("immutable_field_update",)),
        ),
    ),
    _row(
        id="live.mute",
        says="Mute and unmute are each answered with their event.",
        source=_CLIENT,
        steps=(*_MUTE, Send({"type": "session.input_audio.unmute"}), Expect("session.input_audio.unmuted")),
    ),
    _append("thinking"),
    _append("instructions"),
    _row(
        id="live.commentary",
        says="What session.commentary.append says is spoken while the caller is silent.",
        source=_CLIENT,
        steps=(
            Send({"type": "session.commentary.append", "content": "Say hello to the caller.", "delegation_id": None}),
            Speak(until="session.output_transcript.delta", within_s=30, since_sent=True, heard_ms=200),
        ),
    ),
    _row(
        id="live.transcripts",
        says="What the caller says arrives as session.input_transcript.delta with its time.",
        source=_SERVER,
        steps=(
            Speak(until="session.input_transcript.delta", within_s=30),
            Expect("session.input_transcript.delta", {"delta": TEXT, "start_ms": NUMBER, "end_ms": NUMBER}),
        ),
    ),
    _row(
        id="live.answered",
        says="What the caller says is answered, as sound and as session.output_transcript.delta.",
        source=_SERVER,
        steps=(
            Speak(until="session.output_transcript.delta", within_s=40, heard_ms=200),
            Expect("session.output_transcript.delta", {"delta": TEXT, "start_ms": NUMBER, "end_ms": NUMBER}),
        ),
    ),
    _row(
        id="live.odd_bytes",
        says="Sound that is not a whole number of samples is refused.",
        source=_MEASURED,
        steps=(Send({"type": "session.input_audio.append", "audio": "AAAA"}), Refused(("invalid_audio",))),
    ),
    _row(
        id="live.no_json",
        says="A message that is not JSON is answered with an error, and the session continues.",
        source=_SERVER,
        steps=(SendRaw("this is no JSON"), Refused(names_event=False), *_MUTE),
    ),
    _row(
        id="live.unknown_type",
        says="A Realtime event is answered with an error that names the event, and the session continues.",
        source=_SERVER,
        steps=(Send({"type": "input_audio_buffer.commit"}), Refused(), *_MUTE),
    ),
    _row(
        id="live.close",
        says="session.close is answered with session.closed, its reason and usage, and the socket closes.",
        source=_CLIENT,
        steps=(
            Send({"type": "session.close"}),
            Expect("session.closed", {"reason": "close_requested", "usage.seconds": NUMBER}, within_s=20),
            Closed((1000, 1005)),
        ),
    ),
    _row(
        id="live.attach",
        says="A sideband that attaches to the session gets its events and may send its own.",
        source=_REFERENCE.format("sideband"),
        steps=(
            Attach(),
            Send({"type": "session.input_audio.mute"}),
            Expect("session.input_audio.muted", on="side"),
        ),
        is_optional=True,
    ),
    _row(
        id="live.attach_unknown",
        says="Attaching to a session that does not exist is refused with 404.",
        source=_REFERENCE.format("sideband"),
        steps=(Connect(path="/live/sessions/live_that_is_not/attach", status=404),),
        opens=False,
        is_optional=True,
    ),
    _row(
        id="live.wrong_key",
        says="A wrong key is refused with 401 when a WebSocket is opened.",
        source=_REFERENCE.format("authentication"),
        steps=(Connect(path="/live/sessions", key=_NO_KEY, status=401),),
        opens=False,
        needs_key=True,
    ),
    _row(
        id="live.no_browser_keys",
        says="There are no short-lived keys: POST /live/client_secrets is answered with 404.",
        source=_MEASURED,
        steps=(Request("POST", "/live/client_secrets", (404,), json={}),),
        opens=False,
    ),
    _row(
        id="live.offer",
        says="POST /live/sessions with an offer is answered with 201, the session's ID and an SDP answer.",
        source=_SESSIONS,
        steps=(PostOffer(), AnswerFits()),
        opens=False,
        is_optional=True,
    ),
    _row(
        id="live.no_offer",
        says="A WebRTC session with an invalid SDP is refused with 400 and an error object.",
        source=_MEASURED,
        steps=(
            Request(
                "POST",
                "/live/sessions",
                (400,),
                json={"session": {"model": "$model"}, "transport": {"type": "webrtc", "sdp": "this is no SDP"}},
                fields={"error.message": TEXT, "error.type": TEXT},
            ),
        ),
        opens=False,
    ),
)
