"""Rows about events with mistakes."""

from bridge.client.check.rows.common import SERVER, update
from bridge.client.check.steps import Expect, Refused, Row, Send, SendRaw

__all__ = ["ROWS"]

ROWS: tuple[Row, ...] = (
    Row(
        id="errors.no_json",
        says="A message that is not JSON is answered with an error, and the session continues.",
        source=SERVER,
        steps=(
            SendRaw("this is no JSON"),
            Refused(names_event=False),
            update(instructions="Go on."),
            Expect("session.updated"),
        ),
    ),
    Row(
        id="errors.no_type",
        says="An event without a type is answered with an error.",
        source=SERVER,
        steps=(SendRaw('{"event_id": "event_check"}'), Refused(names_event=False)),
    ),
    Row(
        id="errors.unknown_type",
        says="An event of an unknown type is answered with an error that names the event.",
        source=SERVER,
        steps=(Send({"type": "check.unknown"}), Refused(("invalid_value", "unknown_event_type"))),
    ),
    Row(
        id="errors.missing_field",
        says="An event without a required field is refused, and the error names the field.",
        source=SERVER,
        steps=(
            Send({"type": "conversation.item.retrieve"}),
            Refused(("missing_required_parameter",), param="item_id"),
        ),
    ),
    Row(
        id="errors.bad_base64",
        says="Sound that is not base64 is refused, and the error names the field.",
        source=SERVER,
        steps=(Send({"type": "input_audio_buffer.append", "audio": "%%%"}), Refused(param="audio")),
        transports=("websocket",),
    ),
    Row(
        id="errors.array",
        says="JSON that is not an object is answered with an error.",
        source=SERVER,
        steps=(SendRaw("[1, 2, 3]"), Refused(names_event=False)),
    ),
    Row(
        id="errors.many",
        says="The session continues after ten errors.",
        source=SERVER,
        steps=(
            *(step for _ in range(10) for step in (Send({"type": "check.unknown"}), Refused())),
            update(instructions="Go on."),
            Expect("session.updated"),
        ),
    ),
)
