"""A session among fakes: who hears what, in which order, and what becomes of sound."""

import base64
from typing import Any

import pytest

from bridge.errors import BadEvent, OverLimit
from bridge.media.convert import SoundDecoder, SoundEncoder
from bridge.media.playback import Part
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.listener import Listener
from bridge.wire import client_events as client
from bridge.wire import server_events as server
from bridge.wire.audio import FORMATS, G711_ALAW, G711_ULAW, PCM16, AudioFormat
from tests.fakes import FakeSink, JsonEvent, likeness
from tests.session.stage import IDS, MS, Call, Stage

GA_NAMES = {audio_format: audio_format.media_type for audio_format in FORMATS.values()}


def formats(*, inbound: AudioFormat | None = None, outbound: AudioFormat | None = None) -> JsonEvent:
    audio = {
        side: {"format": {"type": GA_NAMES[audio_format]}}
        for side, audio_format in (("input", inbound), ("output", outbound))
        if audio_format is not None
    }
    return {"type": "session.update", "session": {"type": "realtime", "audio": audio}}


def append(sound: bytes, **fields: str) -> JsonEvent:
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode(), **fields}


def sound_of(sink: FakeSink, name: str) -> bytes:
    field = "delta" if name.endswith("delta") else "audio"
    return b"".join(base64.b64decode(event[field]) for event in sink.of_type(name))


def output_of(sink: FakeSink) -> bytes:
    return sound_of(sink, "response.output_audio.delta")


def input_of(sink: FakeSink) -> bytes:
    return sound_of(sink, "input_audio_buffer.append")


def error_of(sink: FakeSink) -> dict[str, Any]:
    [event] = sink.of_type("error")
    error: dict[str, Any] = event["error"]
    return error


def as_pcm(audio_format: AudioFormat, sound: bytes) -> bytes:
    return SoundDecoder(audio_format).push(sound)


def as_format(audio_format: AudioFormat, pcm: bytes) -> bytes:
    encoder = SoundEncoder(audio_format)
    return encoder.push(pcm) + encoder.flush()


# Who hears what


def test_everyone_hears_session_created_first() -> None:
    """Owner, peer and sideband each begin with the configuration as it is when they come."""
    stage = Stage()
    owner, owner_sink = stage.attach("owner")
    stage.send(owner, {"type": "session.update", "session": {"type": "realtime", "instructions": "sing"}})
    _, late_sink = stage.attach()
    stage.upstream.downstream.deliver_event(server.InputAudioBufferCleared())
    assert owner_sink.types == ["session.created", "session.updated", "input_audio_buffer.cleared"]
    assert late_sink.types == ["session.created", "input_audio_buffer.cleared"]
    assert owner_sink.events[0]["session"]["instructions"] == ""
    assert late_sink.events[0]["session"] == owner_sink.events[1]["session"]
    assert late_sink.events[0]["session"]["instructions"] == "sing"
    call = Call().connect()
    assert call.channel.types == ["session.created"]


def test_event_ids_are_unique() -> None:
    """No two events that one client reads have the same id, sound included."""
    stage = Stage()
    _, owner_sink = stage.attach("owner")
    _, sink = stage.attach(audio=PCM16)
    stage.answer(bytes(1000 * MS))
    stage.speak(bytes(20 * MS))
    stage.finish_answer()
    for reader in (owner_sink, sink):
        ids = [event["event_id"] for event in reader.events]
        assert all(ids)
        assert len(set(ids)) == len(ids)


def test_the_owner_hears_the_answer(speech_pcm: bytes) -> None:
    """The owner of a socket session gets the answer as deltas, whole and before it is said to be done."""
    stage = Stage()
    _, sink = stage.attach("owner")
    stage.answer(speech_pcm)
    stage.finish_answer()
    assert output_of(sink) == speech_pcm
    assert sink.types[-2:] == ["response.output_audio.done", "response.done"]
    for event in sink.of_type("response.output_audio.delta"):
        assert event.items() >= IDS.items()
    assert sink.of_type("input_audio_buffer.append") == []


def test_a_peer_hears_the_answer_on_its_track_only(speech_pcm: bytes) -> None:
    """No sound travels on the data channel; every other event does."""
    call = Call().connect()
    call.leg.speak(speech_pcm)
    call.answer(speech_pcm)
    call.finish_answer()
    assert call.upstream.audio == speech_pcm
    assert call.leg.played == speech_pcm
    assert call.channel.types == ["session.created", "response.output_audio.done", "response.done"]


@pytest.mark.parametrize("audio_format", FORMATS.values(), ids=FORMATS)
def test_a_sideband_hears_both_sides_as_it_asked(audio_format: AudioFormat, speech_pcm: bytes) -> None:
    """The caller's sound comes as append events, the answer's as deltas, each whole, in the format of the listener."""
    call = Call().connect()
    _, sink = call.attach(audio=audio_format)
    _, other = call.attach(audio=audio_format)
    _, deaf = call.attach()
    for at in range(0, len(speech_pcm), 20 * MS):
        call.leg.speak(speech_pcm[at : at + 20 * MS])
    call.answer(speech_pcm[::-1])
    call.finish_answer()
    assert output_of(sink) == as_format(audio_format, speech_pcm[::-1])
    spoken, expected = input_of(sink), as_format(audio_format, speech_pcm)
    assert expected.startswith(spoken)
    assert len(expected) - len(spoken) <= 3 * audio_format.bytes_per_ms
    numbers = [int(event["event_id"].rpartition("_")[2]) for event in sink.of_type("input_audio_buffer.append")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(a is b for a, b in zip(sink.messages[1:], other.messages[1:], strict=True))
    assert set(deaf.types) == {"session.created", "response.output_audio.done", "response.done"}


def test_parts_do_not_run_together(speech_pcm: bytes) -> None:
    """Where one part follows another, what the resampler held of the first goes out under the first one's ids."""
    stage = Stage()
    _, sink = stage.attach(audio=G711_ULAW)
    other = Part("resp_1", "item_1", 0, 1)
    stage.answer(speech_pcm)
    stage.answer(speech_pcm, other)
    stage.finish_answer()
    expected = as_format(G711_ULAW, speech_pcm)
    deltas = sink.of_type("response.output_audio.delta")
    for index in (0, 1):
        sound = b"".join(base64.b64decode(event["delta"]) for event in deltas if event["content_index"] == index)
        assert sound == expected


def test_a_listener_that_left_hears_no_more(speech_pcm: bytes) -> None:
    """After a sideband's socket is gone the session goes on without it."""
    call = Call().connect()
    listener, sink = call.attach(audio=PCM16)
    call.session.detach(listener)
    sink.forget()
    call.leg.speak(speech_pcm)
    call.answer(speech_pcm)
    call.finish_answer()
    assert sink.messages == []
    assert sink.sent_when_closed == 0
    assert not call.session.lifetime.closed.is_set()


# The owner's sound


@pytest.mark.parametrize("audio_format", FORMATS.values(), ids=FORMATS)
def test_an_owner_speaks_and_hears_in_the_sessions_format(audio_format: AudioFormat, speech_pcm: bytes) -> None:
    """Sound in any format reaches the upstream as PCM, and the answer comes back in the format that was set."""
    stage = Stage()
    owner, sink = stage.attach("owner")
    stage.send(owner, formats(inbound=audio_format, outbound=audio_format))
    spoken = as_format(audio_format, speech_pcm)
    for at in range(0, len(spoken), 20 * audio_format.bytes_per_ms):
        stage.send(owner, append(spoken[at : at + 20 * audio_format.bytes_per_ms]))
    assert stage.upstream.audio == as_pcm(audio_format, spoken)
    assert likeness(stage.upstream.audio, speech_pcm)[0] > 0.9
    stage.answer(speech_pcm)
    stage.finish_answer()
    assert output_of(sink) == spoken
    assert sink.of_type("error") == []


def test_each_direction_has_its_own_format(speech_pcm: bytes) -> None:
    """An update of one direction leaves the other, and takes effect with the next event."""
    stage = Stage()
    owner, sink = stage.attach("owner")
    stage.send(owner, append(speech_pcm))
    stage.send(owner, formats(inbound=G711_ALAW))
    stage.send(owner, append(as_format(G711_ALAW, speech_pcm)))
    assert stage.upstream.audio[: len(speech_pcm)] == speech_pcm
    assert likeness(stage.upstream.audio[len(speech_pcm) :], speech_pcm)[0] > 0.9
    stage.answer(speech_pcm)
    stage.finish_answer()
    assert output_of(sink) == speech_pcm
    stage.send(owner, formats(outbound=G711_ULAW))
    sink.forget()
    stage.answer(speech_pcm, Part("resp_2", "item_2", 0, 0))
    stage.finish_answer("resp_2")
    assert output_of(sink) == as_format(G711_ULAW, speech_pcm)


def test_a_sideband_keeps_its_format_when_the_owner_changes_its_own(speech_pcm: bytes) -> None:
    """The owner's session.update is for the owner's sound; a listener's choice stands."""
    stage = Stage()
    owner, _ = stage.attach("owner")
    _, sink = stage.attach(audio=PCM16)
    stage.send(owner, formats(inbound=G711_ULAW, outbound=G711_ULAW))
    stage.answer(speech_pcm)
    stage.finish_answer()
    assert output_of(sink) == speech_pcm


def test_an_empty_append_is_no_mistake() -> None:
    """No sound is not wrong, it is none."""
    stage = Stage()
    owner, sink = stage.attach("owner")
    stage.send(owner, append(b""))
    assert sink.types == ["session.created"]
    assert stage.upstream.audio == b""


def _append(stage: Stage, listener: Listener, sound: bytes) -> None:
    audio = base64.b64encode(sound).decode()
    stage.send(listener, {"type": "input_audio_buffer.append", "audio": audio})


def test_half_a_sample_waits_for_its_other_half(speech_pcm: bytes) -> None:
    """An append may end anywhere: what the upstream hears in the end is what was appended, sample for sample."""
    stage = Stage()
    owner, sink = stage.attach("owner")
    at = 0
    for size in (4801, 1, 1, 3, 4799, 9600, 7):
        _append(stage, owner, speech_pcm[at : at + size])
        at += size
    assert stage.upstream.audio == speech_pcm[:at]
    assert sink.of_type("error") == []


def test_each_socket_has_its_own_half_a_sample() -> None:
    """Two sockets that append by turns do not complete one another's samples."""
    stage = Stage()
    owner, _ = stage.attach("owner")
    other, _ = stage.attach("controller")
    _append(stage, owner, b"\x01\x02\x03")
    _append(stage, other, b"\x11\x12\x13")
    _append(stage, owner, b"\x04")
    _append(stage, other, b"\x14")
    assert stage.upstream.audio == b"\x01\x02\x11\x12\x03\x04\x13\x14"


@pytest.mark.parametrize("name", ["commit", "clear"])
def test_half_a_sample_does_not_outlive_its_turn(name: str) -> None:
    """Whoever commits or clears begins anew with the next append, which would be noise if it were shifted by a byte."""
    stage = Stage()
    owner, _ = stage.attach("owner")
    _append(stage, owner, b"\x01\x02\x03")
    stage.send(owner, {"type": f"input_audio_buffer.{name}"})
    _append(stage, owner, b"\x05\x06")
    assert stage.upstream.audio == b"\x01\x02\x05\x06"


def test_half_a_sample_of_another_format_is_left_out() -> None:
    """G.711 has a byte a sample: what waited of PCM is not part of it."""
    stage = Stage()
    owner, _ = stage.attach("owner")
    _append(stage, owner, b"\x01\x02\x03")
    sound = {"input": {"format": {"type": "audio/pcmu"}}}
    stage.send(owner, {"type": "session.update", "session": {"type": "realtime", "audio": sound}})
    heard = len(stage.upstream.audio)
    _append(stage, owner, b"\xff" * 160)
    assert len(stage.upstream.audio) - heard <= 2 * 3 * 160
    assert owner.half_sample == b""


@pytest.mark.parametrize(
    ("audio", "code", "param"),
    [
        ("not base64!", "invalid_audio", "audio"),
        ("AAA", "invalid_audio", "audio"),
        ("AAAA=", "invalid_audio", "audio"),
        ("AA AA", "invalid_audio", "audio"),
        ("ÄÖÜß", "invalid_audio", "audio"),
        ("AAAAAAAAAAA" * 2_000_000, "event_too_large", "audio"),
        (7, "invalid_value", "audio"),
        (None, "missing_required_parameter", "audio"),
    ],
    ids=["words", "length", "padding", "space", "umlauts", "22 MB", "number", "null"],
)
def test_wrong_sound_is_refused(audio: object, code: str, param: str) -> None:
    """An append that is no sound is answered by an error that names it, to its sender alone, and leaves no trace."""
    stage = Stage()
    owner, sink = stage.attach("owner")
    _, other = stage.attach(audio=PCM16)
    stage.send(owner, {"type": "input_audio_buffer.append", "audio": audio, "event_id": "event_mine"})
    error = error_of(sink)
    assert (error["code"], error["param"], error["event_id"]) == (code, param, "event_mine")
    assert error["type"] == "invalid_request_error"
    assert other.types == ["session.created"]
    assert stage.upstream.audio == b""
    stage.send(owner, append(b"\1\2"))
    assert stage.upstream.audio == b"\1\2"


def test_a_call_takes_no_append() -> None:
    """Over WebRTC the caller's sound comes on its track; append is refused, to peer and sideband."""
    call = Call().connect()
    controller, sink = call.attach()
    call.send(controller, append(bytes(96), event_id="event_a"))
    call.leg.say(append(bytes(96), event_id="event_b"))
    assert error_of(sink)["event_id"] == "event_a"
    assert error_of(call.channel)["event_id"] == "event_b"
    assert call.upstream.audio == b""


# Client events


def test_events_reach_the_upstream_from_owner_peer_and_controller() -> None:
    """Whoever may speak is heard, and what the upstream answers is heard by all."""
    stage, call = Stage(), Call().connect()
    owner, _ = stage.attach("owner")
    controller, _ = stage.attach()
    stage.send(owner, {"type": "response.create"})
    stage.send(controller, {"type": "response.cancel"})
    call.leg.say({"type": "input_audio_buffer.commit"})
    assert [type(event) for event in stage.upstream.events] == [client.ResponseCreate, client.ResponseCancel]
    assert [type(event) for event in call.upstream.events] == [client.InputAudioBufferCommit]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.create"},
        {"type": "session.update", "session": {}},
        {"type": "output_audio_buffer.clear"},
        append(bytes(96)),
        {"type": "no.such.event"},
    ],
    ids=lambda event: str(event["type"]),
)
def test_an_observer_may_listen_only(event: JsonEvent) -> None:
    """Whatever an observer sends is answered by an error and does nothing."""
    stage = Stage()
    stage.attach("owner")
    observer, sink = stage.attach("observer", PCM16)
    stage.send(observer, event | {"event_id": "event_mine"})
    assert error_of(sink)["event_id"] == "event_mine"
    assert stage.upstream.events == []
    assert stage.upstream.audio == b""
    stage.answer(bytes(200 * MS))
    assert output_of(sink) == bytes(200 * MS)


@pytest.mark.parametrize(
    ("text", "event_id"),
    [
        ("{", None),
        ('{"type": "no.such.event", "event_id": "event_mine"}', "event_mine"),
        ('{"type": "session.update", "event_id": "event_mine"}', "event_mine"),
        ('{"type": "response.cancel", "event_id": 5}', None),
    ],
)
def test_a_wrong_event_is_answered(text: str, event_id: str | None) -> None:
    """The error names the event by its id where it has one; the session lives on."""
    stage = Stage()
    owner, sink = stage.attach("owner")
    stage.session.receive_client_text(owner, text)
    assert error_of(sink)["event_id"] == event_id
    stage.send(owner, {"type": "response.create"})
    assert len(stage.upstream.events) == 1


def test_what_the_upstream_refuses_is_told_to_the_sender() -> None:
    """The upstream's BadEvent becomes an error event with the client's event_id, for that client."""
    stage = Stage()
    owner, sink = stage.attach("owner")
    _, other = stage.attach()
    stage.upstream.refusal = BadEvent("Not now.", code="response_cancel_not_active")
    stage.send(owner, {"type": "response.cancel", "event_id": "event_mine"})
    assert error_of(sink).items() >= {"code": "response_cancel_not_active", "event_id": "event_mine"}.items()
    assert other.types == ["session.created"]


# The number of listeners


def test_listeners_are_limited_beside_the_owner() -> None:
    """So many listeners may join an owner, and the next one may when one has left."""
    stage = Stage(max_listeners=2)
    stage.attach("owner")
    stage.attach()
    listener, _ = stage.attach()
    with pytest.raises(OverLimit, match="2 listeners"):
        stage.attach()
    with pytest.raises(OverLimit):
        stage.session.audience.require_room()
    stage.session.detach(listener)
    stage.session.audience.require_room()
    stage.attach()


def test_listeners_never_take_the_peers_place() -> None:
    """The limit is the same before the peer's channel opens, and the channel always finds room."""
    call = Call(max_listeners=1)
    call.attach()
    with pytest.raises(OverLimit):
        call.attach()
    call.connect()
    assert call.channel.types == ["session.created"]


def test_a_later_channel_takes_the_place_of_the_first() -> None:
    """The leg says which channel carries the events: the new one begins with ``session.created``, the old one ends."""
    call = Call().connect()
    before = len(call.channel.messages)
    second = FakeSink()
    call.leg.open_channel(second)
    call.interrupt()
    assert second.types == ["session.created", "input_audio_buffer.speech_started"]
    assert len(call.channel.messages) == before
    assert len(call.session.audience.hub.listeners) == 1
    call.leg.say({"type": "response.create"})
    assert len(call.upstream.events) == 1


# Slow listeners


def test_a_slow_listener_loses_sound_and_nobody_else_does(speech_pcm: bytes) -> None:
    """Beside a socket that is not read, another hears everything; the slow one is told what it missed."""
    stage = Stage(limits=Limits(backlog_ms=1000))
    stage.attach("owner")
    _, slow = stage.attach(audio=PCM16, room=3)
    _, quick = stage.attach(audio=PCM16)
    for at in range(0, len(speech_pcm), 20 * MS):
        stage.speak(speech_pcm[at : at + 20 * MS])
    assert input_of(quick) == speech_pcm
    while slow.buffered_bytes:
        slow.read()
    [report] = slow.of_type("bridge.listener.dropped")
    missing = len(speech_pcm) - len(input_of(slow))
    assert report["audio_ms"] * MS == missing > 0
    assert speech_pcm.endswith(input_of(slow)[2 * 20 * MS :])
