"""Fan-out: everyone hears everything in order, and who is slow loses sound first, then the connection."""

import json

from msgspec import to_builtins

from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.hub import Hub
from bridge.session.fanout.listener import Listener, ListenerState
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import ConversationItemDeleted, InputAudioBufferCleared
from bridge.wire.stats import ListenerRole
from tests.fakes import FakeSink

AMPLE = Limits()


def control(name: str, size: int = 0) -> EncodedMessage:
    return EncodedMessage(json.dumps({"type": name, "padding": "x" * size}).encode())


def sound(name: str, audio_ms: int = 20, size: int = 0) -> EncodedMessage:
    return EncodedMessage(json.dumps({"type": name, "padding": "x" * size}).encode(), audio_ms=audio_ms)


def listen(*, room: int | None = None, limits: Limits = AMPLE) -> tuple[Listener, FakeSink]:
    sink = FakeSink(room)
    return Listener(sink, role=ListenerRole.CONTROLLER, limits=limits), sink


def listen_when_full(limits: Limits = AMPLE) -> tuple[Listener, FakeSink]:
    """A listener whose socket takes nothing until it is read."""
    sink = FakeSink(1000)
    listener = Listener(sink, role=ListenerRole.CONTROLLER, limits=limits)
    sink.fill()
    return listener, sink


def read_all(sink: FakeSink) -> list[str]:
    while sink.buffered_bytes:
        sink.read()
    sink.read()
    while sink.buffered_bytes:
        sink.read()
    return sink.types


# Fan-out


def test_everyone_hears_the_same_bytes_in_the_same_order() -> None:
    """An event is encoded once, and the same message object goes to every listener."""
    hub = Hub("sess_abc")
    listeners = [listen() for _ in range(3)]
    for listener, _ in listeners:
        hub.add_listener(listener)
    for number in range(10):
        hub.publish(ConversationItemDeleted(item_id=f"item_{number}"))
    first, *others = (sink for _, sink in listeners)
    assert [event["item_id"] for event in first.events] == [f"item_{number}" for number in range(10)]
    for other in others:
        assert all(a is b for a, b in zip(first.messages, other.messages, strict=True))


def test_events_are_numbered() -> None:
    """Each event has an id of its own, which begins alike within a session and otherwise not."""
    ids = []
    for session_id in ("sess_abcdefghijklmnop", "sess_zyxwvutsrqponmlk"):
        hub = Hub(session_id)
        listener, sink = listen()
        hub.add_listener(listener)
        for _ in range(3):
            hub.publish(InputAudioBufferCleared())
        ids += [event["event_id"] for event in sink.events]
    assert len(set(ids)) == 6
    assert ids[0] == "event_abcdefghijkl_1"
    assert ids[-1] == "event_zyxwvutsrqpo_3"


def test_one_is_told_what_concerns_only_it() -> None:
    """``tell`` reaches one listener, ``publish`` all, and nobody who has left or not yet come."""
    hub = Hub("sess_1")
    (one, one_sink), (two, two_sink) = listen(), listen()
    hub.add_listener(one)
    hub.publish(ConversationItemDeleted(item_id="before"))
    hub.add_listener(two)
    hub.tell(two, ConversationItemDeleted(item_id="told"))
    hub.publish(ConversationItemDeleted(item_id="both"))
    hub.remove(one)
    hub.remove(one)
    hub.publish(ConversationItemDeleted(item_id="after"))
    assert [event["item_id"] for event in one_sink.events] == ["before", "both"]
    assert [event["item_id"] for event in two_sink.events] == ["told", "both", "after"]


def test_a_slow_listener_hurts_nobody() -> None:
    """Beside one that reads nothing, and is closed for it, another gets everything at once."""
    hub = Hub("sess_1")
    slow, slow_sink = listen(room=2, limits=Limits(backlog_bytes=4096))
    quick, quick_sink = listen()
    hub.add_listener(slow)
    hub.add_listener(quick)
    for number in range(200):
        hub.publish(ConversationItemDeleted(item_id=f"item_{number}"))
    assert len(quick_sink.messages) == 200
    assert slow_sink.closed is not None
    assert quick_sink.closed is None


def test_a_listener_may_leave_in_the_middle_of_an_event() -> None:
    """Who is removed while an event goes out does not make another miss it."""
    hub = Hub("sess_1")
    leaver, stayer = FakeSink(), FakeSink()
    listeners = [Listener(sink, role=ListenerRole.CONTROLLER, limits=AMPLE) for sink in (leaver, stayer)]
    for listener in listeners:
        hub.add_listener(listener)

    class Leaving(FakeSink):
        def send_message(self, message: EncodedMessage) -> None:
            hub.remove(listeners[0])

    leaving = Listener(Leaving(), role=ListenerRole.CONTROLLER, limits=AMPLE)
    hub.listeners.insert(0, leaving)
    hub.publish(InputAudioBufferCleared())
    assert stayer.types == ["input_audio_buffer.cleared"]


# A full socket


def test_a_paused_listener_keeps_the_order() -> None:
    """Sound and control events wait together, and go out in the order in which they came."""
    listener, sink = listen_when_full()
    sent = [control(f"c{n}") if n % 3 else sound(f"s{n}") for n in range(12)]
    for message in sent:
        listener.deliver(message)
    assert sink.messages == []
    assert listener.backlog_bytes == sum(message.size for message in sent)
    read_all(sink)
    assert sink.messages == sent
    assert listener.backlog_bytes == 0


def test_resume_fills_the_socket_no_further_than_it_has_room() -> None:
    """The backlog goes out bit by bit, as the socket is read, and new events queue up behind it."""
    listener, sink = listen(room=3)
    for number in range(10):
        listener.deliver(control(f"c{number}"))
    assert sink.messages == []
    sink.read()
    assert sink.types == ["c0", "c1", "c2"]
    listener.deliver(control("c10"))
    sink.read()
    assert sink.types == [f"c{number}" for number in range(6)]
    assert read_all(sink) == [f"c{number}" for number in range(11)]
    listener.deliver(control("c11"))
    assert read_all(sink)[-1] == "c11"


def test_the_oldest_sound_goes_first_and_is_told() -> None:
    """Sound over the limit in ms is dropped from the oldest on; a report stands where it was."""
    listener, sink = listen_when_full(Limits(backlog_ms=60))
    for message in (control("c0"), sound("s0"), sound("s1"), control("c1"), sound("s2"), sound("s3"), control("c2")):
        listener.deliver(message)
    assert read_all(sink) == ["c0", "bridge.listener.dropped", "s1", "c1", "s2", "s3", "c2"]
    [report] = sink.of_type("bridge.listener.dropped")
    assert (report["events"], report["audio_ms"]) == (1, 20)
    assert report["event_id"].endswith("_dropped")
    assert (listener.dropped_events, listener.dropped_ms) == (1, 20)


def test_the_limit_in_bytes_counts_control_events_too() -> None:
    """When sound and control events together are too much, it is sound that goes."""
    listener, sink = listen_when_full(Limits(backlog_bytes=2000, backlog_ms=100_000))
    for number in range(10):
        listener.deliver(sound(f"s{number}", size=400))
    for number in range(3):
        listener.deliver(control(f"c{number}", size=400))
    assert listener.backlog_bytes <= 2000
    assert read_all(sink) == ["bridge.listener.dropped", "s9", "c0", "c1", "c2"]
    assert (listener.dropped_events, listener.dropped_ms) == (9, 180)


def test_sound_that_fits_by_no_means_is_dropped_alone() -> None:
    """One message over the limit is left out, and the rest lives."""
    listener, sink = listen_when_full(Limits(backlog_bytes=1000, backlog_ms=1000))
    listener.deliver(control("c0"))
    listener.deliver(sound("long", audio_ms=5000))
    listener.deliver(sound("large", size=5000))
    listener.deliver(sound("s0"))
    assert read_all(sink) == ["c0", "bridge.listener.dropped", "s0"]
    assert (listener.dropped_events, listener.dropped_ms) == (2, 5020)


def test_every_loss_is_told_once() -> None:
    """Reports add up to what was dropped, however often it happens."""
    listener, sink = listen(room=2, limits=Limits(backlog_ms=100))
    delivered = 0
    for burst in (5, 40, 3, 17, 60):
        for _ in range(burst):
            listener.deliver(sound(f"s{delivered}"))
            delivered += 1
        sink.read()
    read_all(sink)
    reports = sink.of_type("bridge.listener.dropped")
    assert sum(report["events"] for report in reports) == listener.dropped_events > 50
    assert sum(report["audio_ms"] for report in reports) == listener.dropped_ms == 20 * listener.dropped_events
    heard = [int(name[1:]) for name in sink.types if name.startswith("s")]
    assert heard == sorted(heard)
    assert len(heard) + listener.dropped_events == delivered


def test_a_report_comes_although_no_sound_is_left() -> None:
    """When all sound gave way to control events, the loss is told nevertheless."""
    listener, sink = listen_when_full(Limits(backlog_bytes=1000))
    listener.deliver(sound("s0", size=500))
    listener.deliver(control("c0", size=700))
    assert sorted(read_all(sink)) == ["bridge.listener.dropped", "c0"]


def test_control_events_are_never_dropped() -> None:
    """Up to the limit all of them wait; the first one that does not fit closes the listener with 1013."""
    listener, sink = listen_when_full(Limits(backlog_bytes=5000))
    size = control("c00", 400).size
    for number in range(5000 // size):
        listener.deliver(control(f"c{number:02}", 400))
        listener.deliver(sound("s", size=100))
    assert sink.closed is None
    listener.deliver(control("c99", 400))
    assert sink.closed is not None
    code, reason = sink.closed
    assert code == 1013
    assert "too slow" in reason
    assert len(reason.encode()) <= 123
    assert listener.state is ListenerState.CLOSED
    assert listener.backlog_bytes == 0


def test_a_call_that_ends_keeps_nothing_back() -> None:
    """What waits for a listener that is behind, or has asked for a pause, goes out before the goodbye."""
    listener, sink = listen_when_full()
    listener.hold()
    listener.deliver(sound("s0"))
    listener.deliver(control("c0"))
    listener.finish(1000, "done")
    assert read_all(sink) == ["s0", "c0"]
    assert sink.closed == (1000, "done")
    assert sink.sent_when_closed == 0
    assert listener.backlog_bytes == 0


def test_a_closed_listener_gets_nothing_more() -> None:
    """After a close nothing is sent or kept, not even if its socket finds room again."""
    listener, sink = listen_when_full()
    listener.deliver(control("c0"))
    listener.close(1000, "done")
    listener.close(1011, "again")
    listener.deliver(control("c1"))
    sink.read()
    listener.deliver(control("c2"))
    assert sink.closed == (1000, "done")
    assert sink.messages == []
    assert sink.sent_when_closed == 0
    assert listener.backlog_bytes == 0


def test_describe() -> None:
    """Figures for people: who, what it hears, and what it missed."""
    listener, _ = listen_when_full(Limits(backlog_ms=20))
    listener.deliver(sound("s0"))
    listener.deliver(sound("s1"))
    figures = to_builtins(listener.stats())
    assert figures == {
        "id": listener.id,
        "role": "controller",
        "dialect": "ga",
        "audio": "none",
        "chunk_ms": None,
        "chunk_size": None,
        "tracks": [],
        "events": None,
        "framing": "json",
        "is_held": False,
        "last_event_id": "",
        "backlog_bytes": sound("s1").size,
        "dropped_events": 1,
        "dropped_ms": 20,
    }
