"""The items of a conversation and their order."""

import pytest

from bridge.errors import BadEvent
from bridge.session.conversation import Conversation
from bridge.wire.items import FunctionCall, FunctionCallOutput, InputText, Item, Message


def message(text: str = "hi", **fields: str) -> Message:
    item = Message(role="user", content=[InputText(text=text)])
    if "id" in fields:
        item.id = fields["id"]
    return item


def ids(conversation: Conversation) -> list[object]:
    return [item.id for item in conversation.items()]


def refusal(conversation: Conversation, item: Item, after: str | None = None) -> BadEvent:
    with pytest.raises(BadEvent) as caught:
        conversation.add(item, after=after)
    return caught.value


def test_an_item_is_made_complete() -> None:
    """What a client leaves out is filled in: id, object, status, and a function call's call_id."""
    conversation = Conversation()
    plain, call, output = (
        message(),
        FunctionCall(name="f", arguments="{}"),
        FunctionCallOutput(call_id="call_1", output=""),
    )
    for item in (plain, call, output):
        conversation.add(item)
        assert str(item.id).startswith("item_")
        assert (item.object, item.status) == ("realtime.item", "completed")
    assert str(call.call_id).startswith("call_")
    assert conversation.id.startswith("conv_")


def test_what_a_client_gives_is_kept() -> None:
    """An id, status and call_id of the client's own stay."""
    item = FunctionCall(id="item_mine", status="incomplete", call_id="call_mine", name="f", arguments="{}")
    conversation = Conversation()
    conversation.add(item)
    assert (item.id, item.status, item.call_id) == ("item_mine", "incomplete", "call_mine")
    assert conversation.find("item_mine") is item


def test_order() -> None:
    """Items stand at the end, in front, or behind the one that is named; each says which it follows."""
    conversation = Conversation()
    assert conversation.last_item_id is None
    assert conversation.add(message(id="b")) is None
    assert conversation.add(message(id="d")) == "b"
    assert conversation.add(message(id="a"), after="root") is None
    assert conversation.add(message(id="c"), after="b") == "b"
    assert conversation.add(message(id="e"), after="d") == "d"
    assert ids(conversation) == ["a", "b", "c", "d", "e"]
    assert conversation.last_item_id == "e"


def test_delete() -> None:
    """A deleted item is gone, its neighbours close up, and its id may be used again."""
    conversation = Conversation()
    for name in "abc":
        conversation.add(message(id=name))
    conversation.delete("b")
    assert ids(conversation) == ["a", "c"]
    assert conversation.add(message(id="b"), after="c") == "c"
    for name in "acb":
        conversation.delete(name)
    assert conversation.last_item_id is None


@pytest.mark.parametrize("operation", ["find", "delete"])
def test_an_unknown_item(operation: str) -> None:
    """What is not there is refused by name."""
    with pytest.raises(BadEvent, match="item_none") as caught:
        getattr(Conversation(), operation)("item_none")
    assert caught.value.param == "item_id"


def test_refusals_change_nothing() -> None:
    """A second item of one id, and one behind an unknown one, are refused and leave no trace."""
    conversation = Conversation()
    conversation.add(message(id="a"))
    assert refusal(conversation, message(id="a")).param == "item.id"
    assert refusal(conversation, message(id="b"), after="nobody").param == "previous_item_id"
    assert ids(conversation) == ["a"]
    conversation.add(message(id="b"))


def test_the_number_of_items_is_bounded() -> None:
    """The item over the limit is refused, until one is deleted."""
    conversation = Conversation()
    for number in range(2000):
        conversation.add(message(id=f"item_{number}"))
    assert "2000 items" in refusal(conversation, message()).message
    conversation.delete("item_7")
    assert conversation.add(message()) == "item_1999"
