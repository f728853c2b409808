"""Each listener has a codec: what is told is written once for each of them, whoever wants it, and read by it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.hub import Hub
from bridge.session.fanout.listener import Listener
from bridge.wire.audio import PCM16
from bridge.wire.choices import Choices
from bridge.wire.client_events import ClientMessage, OutputAudioBufferClear
from bridge.wire.codecs.codec import EncodedEvent, Opening
from bridge.wire.codecs.ga import GA, JsonSound
from bridge.wire.codecs.table import Codecs
from bridge.wire.items import InputText, Message
from bridge.wire.server_events import (
    Body,
    ConversationItemDeleted,
    ConversationItemDone,
    InputAudioBufferCleared,
    ServerEvent,
)
from bridge.wire.stats import Dialect, ListenerRole
from tests.fakes import FakeSink
from tests.session.stage import Stage


class Shouting:
    """A made-up protocol: names in capitals, and nothing but them. It stands in for beta, by whose name it goes."""

    dialect = Dialect.BETA

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def opening(self, opening: Opening) -> Iterator[tuple[ServerEvent, Body | None]]:
        return GA.opening(opening)

    def encode(self, event: ServerEvent | Body) -> EncodedEvent | None:
        kind = GA.encode(event).kind.upper()
        self.encoded.append(kind)
        return None if "CLEARED" in kind else EncodedEvent(kind, json.dumps({"type": kind}).encode())

    def decode(self, text: bytes | str) -> ClientMessage:
        return ClientMessage.of(OutputAudioBufferClear())

    def refused(self, message: ClientMessage) -> None:
        raise AssertionError

    def farewell(self) -> None:
        raise AssertionError

    def sound(self, track: str) -> JsonSound:
        return JsonSound("loud", "SOUND")


def shouting(count: int) -> tuple[Hub, Shouting, list[Listener], list[FakeSink]]:
    """A hub with so many listeners of one made-up codec."""
    hub, codec, sinks = Hub("sess_1"), Shouting(), [FakeSink() for _ in range(count)]
    listeners = [Listener(sink, role=ListenerRole.CONTROLLER, limits=Limits(), codec=codec) for sink in sinks]
    return hub, codec, listeners, sinks


def test_written_once_for_each_codec() -> None:
    """Three listeners of a made-up codec get the same message, of which its codec was asked once."""
    hub, codec, listeners, sinks = shouting(3)
    plain = FakeSink()
    hub.add_listener(Listener(plain, role=ListenerRole.CONTROLLER, limits=Limits()))
    for listener in listeners:
        hub.add_listener(listener)
    hub.publish(ConversationItemDeleted(item_id="item_1"))
    hub.publish(InputAudioBufferCleared())
    assert codec.encoded == ["CONVERSATION.ITEM.DELETED", "INPUT_AUDIO_BUFFER.CLEARED"]
    assert [sink.types for sink in sinks] == [["CONVERSATION.ITEM.DELETED"]] * 3
    assert sinks[0].messages[0] is sinks[2].messages[0]
    assert plain.types == ["conversation.item.deleted", "input_audio_buffer.cleared"]


def test_nobody_is_asked_who_is_not_there() -> None:
    """A codec that nobody speaks yet writes nothing."""
    hub, codec, (listener,), _ = shouting(1)
    hub.publish(ConversationItemDeleted(item_id="item_1"))
    assert codec.encoded == []
    hub.add_listener(listener)
    hub.remove(listener)
    hub.publish(ConversationItemDeleted(item_id="item_2"))
    assert codec.encoded == ["CONVERSATION.ITEM.DELETED"], "it may come back"


def test_a_codec_has_a_name_for_the_report_of_what_was_dropped() -> None:
    """What a listener has missed it is told in its own protocol."""
    _, _, (listener,), (sink,) = shouting(1)
    listener.hold()
    sound = GA.sound("input").writer("input", PCM16, "s_", None)
    for number in range(400):
        listener.deliver(sound.encode_sound(number, 0, bytes(96), 20))
    listener.release()
    assert sink.types[0] == "BRIDGE.LISTENER.DROPPED"


@pytest.mark.parametrize("dialect", [Dialect.GA, Dialect.BETA])
def test_a_dialect_that_comes_late(dialect: Dialect) -> None:
    """Who goes on in a dialect that nobody has spoken until then gets all that it has missed, in that dialect."""
    stage = Stage()
    _, sink = stage.attach("owner")
    after = sink.events[0]["event_id"]
    item = Message(id="item_1", role="user", content=[InputText(text="Hi")])
    stage.upstream.downstream.deliver_event(ConversationItemDone(item=item, previous_item_id=None))
    stage.upstream.downstream.deliver_event(ConversationItemDeleted(item_id="item_1"))
    late = FakeSink()
    choices = Choices(after=after)
    stage.session.audience.attach(late, role=ListenerRole.CONTROLLER, dialect=dialect, choices=choices)
    told: dict[Dialect, list[Any]] = {
        Dialect.GA: ["conversation.item.done", "conversation.item.deleted"],
        Dialect.BETA: ["conversation.item.deleted"],
        Dialect.LIVE: [],  # the room ``live`` tells these clients what it means to them
    }
    assert late.types == told[dialect]


def test_a_call_has_one_codec_of_each_dialect() -> None:
    """What one beta client sets, the others of its call see; those of another call do not."""
    metadata: dict[str, str] = {}
    codecs, others = Codecs(metadata, temperature=0.7), Codecs()
    beta = codecs.of(Dialect.BETA)
    assert codecs.of(Dialect.BETA) is beta
    assert others.of(Dialect.BETA) is not beta
    assert codecs.of(Dialect.GA) is others.of(Dialect.GA)
    beta.decode('{"type": "session.update", "session": {"metadata": {"a": "b"}}}')
    assert metadata == {"a": "b"}
