"""Rows about the items of a conversation."""

from bridge.client.check.rows.common import ASKED, CLIENT, MET, REFERENCE, SERVER, say
from bridge.client.check.steps import Expect, Order, Refused, Row, Send
from bridge.client.check.values import ID, Absent

__all__ = ["ROWS"]

ROWS: tuple[Row, ...] = (
    Row(
        id="items.create",
        says="An item is added, then done, with its ID and its content.",
        source=CLIENT,
        steps=(
            say("Hello.", id="item_check_1"),
            Expect(
                "conversation.item.added",
                {"item.id": "item_check_1", "item.role": "user", "item.content.0.text": "Hello."},
            ),
        ),
    ),
    Row(
        id="items.done",
        says="Each item that a client creates is done at once.",
        source=SERVER,
        steps=(
            say("Hello.", id="item_check_1"),
            Expect("conversation.item.done", {"item.id": "item_check_1", "item.status": "completed"}),
            Order(("conversation.item.added", "conversation.item.done")),
        ),
        dialects=("ga",),
    ),
    Row(
        id="items.id_made",
        says="An item without an ID gets one.",
        source=CLIENT,
        steps=(say("Hello."), Expect("conversation.item.added", {"item.id": ID})),
    ),
    Row(
        id="items.order",
        says="Each item names the one before it.",
        source=SERVER,
        steps=(
            say("One.", id="item_check_1"),
            MET,
            say("Two.", id="item_check_2"),
            Expect("conversation.item.added", {"item.id": "item_check_2", "previous_item_id": "item_check_1"}),
        ),
    ),
    Row(
        id="items.root",
        says="previous_item_id root puts an item first.",
        source=CLIENT,
        steps=(
            *ASKED,
            Send(
                {
                    "type": "conversation.item.create",
                    "previous_item_id": "root",
                    "item": {
                        "id": "item_check_first",
                        "type": "message",
                        "role": "system",
                        "content": [{"type": "input_text", "text": "Be brief."}],
                    },
                }
            ),
            Expect("conversation.item.added", {"item.id": "item_check_first", "previous_item_id": Absent()}),
        ),
    ),
    Row(
        id="items.unknown_previous",
        says="An item after one that does not exist is refused.",
        source=CLIENT,
        steps=(
            Send(
                {
                    "type": "conversation.item.create",
                    "previous_item_id": "item_that_is_not",
                    "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
                }
            ),
            Refused(),
        ),
    ),
    Row(
        id="items.retrieve",
        says="An item can be retrieved.",
        source=CLIENT,
        steps=(
            say("Hello.", id="item_check_1"),
            MET,
            Send({"type": "conversation.item.retrieve", "item_id": "item_check_1"}),
            Expect("conversation.item.retrieved", {"item.id": "item_check_1", "item.content.0.text": "Hello."}),
        ),
    ),
    Row(
        id="items.delete",
        says="An item can be deleted and is then gone.",
        source=CLIENT,
        steps=(
            say("Hello.", id="item_check_1"),
            MET,
            Send({"type": "conversation.item.delete", "item_id": "item_check_1"}),
            Expect("conversation.item.deleted", {"item_id": "item_check_1"}),
            Send({"type": "conversation.item.retrieve", "item_id": "item_check_1"}),
            Refused(),
        ),
    ),
    Row(
        id="items.delete_unknown",
        says="Deleting an item that does not exist is refused.",
        source=CLIENT,
        steps=(Send({"type": "conversation.item.delete", "item_id": "item_that_is_not"}), Refused()),
    ),
    Row(
        id="items.truncate_unknown",
        says="Truncating an item that does not exist is refused.",
        source=CLIENT,
        steps=(
            Send(
                {
                    "type": "conversation.item.truncate",
                    "item_id": "item_that_is_not",
                    "content_index": 0,
                    "audio_end_ms": 0,
                }
            ),
            Refused(),
        ),
    ),
    Row(
        id="items.wrong_content",
        says="A user's message with output_text is refused.",
        source=REFERENCE.format("items"),
        steps=(
            Send(
                {
                    "type": "conversation.item.create",
                    "item": {"type": "message", "role": "user", "content": [{"type": "output_text", "text": "Hi."}]},
                }
            ),
            Refused(("invalid_value", "invalid_type")),
        ),
        dialects=("ga",),
    ),
)
