"""Rows about spoken turns."""

from bridge.client.check.rows.common import (
    CLIENT,
    GUIDE,
    MANUAL,
    REFERENCE,
    SERVER,
    SPOKEN,
    input_settings,
    respond,
    update,
)
from bridge.client.check.steps import Append, Expect, Hear, Never, Order, Refused, Row, Send, Speak
from bridge.client.check.values import NUMBER, TEXT, OneOf

__all__ = ["ROWS"]

ROWS: tuple[Row, ...] = (
    Row(
        id="turns.vad",
        says="A spoken turn is detected, committed and answered, in the protocol's order.",
        source=GUIDE.format("voice activity detection"),
        steps=(
            Speak(),
            Expect("input_audio_buffer.speech_started", {"audio_start_ms": NUMBER}, keep={"item": "item_id"}),
            Expect("input_audio_buffer.speech_stopped", {"item_id": "$item"}),
            Expect("input_audio_buffer.committed", {"item_id": "$item"}),
            Expect("response.created", within_s=20),
            Order(
                (
                    "input_audio_buffer.speech_started",
                    "input_audio_buffer.speech_stopped",
                    "input_audio_buffer.committed",
                    "response.created",
                )
            ),
        ),
    ),
    Row(
        id="turns.item",
        says="A spoken turn becomes a user item with input_audio, whose transcript is present or null.",
        source=SERVER,
        steps=(
            Speak(),
            Expect("input_audio_buffer.committed", keep={"item": "item_id"}),
            Expect(
                "conversation.item.added",
                {"item.id": "$item", "item.role": "user", "item.content.0.type": "input_audio"},
            ),
        ),
    ),
    Row(
        id="turns.answered",
        says="The answer to a spoken turn can be heard.",
        source=GUIDE.format("conversations"),
        steps=(Speak(), Hear(200, within_s=30)),
    ),
    Row(
        id="turns.create_response_off",
        says="With create_response false, a turn is detected but not answered.",
        source=GUIDE.format("voice activity detection"),
        steps=(
            input_settings(turn_detection={"type": "server_vad", "create_response": False}),
            Expect("session.updated"),
            Speak(),
            Expect("input_audio_buffer.committed"),
            Never("response.created", 1.0),
        ),
    ),
    Row(
        id="turns.manual",
        says="Without turn detection, a turn is what is committed, and it is answered on request.",
        source=CLIENT,
        steps=(
            *MANUAL,
            Append(1600),
            Send({"type": "input_audio_buffer.commit"}),
            Expect("input_audio_buffer.committed", keep={"item": "item_id"}),
            Expect("conversation.item.added", {"item.id": "$item"}),
            Never("response.created", 0.5),
            respond(),
            Expect("response.done", {"response.status": "completed"}, within_s=40),
        ),
        transports=("websocket",),
    ),
    Row(
        id="turns.commit_empty",
        says="Committing an empty buffer is refused.",
        source=SERVER,
        steps=(*MANUAL, Send({"type": "input_audio_buffer.commit"}), Refused(("input_audio_buffer_commit_empty",))),
        transports=("websocket",),
    ),
    Row(
        id="turns.clear",
        says="input_audio_buffer.clear is answered, and what was appended is discarded.",
        source=CLIENT,
        steps=(
            *MANUAL,
            Append(600),
            Send({"type": "input_audio_buffer.clear"}),
            Expect("input_audio_buffer.cleared"),
            Send({"type": "input_audio_buffer.commit"}),
            Refused(("input_audio_buffer_commit_empty",)),
        ),
        transports=("websocket",),
    ),
    Row(
        id="turns.truncate",
        says="A spoken answer can be truncated to what was heard.",
        source=CLIENT,
        steps=(
            *SPOKEN,
            Expect("response.done", within_s=40),
            Send({"type": "conversation.item.truncate", "item_id": "$item", "content_index": 0, "audio_end_ms": 100}),
            Expect("conversation.item.truncated", {"item_id": "$item", "content_index": 0, "audio_end_ms": 100}),
        ),
        transports=("websocket",),
    ),
    Row(
        id="turns.truncate_beyond",
        says="Truncating beyond the end of the sound is refused.",
        source=CLIENT,
        steps=(
            *SPOKEN,
            Expect("response.done", within_s=40),
            Send(
                {
                    "type": "conversation.item.truncate",
                    "item_id": "$item",
                    "content_index": 0,
                    "audio_end_ms": 3_600_000,
                }
            ),
            Refused(),
        ),
        transports=("websocket",),
    ),
    Row(
        id="turns.transcription",
        says="With transcription, a turn is transcribed, and its usage is reported.",
        source=GUIDE.format("transcription"),
        steps=(
            input_settings(transcription={"model": "gpt-4o-mini-transcribe"}),
            Expect("session.updated"),
            Speak(),
            Expect(
                "conversation.item.input_audio_transcription.completed",
                {"transcript": TEXT, "usage.type": OneOf(("tokens", "duration"))},
                within_s=30,
                unless="conversation.item.input_audio_transcription.failed",
            ),
        ),
        is_optional=True,
    ),
    Row(
        id="turns.ulaw",
        says="G.711 µ-law is accepted, and the answer uses it too.",
        source=REFERENCE.format("session"),
        steps=(
            update(
                audio={
                    "input": {"format": {"type": "audio/pcmu"}, "turn_detection": None},
                    "output": {"format": {"type": "audio/pcmu"}},
                }
            ),
            Expect("session.updated", {"session.audio.input.format.type": "audio/pcmu"}),
            Append(1600, "audio/pcmu"),
            Send({"type": "input_audio_buffer.commit"}),
            Expect("input_audio_buffer.committed"),
            respond(),
            Expect("response.output_audio.delta", within_s=20),
        ),
        transports=("websocket",),
        is_optional=True,
    ),
    Row(
        id="turns.alaw",
        says="G.711 A-law is accepted, and the answer uses it too.",
        source=REFERENCE.format("session"),
        steps=(
            update(
                audio={
                    "input": {"format": {"type": "audio/pcma"}, "turn_detection": None},
                    "output": {"format": {"type": "audio/pcma"}},
                }
            ),
            Expect("session.updated", {"session.audio.input.format.type": "audio/pcma"}),
            Append(1600, "audio/pcma"),
            Send({"type": "input_audio_buffer.commit"}),
            Expect("input_audio_buffer.committed"),
        ),
        transports=("websocket",),
        is_optional=True,
    ),
)
