"""Rows about sizes and pings."""

from bridge.client.check.rows.common import CLIENT, MANUAL, update
from bridge.client.check.steps import Expect, Ping, Row, Send, SendRaw

__all__ = ["ROWS"]

ROWS: tuple[Row, ...] = (
    Row(
        id="limits.ping",
        says="A WebSocket ping is answered.",
        source="RFC 6455 section 5.5.2",
        steps=(Ping(),),
        transports=("websocket",),
    ),
    Row(
        id="limits.large_append",
        says="One append with 20 s of sound is accepted.",
        source=CLIENT,
        steps=(
            *MANUAL,
            SendRaw('{"type": "input_audio_buffer.append", "audio": "' + "A" * 1_280_000 + '"}'),
            Send({"type": "input_audio_buffer.commit"}),
            Expect("input_audio_buffer.committed", within_s=20),
        ),
        transports=("websocket",),
    ),
    Row(
        id="limits.instructions",
        says="Instructions of 20,000 characters are accepted.",
        source=CLIENT,
        steps=(
            update(instructions="Be brief. " * 2000),
            Expect("session.updated", {"session.instructions": "Be brief. " * 2000}),
        ),
    ),
)
