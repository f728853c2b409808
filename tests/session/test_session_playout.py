"""What the caller hears of an answer, and what everybody is told of it."""

from bridge.errors import BadEvent
from bridge.media.playback import Part
from bridge.wire import client_events as client
from bridge.wire import server_events as server
from bridge.wire.items import Response
from tests.session.stage import MS, PART, Call, Stage

CLEAR = {"type": "output_audio_buffer.clear"}


def truncations(call: Call) -> list[tuple[str, int, int]]:
    return [
        (event.item_id, event.content_index, event.audio_end_ms)
        for event in call.upstream.events
        if isinstance(event, client.ConversationItemTruncate)
    ]


def told(call: Call) -> list[str]:
    """What the peer was told of its own ears, and what surrounds it."""
    return call.channel.types[1:]


def test_started_and_stopped_follow_the_ears() -> None:
    """Started comes with the first sample, stopped with the last, long after the response is done."""
    call = Call().connect()
    call.answer(bytes(1000 * MS))
    call.leg.hear(20)
    call.finish_answer()
    call.leg.hear(900)
    assert told(call) == ["output_audio_buffer.started", "response.output_audio.done", "response.done"]
    call.leg.hear(900)
    assert told(call)[3:] == ["output_audio_buffer.stopped"]
    for event in call.channel.events[1:]:
        assert "resp_1" in (event.get("response_id"), event.get("response", {}).get("id"))


def test_stopped_comes_with_done_where_all_was_heard_before() -> None:
    """An upstream slower than the ear: the last sample has been heard when the response is done."""
    call = Call().connect()
    for _ in range(3):
        call.answer(bytes(200 * MS))
        call.leg.hear(300)
    call.finish_answer()
    assert told(call) == [
        "output_audio_buffer.started",
        "response.output_audio.done",
        "response.done",
        "output_audio_buffer.stopped",
    ]


def test_a_silent_response_is_neither_started_nor_stopped() -> None:
    """Text and function calls are not heard, and nothing is said about hearing them."""
    call = Call().connect()
    call.upstream.downstream.deliver_event(
        server.ResponseDone(response=Response(id="resp_1", status="completed", output_modalities=["text"]))
    )
    call.leg.hear(100)
    assert told(call) == ["response.done"]


def test_barge_in() -> None:
    """When the caller speaks, the answer stops at once, and is truncated to what was heard of it."""
    call = Call().connect()
    _, sideband = call.attach()
    call.answer(bytes(4000 * MS))
    call.leg.hear(1260)
    call.interrupt()
    expected = [
        "output_audio_buffer.started",
        "input_audio_buffer.speech_started",
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
    ]
    assert told(call) == sideband.types[1:] == expected
    assert call.channel.events[3]["response_id"] == "resp_1"
    assert truncations(call) == [("item_1", 0, 1260)]
    assert call.leg.queued_ms == 0


def test_barge_in_after_the_response_is_done() -> None:
    """All of the answer came long ago; what is cut is what the caller has not heard."""
    call = Call().connect()
    call.answer(bytes(4000 * MS))
    call.finish_answer()
    call.leg.hear(3999)
    call.interrupt()
    assert truncations(call) == [("item_1", 0, 3999)]
    assert "output_audio_buffer.stopped" not in told(call)


def test_barge_in_cuts_every_part_that_waits() -> None:
    """A part that was heard stays whole; the one that sounds is cut, those behind it are cut to nothing."""
    call = Call().connect()
    parts = [PART, Part("resp_1", "item_1", 0, 1), Part("resp_1", "item_2", 1, 0)]
    for part in parts:
        call.answer(bytes(1000 * MS), part)
    call.leg.hear(1500)
    call.interrupt()
    assert truncations(call) == [("item_1", 1, 500), ("item_2", 0, 0)]
    assert told(call).count("output_audio_buffer.cleared") == 1


def test_speech_while_nothing_plays_clears_nothing() -> None:
    """Before an answer, and after it was heard, the caller may speak without further words."""
    call = Call().connect()
    call.interrupt()
    call.answer(bytes(100 * MS))
    call.finish_answer()
    call.leg.hear(100)
    call.interrupt()
    assert "output_audio_buffer.cleared" not in told(call)
    assert truncations(call) == []


def test_every_start_has_its_end() -> None:
    """Speech at a moment when all that came of an answer has been heard: its start still gets its end."""
    call = Call().connect()
    call.answer(bytes(100 * MS))
    call.leg.hear(100)
    call.interrupt()
    call.finish_answer()
    ends = [name for name in told(call) if name in ("output_audio_buffer.stopped", "output_audio_buffer.cleared")]
    assert len(ends) == 1


def test_without_interrupt_response_the_answer_goes_on() -> None:
    """The caller's speech stops nothing where the session is set so."""
    for turn_detection in ("server_vad", "semantic_vad"):
        call = Call().connect()
        turns = {"type": turn_detection, "interrupt_response": False}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": turns}}}
        call.leg.say({"type": "session.update", "session": session})
        call.answer(bytes(1000 * MS))
        call.leg.hear(500)
        call.interrupt()
        assert "output_audio_buffer.cleared" not in told(call)
        assert call.leg.queued_ms == 500


def test_a_client_may_clear() -> None:
    """``output_audio_buffer.clear`` by the peer or a controller stops the sound, truncates, and is told to all."""
    call = Call().connect()
    controller, sink = call.attach()
    call.answer(bytes(1000 * MS))
    call.leg.hear(20)
    call.send(controller, CLEAR)
    assert sink.types[-2:] == ["output_audio_buffer.cleared", "conversation.item.truncated"]
    assert truncations(call) == [("item_1", 0, 20)]
    call.leg.say(CLEAR)
    assert sink.types[-2:] == ["output_audio_buffer.cleared", "conversation.item.truncated"]
    assert call.channel.of_type("error") == []


def test_what_was_cleared_is_not_heard_later() -> None:
    """Sound of a cleared response that was still under way is not played; the next response is."""
    call = Call().connect()
    call.answer(bytes(1000 * MS))
    call.leg.hear(500)
    call.leg.say(CLEAR)
    call.answer(bytes(1000 * MS))
    assert call.leg.queued_ms == 0
    call.leg.hear(200)
    call.finish_answer()
    assert told(call).count("output_audio_buffer.started") == 1
    call.answer(bytes(100 * MS), Part("resp_2", "item_2", 0, 0))
    assert call.leg.queued_ms == 100


def test_a_socket_session_has_no_ears_of_ours() -> None:
    """Where the client does the playing, nothing is cleared, and nothing is said about hearing."""
    stage = Stage()
    owner, sink = stage.attach("owner")
    stage.answer(bytes(1000 * MS))
    stage.interrupt()
    stage.send(owner, CLEAR)
    assert {name for name in sink.types if name.startswith("output_audio_buffer")} == set()
    assert stage.upstream.events == []


def test_a_truncation_that_is_refused_ends_nothing() -> None:
    """The item may be gone by then; the sound stops all the same, and the session lives."""
    call = Call().connect()
    call.answer(bytes(1000 * MS))
    call.leg.hear(500)
    call.upstream.refusal = BadEvent("There is no item 'item_1'.")
    call.interrupt()
    assert told(call)[-1] == "output_audio_buffer.cleared"
    assert call.leg.queued_ms == 0
    assert call.channel.of_type("error") == []


class _Passage:
    """Of an upstream that speaks Live; nobody speaks Live here."""

    def receive_live_client_event(self, body: server.Body) -> None:
        raise AssertionError("no Live client is here")

    def tell(self, taker: object) -> None:
        """Nobody hears it."""


def test_a_live_stream_that_was_held_back_catches_up_in_its_silence() -> None:
    """More than 250 ms of it wait: its next silence is left out, and no sound, so that the caller is late no longer."""
    call = Call()
    call.upstream.live_passage = _Passage()
    call.connect()
    loud = b"\x00\x40" * (24 * 20)
    for _ in range(30):
        call.answer(loud)  # 600 ms that a network held back
    assert call.leg.queued_ms == 600
    for _ in range(50):
        call.answer(bytes(20 * MS))
        call.leg.hear(20)
    assert 230 <= call.leg.queued_ms <= 250
    call.answer(loud)
    assert call.leg.played.count(loud) == 31


def test_nothing_is_left_out_of_an_answer_that_comes_faster_than_it_plays() -> None:
    """Its pauses belong to it."""
    call = Call().connect()
    call.answer(b"\x00\x40" * (24 * 600) + bytes(600 * MS))
    call.answer(bytes(600 * MS))
    assert call.leg.queued_ms == 1800
