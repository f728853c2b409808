"""Listeners with choices: tracks, chunks, framing, filters; pauses and marks; and those who come back."""

import base64
import json

import numpy as np
import pytest
from msgspec import to_builtins

from bridge.errors import BadRequest, ResumeGap
from bridge.media.convert import SoundEncoder
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.listener import Listener
from bridge.wire import own_events as own
from bridge.wire import server_events as server
from bridge.wire.audio import G711_ULAW, OPUS, PCM16, AudioFormat, pcm16_at, stereo_at
from bridge.wire.binary import BinarySound, unpack_sound
from bridge.wire.choices import Choices, EventFilter
from bridge.wire.message import EncodedMessage
from bridge.wire.stats import CallResult, Dialect, Framing, ListenerRole
from tests.fakes import FakeSink, JsonEvent
from tests.sdk.every_event import every_server_event
from tests.session.stage import MS, PART, Call, Stage


def join(
    stage: Stage, choices: Choices, *, role: str = "controller", dialect: Dialect = Dialect.GA, room: int | None = None
) -> tuple[Listener, FakeSink]:
    sink = FakeSink(room)
    return stage.session.audience.attach(sink, role=ListenerRole(role), dialect=dialect, choices=choices), sink


def frames(sink: FakeSink) -> list[BinarySound]:
    return [unpack_sound(message.payload) for message in sink.messages if message.is_binary]


def lengths_ms(sink: FakeSink, name: str, field: str, audio_format: AudioFormat) -> list[float]:
    return [len(base64.b64decode(event[field])) / audio_format.bytes_per_ms for event in sink.of_type(name)]


def ids(sink: FakeSink) -> list[str]:
    return [message.event_id for message in sink.messages]


def happen(call: Call, speech: bytes, times: int = 1) -> None:
    """Something of everything: both sides' sound, and events between them."""
    for number in range(times):
        for at in range(0, 200 * MS, 20 * MS):
            call.leg.speak(speech[at : at + 20 * MS])
        call.upstream.downstream.deliver_event(server.InputAudioBufferCommitted(item_id=f"item_{number}"))
        call.answer(speech[: 600 * MS])
        call.finish_answer()


# Tracks, chunks, framing


@pytest.mark.parametrize("track", ["input", "output"])
def test_one_track(track: str, speech_pcm: bytes) -> None:
    """Who asks for one side's sound hears that side, and nothing of the other."""
    call = Call().connect()
    _, sink = join(call, Choices(audio=PCM16, tracks=(track,)))
    happen(call, speech_pcm)
    assert bool(sink.of_type("input_audio_buffer.append")) is (track == "input")
    assert bool(sink.of_type("response.output_audio.delta")) is (track == "output")


@pytest.mark.parametrize("audio_format", [PCM16, G711_ULAW, pcm16_at(16_000)], ids=lambda each: each.name)
@pytest.mark.parametrize("chunk_ms", [20, 60, 333])
def test_chunks_are_as_long_as_asked(audio_format: AudioFormat, chunk_ms: int, speech_pcm: bytes) -> None:
    """Every event carries just so much, but for the last of a part and of the call; together they are all of it."""
    call = Call().connect()
    _, sink = join(call, Choices(audio=audio_format, chunk_ms=chunk_ms))
    for at in range(0, 1000 * MS, 20 * MS):
        call.leg.speak(speech_pcm[at : at + 20 * MS])
    call.answer(speech_pcm[: 1000 * MS])
    call.finish_answer()
    call.session.close("hangup")
    for name, field in (("input_audio_buffer.append", "audio"), ("response.output_audio.delta", "delta")):
        *whole, rest = lengths_ms(sink, name, field, audio_format)
        assert set(whole) == {chunk_ms}
        assert 0 < rest <= chunk_ms
        assert sum(whole) + rest == pytest.approx(1000, abs=0.2)
        assert len({event["event_id"] for event in sink.of_type(name)}) == len(whole) + 1


@pytest.mark.parametrize("size", [1024, 2048, 4096])
def test_chunks_by_bytes(size: int, speech_pcm: bytes) -> None:
    """Every event carries just so many bytes, but for the last one; nothing is lost, and ids tell the streams apart."""
    call = Call().connect()
    _, sink = join(call, Choices(audio=PCM16, chunk_size=size))
    _, other = join(call, Choices(audio=PCM16))
    sound = speech_pcm[: 500 * MS]
    for at in range(0, len(sound), 20 * MS):
        call.leg.speak(sound[at : at + 20 * MS])
    call.session.close("hangup")
    appended = sink.of_type("input_audio_buffer.append")
    *whole, rest = (base64.b64decode(event["audio"]) for event in appended)
    assert {len(chunk) for chunk in whole} == {size}
    assert b"".join(whole) + rest == sound
    ids = {event["event_id"] for event in other.of_type("input_audio_buffer.append")}
    assert not ids & {event["event_id"] for event in appended}


@pytest.mark.parametrize("rate_hz", [8000, 24_000])
def test_two_channels_are_alike(rate_hz: int, speech_pcm: bytes) -> None:
    """Left and right are what a listener to one channel hears."""
    call = Call().connect()
    _, stereo = join(call, Choices(audio=stereo_at(rate_hz), chunk_ms=20))
    _, mono = join(call, Choices(audio=pcm16_at(rate_hz), chunk_ms=20))
    for at in range(0, 500 * MS, 20 * MS):
        call.leg.speak(speech_pcm[at : at + 20 * MS])
    call.session.close("hangup")
    both, one = (
        np.frombuffer(b"".join(base64.b64decode(e["audio"]) for e in sink.of_type("input_audio_buffer.append")), "<i2")
        for sink in (stereo, mono)
    )
    assert both[::2].tolist() == both[1::2].tolist() == one.tolist()
    assert one.any()


def test_44100_hz(speech_pcm: bytes) -> None:
    """Chunks are whole samples, together as long as what was said, and binary messages count them without a gap."""
    call = Call().connect()
    cd = pcm16_at(44_100)
    _, sink = join(call, Choices(audio=cd, framing=Framing.BINARY, chunk_ms=25, tracks=("input",)))
    for at in range(0, 1000 * MS, 20 * MS):
        call.leg.speak(speech_pcm[at : at + 20 * MS])
    _, late = join(call, Choices(audio=cd, framing=Framing.BINARY, tracks=("input",)))
    call.leg.speak(speech_pcm[: 20 * MS])
    call.session.close("hangup")
    *whole, rest = frames(sink)
    assert {(frame.audio_format, len(frame.sound)) for frame in whole} == {(cd, 2 * 1102)}
    starts = [frame.timestamp for frame in (*whole, rest)]
    assert starts == [1102 * number for number in range(len(starts))]
    assert starts[-1] + len(rest.sound) // 2 == 1020 * 441 // 10
    assert frames(late)[0].timestamp == 44_100
    expected = SoundEncoder(cd).push(speech_pcm[: 900 * MS])
    assert b"".join(frame.sound for frame in whole).startswith(expected)


def test_chunks_do_not_run_across_parts(speech_pcm: bytes) -> None:
    """A delta belongs to one part: what is left of one goes out before the next begins."""
    stage = Stage()
    _, sink = join(stage, Choices(audio=PCM16, chunk_ms=150))
    stage.answer(speech_pcm[: 200 * MS])
    stage.finish_answer()
    stage.answer(speech_pcm[: 200 * MS], type(PART)("resp_1", "item_2", 0, 0))
    stage.finish_answer()
    deltas = sink.of_type("response.output_audio.delta")
    assert [event["item_id"] for event in deltas] == ["item_1", "item_1", "item_2", "item_2"]
    assert lengths_ms(sink, "response.output_audio.delta", "delta", PCM16) == [150, 50, 150, 50]


def test_binary_framing(speech_pcm: bytes) -> None:
    """Sound in binary messages says where it belongs in its track; control events stay JSON."""
    call = Call().connect()
    happen(call, speech_pcm)
    _, sink = join(call, Choices(audio=pcm16_at(8000), framing=Framing.BINARY, chunk_ms=100))
    happen(call, speech_pcm)
    call.session.close("hangup")
    assert {"session.created", "response.done"} <= set(sink.types)
    assert "input_audio_buffer.append" not in sink.types
    for track, before_ms, came_ms in (("input", 200, 200), ("output", 600, 600)):
        heard = [frame for frame in frames(sink) if frame.track == track]
        assert [frame.sequence for frame in heard] == list(range(1, len(heard) + 1))
        timestamp = 8 * before_ms
        for frame in heard:
            assert frame.timestamp == timestamp
            timestamp += len(frame.sound) // 2
        assert timestamp == pytest.approx(8 * (before_ms + came_ms), abs=2)
        expected = SoundEncoder(pcm16_at(8000))
        whole = expected.push(speech_pcm[: came_ms * MS]) + expected.flush()
        assert b"".join(frame.sound for frame in heard) == whole


def test_a_binary_message_has_an_id_too(speech_pcm: bytes) -> None:
    """Made of what its listener knows, so that it can go on behind it: an event's beginning, choices, a number."""
    call = Call().connect()
    _, sink = join(call, Choices(audio=pcm16_at(8000), framing=Framing.BINARY, chunk_ms=60, tracks=("input",)))
    happen(call, speech_pcm)
    head = str(sink.events[0]["event_id"]).rpartition("_")[0]
    third = frames(sink)[2]
    after = f"{head}_{third.track}_pcm16_8000_60ms_binary_{third.sequence}"
    _, again = join(
        call, Choices(audio=pcm16_at(8000), framing=Framing.BINARY, chunk_ms=60, tracks=("input",), after=after)
    )
    assert frames(again)[: len(frames(sink)) - 3] == frames(sink)[3:]


def test_those_who_want_the_same_get_the_same_message(speech_pcm: bytes) -> None:
    """Whatever they have chosen, nothing is made twice for two who have chosen alike."""
    call = Call().connect()
    for choices in (
        Choices(audio=PCM16),
        Choices(audio=PCM16, chunk_ms=60),
        Choices(audio=G711_ULAW, framing=Framing.BINARY),
        Choices(audio=PCM16, tracks=("output",)),
    ):
        sinks = [join(call, choices)[1] for _ in range(2)]
        happen(call, speech_pcm)
        first, second = (sink.messages[1:] for sink in sinks)
        assert len(first) > 5
        assert all(a is b for a, b in zip(first, second, strict=True))


# Filters


def test_only_the_events_that_were_chosen(speech_pcm: bytes) -> None:
    """The filter is for what everybody hears; what is told to this one alone always comes, and sound goes by itself."""
    call = Call().connect()
    listener, sink = join(call, Choices(audio=PCM16, tracks=("input",), events=EventFilter(["response.done"])))
    happen(call, speech_pcm)
    call.send(listener, {"type": "nonsense"})
    kinds = list(dict.fromkeys(sink.types))
    assert kinds == ["session.created", "input_audio_buffer.append", "response.done", "error"]


def test_a_beta_listener_names_beta_events() -> None:
    """The filter speaks the listener's dialect."""
    stage = Stage()
    _, sink = join(stage, Choices(events=EventFilter(["conversation.item.created"])), dialect=Dialect.BETA)
    stage.upstream.downstream.deliver_event(every_server_event()["conversation.item.added"])
    stage.upstream.downstream.deliver_event(server.InputAudioBufferCleared())
    assert sink.types == ["session.created", "conversation.created", "conversation.item.created"]


# Pauses


@pytest.mark.parametrize("dialect", [Dialect.GA, Dialect.BETA])
@pytest.mark.parametrize("role", ["controller", "observer"])
def test_a_pause_holds_everything_back(role: str, dialect: Dialect) -> None:
    """Between ``bridge.flow.pause`` and ``bridge.flow.resume`` nothing comes, and then all of it, in order."""
    stage = Stage()
    listener, sink = join(stage, Choices(), role=role, dialect=dialect)
    sink.forget()
    stage.send(listener, {"type": "bridge.flow.pause"})
    for number in range(5):
        stage.upstream.downstream.deliver_event(server.ConversationItemDeleted(item_id=f"item_{number}"))
    assert sink.messages == []
    assert to_builtins(listener.stats())["is_held"] is True
    stage.send(listener, {"type": "bridge.flow.resume"})
    assert [event["item_id"] for event in sink.events] == [f"item_{number}" for number in range(5)]
    stage.upstream.downstream.deliver_event(server.ConversationItemDeleted(item_id="item_5"))
    assert sink.events[-1]["item_id"] == "item_5"
    assert stage.upstream.events == []


def test_a_pause_has_the_limits_of_any_backlog(speech_pcm: bytes) -> None:
    """Sound beyond the limit is dropped, oldest first, and that is told."""
    stage = Stage(limits=Limits(backlog_ms=100))
    stage.attach("owner")
    listener, sink = join(stage, Choices(audio=PCM16))
    stage.send(listener, {"type": "bridge.flow.pause"})
    for at in range(0, 300 * MS, 20 * MS):
        stage.speak(speech_pcm[at : at + 20 * MS])
    stage.send(listener, {"type": "bridge.flow.resume"})
    [report] = sink.of_type("bridge.listener.dropped")
    assert (report["events"], report["audio_ms"]) == (10, 200)
    assert len(sink.of_type("input_audio_buffer.append")) == 5
    _, again = join(stage, Choices(audio=PCM16, after=report["event_id"]))
    assert len(again.of_type("input_audio_buffer.append")) == 15  # what was dropped is kept for those who come back


def test_a_full_socket_and_a_pause_both_count() -> None:
    """Only when the client goes on and its socket has room do events come."""
    stage = Stage()
    listener, sink = join(stage, Choices(), room=1)
    sink.read()
    stage.send(listener, {"type": "bridge.flow.pause"})
    sink.fill()
    stage.upstream.downstream.deliver_event(server.InputAudioBufferCleared())
    stage.send(listener, {"type": "bridge.flow.resume"})
    assert sink.types == ["session.created"]
    sink.read()
    sink.read()
    assert sink.types == ["session.created", "input_audio_buffer.cleared"]


# Marks


def mark(name: str) -> JsonEvent:
    return {"type": "bridge.mark", "name": name}


@pytest.mark.parametrize("dialect", [Dialect.GA, Dialect.BETA])
def test_a_mark_comes_back_when_the_sound_before_it_was_played(dialect: Dialect) -> None:
    """Not sooner; to the one who set it; at once where nothing is left to play."""
    call = Call().connect()
    listener, sink = join(call, Choices(), dialect=dialect)
    _, other = join(call, Choices())
    call.send(listener, mark("nothing yet"))
    call.answer(bytes(400 * MS))
    call.send(listener, mark("first"))
    call.answer(bytes(400 * MS))
    call.send(listener, mark("second"))
    call.finish_answer()

    def reached() -> list[tuple[str, str]]:
        return [(event["name"], event["status"]) for event in sink.of_type("bridge.mark")]

    assert reached() == [("nothing yet", "played")]
    call.leg.hear(399)
    assert len(reached()) == 1
    call.leg.hear(2)
    assert reached()[1:] == [("first", "played")]
    call.leg.hear(500)
    assert reached()[2:] == [("second", "played")]
    assert sink.types.index("output_audio_buffer.stopped") > sink.types.index("bridge.mark")
    assert other.of_type("bridge.mark") == []


def test_a_mark_behind_sound_that_was_cut_comes_back_as_cleared() -> None:
    """The sound before it will never be played; the mark says so at once."""
    call = Call().connect()
    listener, sink = join(call, Choices())
    call.answer(bytes(400 * MS))
    call.send(listener, mark("here"))
    call.leg.hear(100)
    call.interrupt()
    [event] = sink.of_type("bridge.mark")
    assert (event["name"], event["status"]) == ("here", "cleared")
    call.answer(bytes(400 * MS), type(PART)("resp_2", "item_2", 0, 0))
    call.leg.hear(1000)
    assert len(sink.of_type("bridge.mark")) == 1


def test_marks_have_limits() -> None:
    """Where the client plays there are none, and not more than a thousand wait."""
    stage = Stage()
    owner, owner_sink = stage.attach("owner")
    stage.send(owner, mark("here"))
    assert owner_sink.of_type("error")[0]["error"]["param"] == "type"
    call = Call().connect()
    listener, sink = join(call, Choices())
    call.answer(bytes(400 * MS))
    for _ in range(1001):
        call.send(listener, mark("again"))
    assert len(sink.of_type("error")) == 1


# Those who come back


def broken(call: Call, choices: Choices, speech: bytes, *, dialect: Dialect = Dialect.GA) -> list[EncodedMessage]:
    """What a listener gets that breaks off after every few events and comes back each time, in its order."""
    had: list[EncodedMessage] = []
    reads = 3
    listener, sink = join(call, choices, dialect=dialect)
    for _ in range(6):
        happen(call, speech)
        had += sink.messages[:reads]
        call.session.detach(listener)
        happen(call, speech)
        reads += 7
        again = Choices(**{field: getattr(choices, field) for field in choices.__slots__} | {"after": had[-1].event_id})
        listener, sink = join(call, again, dialect=dialect)
    return had + sink.messages


@pytest.mark.parametrize("dialect", [Dialect.GA, Dialect.BETA])
@pytest.mark.parametrize(
    "choices",
    [
        Choices(),
        Choices(audio=PCM16),
        Choices(audio=G711_ULAW, chunk_ms=60),
        Choices(audio=pcm16_at(8000), framing=Framing.BINARY, tracks=("input",)),
        Choices(audio=PCM16, events=EventFilter(["response"])),
        Choices(audio=OPUS),
    ],
    ids=["control", "pcm16", "chunks", "binary", "filtered", "opus"],
)
def test_who_comes_back_misses_nothing_and_gets_nothing_twice(
    choices: Choices, dialect: Dialect, speech_pcm: bytes
) -> None:
    """However often a connection breaks, with ``after`` the events add up to those of one that never did."""
    call = Call(limits=Limits(replay_bytes=4_000_000)).connect()
    _, steady = join(call, choices, dialect=dialect)
    told = len(steady.messages)
    had = broken(call, choices, speech_pcm, dialect=dialect)
    everything = [(message.event_id, message.payload) for message in steady.messages[told:]]
    assert len(everything) > 20
    told_to_all = {event_id for event_id, _ in everything}
    assert [(message.event_id, message.payload) for message in had if message.event_id in told_to_all] == everything
    extra = [message for message in had if message.event_id not in told_to_all]
    assert len(extra) == told  # its own session.created, once


def test_sound_of_the_last_seconds_is_kept(speech_pcm: bytes) -> None:
    """Who comes back gets the sound of the time that the settings name, however much of it there was before."""
    call = Call(limits=Limits(replay_s=2.0)).connect()
    listener, sink = join(call, Choices(audio=PCM16, tracks=("input",)))
    for _ in range(500):
        call.clock.now += 0.02
        call.leg.speak(speech_pcm[: 20 * MS])
    call.session.detach(listener)
    first, *_ = (event_id for event_id in ids(sink) if "_input_" in event_id)
    _, again = join(call, Choices(audio=PCM16, tracks=("input",), after=first))
    assert 99 <= len(again.messages) <= 126, "half a second goes at a time"
    assert [message.payload for message in again.messages] == [
        message.payload for message in sink.messages[-len(again.messages) :]
    ]


def test_a_stream_is_kept_up_for_its_only_listener(speech_pcm: bytes) -> None:
    """Sound that nobody else wants is made on for ten seconds; then it is not, and a number is left out."""
    call = Call().connect()
    listener, sink = join(call, Choices(audio=G711_ULAW, tracks=("input",)))

    def speak_s(seconds: int) -> None:
        for _ in range(seconds * 50):
            call.leg.speak(speech_pcm[: 20 * MS])

    speak_s(1)
    call.session.detach(listener)
    last = ids(sink)[-1]
    speak_s(9)
    listener, sink = join(call, Choices(audio=G711_ULAW, tracks=("input",), after=last))
    assert len(sink.messages) == 450
    call.session.detach(listener)
    speak_s(11)
    last = ids(sink)[-1]
    _, sink = join(call, Choices(audio=G711_ULAW, tracks=("input",), after=last))
    call.leg.speak(speech_pcm[: 20 * MS])
    numbers = [int(event_id.rpartition("_")[2]) for event_id in ids(sink)]
    assert numbers[:-1] == list(range(501, numbers[-2] + 1))
    assert 500 <= len(numbers) - 1 <= 510
    assert numbers[-1] == numbers[-2] + 2


def test_who_cannot_go_on_is_told_why() -> None:
    """Too old or never there: an error of its own each, and no listener is left behind."""
    call = Call(limits=Limits(replay_bytes=1000)).connect()
    first = ids(call.channel)[0]
    for number in range(50):
        call.upstream.downstream.deliver_event(server.ConversationItemDeleted(item_id=f"item_{number}"))
    with pytest.raises(ResumeGap):
        join(call, Choices(audio=PCM16, after=first))
    with pytest.raises(BadRequest):
        join(call, Choices(audio=PCM16, after="event_other_1"))
    assert [listener.role for listener in call.session.audience.hub.listeners] == ["peer"]


def test_the_id_in_the_reason_is_that_of_the_last_event_sent() -> None:
    """A listener that is closed because its control events do not fit may go on behind that one, and misses none."""
    stage = Stage(limits=Limits(backlog_bytes=4096))
    _, slow = join(stage, Choices(), room=20)
    _, steady = join(stage, Choices())
    for number in range(200):
        stage.upstream.downstream.deliver_event(server.ConversationItemDeleted(item_id=f"item_{number}"))
    assert slow.closed is not None
    code, reason = slow.closed
    assert code == 1013
    last = reason.rpartition(" ")[2]
    _, sink = join(stage, Choices(after=last))
    slow.read()
    assert ids(slow)[-1] == last
    assert ids(slow)[1:] + ids(sink) == ids(steady)[1:]


def test_what_is_the_bridges_own_is_for_those_who_know_it() -> None:
    """An event of the bridge goes to listeners that have made a choice of the bridge, and to no stock client."""
    call = Call().connect()
    _, stock = join(call, Choices())
    _, ours = join(call, Choices(events=EventFilter(["!response"])))
    call.session.audience.hub.publish_own(own.CallClosed(call_id="rtc_1", result=CallResult.SUCCESS, reason="none"))
    call.session.audience.hub.publish(server.InputAudioBufferCleared())
    assert "bridge.call.closed" in ours.types
    assert "bridge.call.closed" not in stock.types + call.channel.types
    _, again = join(call, Choices(after=ids(stock)[0]))
    assert again.types == ["bridge.call.closed", "input_audio_buffer.cleared"]
    assert json.loads(again.messages[0].payload)["reason"] == "none"
