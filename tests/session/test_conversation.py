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


def add(conversation: Conversation, item: Item, after: str | None = None) -> str | None:
    """As an upstream does: ask for the place, then stand there."""
    previous = conversation.place(item, after=after)
    conversation.insert(item, previous)
    return previous


def refusal(conversation: Conversation, item: Item, after: str | None = None) -> BadEvent:
    with pytest.raises(BadEvent) as caught:
        conversation.place(item, after=after)
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
        add(conversation, item)
        assert str(item.id).startswith("item_")
        assert (item.object, item.status) == ("realtime.item", "completed")
    assert str(call.call_id).startswith("call_")
    assert conversation.id.startswith("conv_")


def test_what_a_client_gives_is_kept() -> None:
    """An id, status and call_id of the client's own stay."""
    item = FunctionCall(id="item_mine", status="incomplete", call_id="call_mine", name="f", arguments="{}")
    conversation = Conversation()
    add(conversation, item)
    assert (item.id, item.status, item.call_id) == ("item_mine", "incomplete", "call_mine")
    assert conversation.find("item_mine") is item


def test_order() -> None:
    """Items stand at the end, in front, or behind the one that is named; each says which it follows."""
    conversation = Conversation()
    assert conversation.last_item_id is None
    assert add(conversation, message(id="b")) is None
    assert add(conversation, message(id="d")) == "b"
    assert add(conversation, message(id="a"), after="root") is None
    assert add(conversation, message(id="c"), after="b") == "b"
    assert add(conversation, message(id="e"), after="d") == "d"
    assert ids(conversation) == ["a", "b", "c", "d", "e"]
    assert conversation.last_item_id == "e"


def test_delete() -> None:
    """A deleted item is gone, its neighbours close up, and its id may be used again."""
    conversation = Conversation()
    for name in "abc":
        add(conversation, message(id=name))
    conversation.remove("b")
    assert ids(conversation) == ["a", "c"]
    assert add(conversation, message(id="b"), after="c") == "c"
    for name in "acb":
        conversation.remove(name)
    assert conversation.last_item_id is None


def test_an_unknown_item() -> None:
    """What is not there is refused by name; that it is gone needs no saying twice."""
    conversation = Conversation()
    with pytest.raises(BadEvent, match="item_none") as caught:
        conversation.find("item_none")
    assert caught.value.param == "item_id"
    assert conversation.get("item_none") is None
    conversation.remove("item_none")


def test_anothers_items_are_taken_as_they_come() -> None:
    """What another server says stands where it says: replaced by its id, last behind an unknown one, and bounded."""
    conversation = Conversation()
    for name, previous in (("b", "nobody"), ("a", None), ("d", "b"), ("c", "b")):
        conversation.insert(message(id=name), previous)
    conversation.insert(message("later", id="b"), None)
    assert ids(conversation) == ["a", "b", "c", "d"]
    assert conversation.find("b") == message("later", id="b")
    for number in range(2000):
        conversation.insert(message(id=f"item_{number}"), conversation.last_item_id)
    assert ids(conversation) == [f"item_{number}" for number in range(2000)]


def test_an_item_in_front_of_a_full_conversation() -> None:
    """It takes the place of the oldest one, and is not dropped itself."""
    conversation = Conversation()
    for number in range(2000):
        conversation.insert(message(id=f"item_{number}"), f"item_{number - 1}")
    for name in ("item_front", "item_next"):
        assert conversation.insert(message(id=name), None) is None
        assert ids(conversation)[0] == name
        assert len(ids(conversation)) == 2000


def test_refusals_change_nothing() -> None:
    """A second item of one id, and one behind an unknown one, are refused and leave no trace."""
    conversation = Conversation()
    add(conversation, message(id="a"))
    assert refusal(conversation, message(id="a")).param == "item.id"
    assert refusal(conversation, message(id="b"), after="nobody").param == "previous_item_id"
    assert ids(conversation) == ["a"]
    add(conversation, message(id="b"))


def test_the_number_of_items_is_bounded() -> None:
    """The item over the limit is refused, until one is deleted."""
    conversation = Conversation()
    for number in range(2000):
        add(conversation, message(id=f"item_{number}"))
    assert "2000 items" in refusal(conversation, message()).message
    conversation.remove("item_7")
    assert add(conversation, message()) == "item_1999"
