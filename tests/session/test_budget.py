"""How much a conversation may keep: what is refused, what is heard and not kept, and what is given back."""

import gc
import json
import sys
import tracemalloc
from typing import Any

import pytest

from bridge.calls.registry import CallLimits, Registry
from bridge.calls.terms import Terms
from bridge.errors import BadEvent, UpstreamError
from bridge.session.budget import Budget, KeepLimits, size_of
from bridge.session.conversation import Conversation
from bridge.session.session import Session
from bridge.session.state import SessionState
from bridge.upstream.in_flight import InFlight
from bridge.upstream.pending import Pending
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.sessions import SessionConfig
from bridge.wire.stats import WEBSOCKET, ListenerRole
from tests.fakes import FakeSink, FakeUpstream

_KB = 1024


def _message(text: str, item_id: str = "item_a", role: Any = "user") -> items.Message:
    part = items.OutputText(text=text) if role == "assistant" else items.InputText(text=text)
    return items.Message(id=item_id, role=role, content=[part])


def _refusal(budget: Budget, size: int) -> str:
    with pytest.raises(BadEvent) as caught:
        budget.require(size)
    assert caught.value.code == "conversation_too_large"
    return caught.value.message


def test_a_part_is_taken_from_the_whole() -> None:
    """What one conversation keeps another cannot; the refusal says whose limit it is, and closing gives it back."""
    whole = Budget(100, what="All together")
    first, second = whole.part(80, what="The first"), whole.part(80, what="The second")
    first.charge(70)
    assert _refusal(first, 11).startswith("The first may keep 80 bytes, of which 10 are left")
    assert _refusal(second, 31).startswith("All together may keep 100 bytes, of which 30 are left")
    second.require(30)
    first.charge(20)  # what an upstream said is counted whether it fits or not
    assert (first.used_bytes, whole.used_bytes) == (90, 90)
    first.close()
    first.close()
    assert whole.used_bytes == 0
    first.charge(50)
    assert whole.used_bytes == 0


def test_room_for_answers() -> None:
    """A client does not get the last bytes: what is answered must be kept as well."""
    budget = Budget(8000, what="This conversation")
    budget.require(7000, spare=True)
    with pytest.raises(BadEvent):
        budget.require(7001, spare=True)
    budget.require(8000)


@pytest.mark.parametrize(
    ("item", "bytes_of_it"),
    [
        (_message("x" * 100 * _KB), 100 * _KB),
        (_message("я" * 100 * _KB), 200 * _KB),
        (_message("😀" * 100 * _KB), 400 * _KB),
        (items.Message(id="i", role="user", content=[items.InputAudio(audio="A" * 100 * _KB)]), 100 * _KB),
        (items.Message(id="i", role="user", content=[items.InputImage(image_url="d" * 100 * _KB)]), 100 * _KB),
        (items.FunctionCall(id="i", name="f", arguments="x" * 100 * _KB), 100 * _KB),
        (items.FunctionCallOutput(id="i", call_id="c", output="x" * 100 * _KB), 100 * _KB),
        (items.Message(id="i", role="user", content=[items.InputText(text=str(n)) for n in range(1000)]), 50 * _KB),
    ],
)
def test_size_is_what_it_takes_in_memory(item: items.Item, bytes_of_it: int) -> None:
    """Text by its widest letters, sound and pictures as they were sent, many small parts as many objects."""
    assert bytes_of_it <= size_of(item) <= 5 * bytes_of_it


def test_size_of_bodies() -> None:
    """Decoded JSON, at any depth, without recursion."""
    deep: Any = "x" * _KB
    for _ in range(10_000):
        deep = [deep]
    assert size_of(deep) > _KB
    assert size_of({"a" * _KB: ["b" * _KB, {"c": None, "d": 1.5}]}) > 2 * _KB


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ([0] * 30_000, 200_000, 3_000_000),
        ({f"k{number}": number for number in range(10_000)}, 500_000, 3_000_000),
        ([{"type": "input_text", "text": "a, b"}] * 5000, 500_000, 3_000_000),
        (["я" * 100] * 5000, 1_000_000, 3_000_000),
        (["😀" * 100, "a" * 100] * 2500, 1_250_000, 3_000_000),
        (["x" * 1_000_000, *["😀"] * 600], 1_000_000, 1_200_000),
        (['"' * 1_000_000, *["я"] * 600], 1_000_000, 1_200_000),
    ],
)
def test_size_of_many_values_is_estimated(value: Any, least: int, most: int) -> None:
    """By what their JSON says; no more than a few hundred of them are looked at one by one."""
    looked_at: list[object] = []

    def getsizeof(one: object) -> int:
        looked_at.append(one)
        return sys.getsizeof(one)

    assert least <= size_of(value, size_of_one=getsizeof) <= most
    assert len(looked_at) <= 500


def test_conversation_counts_what_it_keeps() -> None:
    """Items that are added, replaced, changed, deleted, or pushed out by newer ones."""
    budget = Budget(10_000_000, what="This conversation")
    conversation = Conversation(budget)
    item = _message("x" * 10_000)
    conversation.insert(item, None)
    assert 10_000 < budget.used_bytes < 11_000
    conversation.insert(item, None)
    assert 10_000 < budget.used_bytes < 11_000
    conversation.insert(_message("x" * 20_000), None)
    assert 20_000 < budget.used_bytes < 21_000
    conversation.insert(_message("x" * 5_000, "item_b"), "item_a")
    conversation.remove("item_a")
    assert 5_000 < budget.used_bytes < 6_000
    conversation.remove("item_b")
    conversation.remove("item_b")
    assert budget.used_bytes == 0
    for number in range(1000, 3100):
        conversation.insert(_message("x", f"item_{number}"), f"item_{number - 1}")
    full = budget.used_bytes
    conversation.insert(_message("x", "item_9999"), "item_3099")
    assert budget.used_bytes == full
    for kept in conversation.items():
        conversation.remove(str(kept.id))
    assert budget.used_bytes == 0


@pytest.mark.parametrize(
    "item",
    [
        _message("x" * 50_000),
        _message("x" * 50_000, role="assistant"),
        items.FunctionCall(id="item_a", call_id="c", name="f" * 1000, arguments="x" * 50_000),
        items.FunctionCallOutput(id="item_a", call_id="c", output="x" * 50_000),
        items.McpApprovalResponse(id="item_a", approval_request_id="a", approve=True, reason="x" * 50_000),
    ],
)
def test_an_item_that_does_not_fit(item: items.Item) -> None:
    """It stands in its place, under its id, without what makes it big; what was heard of it is not changed."""
    budget = Budget(20_000, what="This conversation")
    conversation = Conversation(budget)
    conversation.insert(_message("before", "item_0"), None)
    before = size_of(item)
    refusal = conversation.insert(item, "item_0")
    assert refusal is not None
    assert (refusal.code, refusal.param) == ("conversation_too_large", "item")
    assert [kept.id for kept in conversation.items()] == ["item_0", "item_a"]
    kept = conversation.find("item_a")
    assert type(kept) is type(item)
    assert size_of(kept) < 3000
    assert size_of(item) == before
    assert budget.used_bytes < 20_000


def test_an_id_that_is_none() -> None:
    """An upstream's item whose id is megabytes long is not kept at all."""
    conversation = Conversation(Budget(10_000_000))
    refusal = conversation.insert(_message("x", "i" * 1_000_000), None)
    assert refusal is not None
    assert refusal.param == "item.id"
    assert conversation.items() == []


def test_words_that_come_later_are_counted() -> None:
    """A transcript that does not fit is heard, and not kept."""
    budget = Budget(20_000, what="This conversation")
    state = SessionState(SessionConfig(), budget=budget)
    item = items.Message(id="item_a", role="user", content=[items.InputAudio()])
    state.follow(server.ConversationItemAdded(item=item))

    def transcribed(transcript: str) -> BadEvent | None:
        return state.follow(
            server.InputAudioTranscriptionCompleted(
                item_id="item_a", content_index=0, transcript=transcript, usage={"type": "duration", "seconds": 1}
            )
        )

    before = budget.used_bytes
    assert transcribed("x" * 5000) is None
    assert budget.used_bytes >= before + 5000
    assert transcribed("x" * 50_000) is not None
    assert budget.used_bytes < 20_000


def test_what_waits_for_an_answer_is_counted() -> None:
    """A client's event is kept until it is answered, refused, overtaken, or asked again of somebody else."""
    budget = Budget()
    pending = Pending(budget)
    create = {"type": "conversation.item.create", "event_id": "event_1", "item": {"id": "item_a", "text": "x" * 1000}}
    pending.sent(create, 0.0)
    assert budget.used_bytes > 1000
    pending.follow(server.ConversationItemAdded(item=_message("x")), answers_turns=False)
    assert budget.used_bytes == 0
    pending.sent(create, 0.0)
    pending.forget(1.0)
    assert budget.used_bytes == 0
    pending.sent({"type": "response.create", "event_id": "event_2", "instructions": "x" * 1000}, 0.0)
    response = items.Response(id="resp_1", output_modalities=["audio"])
    pending.follow(server.ResponseCreated(response=response), answers_turns=False)
    assert budget.used_bytes > 1000
    pending.follow(server.ResponseDone(response=response), answers_turns=False)
    assert budget.used_bytes == 0
    for number in range(1000):
        pending.sent({**create, "event_id": f"event_{number}"}, 0.0)
        answered = items.Response(id=f"resp_{number}", output_modalities=["audio"])
        pending.follow(server.ResponseCreated(response=answered), answers_turns=False)
    assert budget.used_bytes < 1_000_000
    assert len(pending.take_requests()) <= 512
    assert budget.used_bytes == 0


def _owed_of(count: int, *, delta: str) -> list[server.ServerEvent]:
    """What is still owed of so many responses of ten deltas, none of which was ended."""
    in_flight = InFlight()
    for number in range(count):
        response = items.Response(id=f"resp_{number}", output_modalities=["text"])
        in_flight.follow(server.ResponseCreated(response=response))
        ids: dict[str, Any] = {"response_id": f"resp_{number}", "output_index": 0}
        in_flight.follow(server.OutputItemAdded(**ids, item=_message("", f"item_{number}", "assistant")))
        part = items.ContentPart(type="text", text="")
        ids |= {"item_id": f"item_{number}", "content_index": 0}
        in_flight.follow(server.ContentPartAdded(**ids, part=part))
        for _ in range(10):
            in_flight.follow(server.OutputTextDelta(**ids, delta=delta))
    return in_flight.end(UpstreamError("It is gone."))


@pytest.mark.parametrize(("count", "least"), [(4, 4_000_000), (299, 4_000_000), (300, 0)])
def test_answers_without_end(count: int, least: int) -> None:
    """However much a server says in responses that it never ends, what is kept of it is bounded."""
    owed = _owed_of(count, delta="x" * 100_000)
    texts = [event.text for event in owed if isinstance(event, server.OutputTextDone)]
    assert least <= sum(map(sys.getsizeof, texts)) < 8 * 1024 * 1024


def test_responses_without_end() -> None:
    """However many responses a server begins, no more than the last 64 are brought to an end later."""
    owed = _owed_of(300, delta="x")
    ends = [event.response.id for event in owed if isinstance(event, server.ResponseDone)]
    assert ends == [f"resp_{number}" for number in range(300 - 64, 300)]


class _House:
    """A registry with narrow budgets."""

    def __init__(self) -> None:
        self.upstreams: list[FakeUpstream] = []
        keep = KeepLimits(of_conversation=100_000, of_key=150_000, of_process=220_000)
        self.registry = Registry(
            self._new_upstream,
            CallLimits(max_calls=5, max_listeners_per_call=3, call_limit_s=3600, keep=keep),
        )

    def _new_upstream(self, info: object) -> FakeUpstream:
        self.upstreams.append(FakeUpstream())
        return self.upstreams[-1]

    def open(self, key_id: str = "api") -> tuple[Session, FakeSink, Any]:
        session = self.registry.open(Terms(model="m", key_id=key_id), transport=WEBSOCKET)
        sink = FakeSink()
        return session, sink, session.audience.attach(sink, role=ListenerRole.OWNER)


def _create(size: int) -> str:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * size}]}
    return json.dumps({"type": "conversation.item.create", "event_id": "mine", "item": item})


async def test_a_client_is_told_what_does_not_fit() -> None:
    """An ``error`` event with its event's id; the upstream never hears of it, and the session lives on."""
    house = _House()
    async with house.registry:
        session, sink, owner = house.open()
        session.receive_client_text(owner, _create(1000))
        session.receive_client_text(owner, _create(200_000))
        [error] = sink.of_type("error")
        assert (error["error"]["code"], error["error"]["event_id"]) == ("conversation_too_large", "mine")
        session.receive_client_text(owner, json.dumps({"type": "response.create"}))
        assert [event.__class__.__name__ for event in house.upstreams[0].events] == [
            "ConversationItemCreate",
            "ResponseCreate",
        ]
        assert sink.closed is None


async def test_what_an_upstream_says_is_heard_all_the_same() -> None:
    """Its items reach every listener whole; an ``error`` says which of them are not kept; nothing grows."""
    house = _House()
    async with house.registry as registry:
        _, sink, _ = house.open()
        for number in range(20):
            added = server.ConversationItemAdded(item=_message("x" * 60_000, f"item_{number}"))
            house.upstreams[0].downstream.deliver_event(added)
        heard = sink.of_type("conversation.item.added")
        assert [len(event["item"]["content"][0]["text"]) for event in heard] == [60_000] * 20
        assert {error["error"]["code"] for error in sink.of_type("error")} == {"conversation_too_large"}
        assert len(sink.of_type("error")) == 19
        assert registry.budgets.used_bytes < 110_000


async def test_budgets_of_keys_and_of_the_process() -> None:
    """Conversations of one key share one budget, all share another; a call that ends gives back what it kept."""
    house = _House()
    async with house.registry as registry:

        def keep(number: int, size: int) -> bool:
            session, sink, owner = opened[number]
            item = _message("x" * size, "item_x")
            try:
                session.state.budget.require(size)
            except BadEvent:
                return False
            house.upstreams[number].downstream.deliver_event(server.ConversationItemAdded(item=item))
            return True

        opened = [house.open("key_1"), house.open("key_1"), house.open("key_2"), house.open("api")]
        assert keep(0, 90_000)
        assert not keep(1, 90_000)  # of the key's 150,000 that is too much
        assert keep(2, 90_000)
        assert not keep(3, 90_000)  # of the process's 220,000
        opened[0][0].close("hangup")
        assert keep(1, 90_000)
        for session, _, _ in opened:
            session.close("hangup")
        assert registry.budgets.used_bytes == 0
        assert registry.budgets.of_keys == {}


_DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": %s}}',
        '{"type": "session.update", "session": {"type": "realtime", "instructions": %s}}',
        '{"type": "input_audio_buffer.append", "audio": "!", "a": %s}',
        '{"type": "response.create", "response": {"metadata": {"a": %s}}}',
        '{"type": "unheard.of", "a": %s}',
        '{"type": "session.update", "a": ' + _DEEP + ', "b": %s}',
        "[%s]",
        "{%s",
    ],
)
@pytest.mark.parametrize("refused_by", ["session", "upstream", "budget"])
async def test_a_refused_event_is_gone_at_once(text: str, refused_by: str) -> None:
    """However long it was and whatever was wrong with it: no garbage collector has to come by."""
    house = _House()
    async with house.registry:
        session, _, owner = house.open()
        if refused_by == "upstream":
            house.upstreams[0].refusal = BadEvent("No.")
        elif refused_by == "budget":
            session.state.budget.charge(100_000)
        long = text % ('"' + "x" * 1_000_000 + '"')
        session.receive_client_text(owner, long)
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(10):
                session.receive_client_text(owner, long)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
        assert kept < 3_000_000
