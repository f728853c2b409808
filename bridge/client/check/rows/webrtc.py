"""Rows about what only WebRTC has."""

from bridge.client.check.rows.common import CLIENT, GUIDE, REFERENCE, SPOKEN, update
from bridge.client.check.steps import Attach, EndCall, Expect, Never, Order, Row, Send
from bridge.client.check.values import ID

__all__ = ["ROWS"]

ROWS: tuple[Row, ...] = (
    Row(
        id="webrtc.no_deltas",
        says="Over WebRTC, sound comes only on its track.",
        source=GUIDE.format("WebRTC"),
        steps=(*SPOKEN, Expect("response.done", within_s=40), Never("response.output_audio.delta", 0.2)),
        transports=("webrtc",),
    ),
    Row(
        id="webrtc.playback",
        says="Playback is reported: started when it is first heard, and stopped when it ends, after response.done.",
        source=GUIDE.format("WebRTC"),
        steps=(
            *SPOKEN,
            Expect("output_audio_buffer.started", within_s=20),
            Expect("output_audio_buffer.stopped", within_s=60),
            Order(("output_audio_buffer.started", "response.done", "output_audio_buffer.stopped")),
        ),
        transports=("webrtc",),
    ),
    Row(
        id="webrtc.clear",
        says="output_audio_buffer.clear stops the sound, and that is reported.",
        source=CLIENT,
        steps=(
            *SPOKEN,
            Expect("output_audio_buffer.started", within_s=20),
            Send({"type": "output_audio_buffer.clear"}),
            Expect("output_audio_buffer.cleared"),
        ),
        transports=("webrtc",),
    ),
    Row(
        id="webrtc.hang_up",
        says="A call that is hung up over HTTP also ends for its peer.",
        source=REFERENCE.format("calls"),
        steps=(EndCall(),),
        transports=("webrtc",),
    ),
    Row(
        id="sideband.attach",
        says="A WebSocket that attaches to a call gets session.created and the call's events.",
        source=GUIDE.format("sideband connections"),
        steps=(
            Attach(),
            Expect("session.created", {"session.id": ID}, on="side"),
            update(instructions="Be brief."),
            Expect("session.updated", {"session.instructions": "Be brief."}, on="side"),
        ),
        transports=("webrtc",),
        is_optional=True,
    ),
)
