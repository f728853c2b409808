"""Responses that are given at the same time: the caller hears one after the other, each whole."""

import base64

import pytest

from bridge.media.convert import SoundDecoder
from bridge.media.playback import Part
from bridge.wire import items
from bridge.wire import own_events as own
from bridge.wire import server_events as server
from bridge.wire.audio import G711_ULAW, OPUS, PCM16, AudioFormat, pcm16_at
from tests.fakes import likeness
from tests.session.stage import MS, Call
from tests.session.test_session_playout import CLEAR, told, truncations

A, B, C = (Part(f"resp_{n}", f"item_{n}", 0, 0) for n in (1, 2, 3))


def sound(part: Part, duration_ms: int) -> bytes:
    """Sound that tells whose it is."""
    return bytes([int(part.response_id[-1])]) * (duration_ms * MS)


def done(call: Call, part: Part) -> None:
    """The part's sound is complete, and so is its response."""
    call.upstream.downstream.deliver_event(
        server.OutputAudioDone(
            response_id=part.response_id,
            item_id=part.item_id,
            output_index=part.output_index,
            content_index=part.content_index,
        )
    )
    response = items.Response(id=part.response_id, status="completed", output_modalities=["audio"])
    call.upstream.downstream.deliver_event(server.ResponseDone(response=response))


def interleave(call: Call, *parts: Part, pieces: int = 10) -> None:
    """In turns, 100 ms each."""
    for _ in range(pieces):
        for part in parts:
            call.upstream.downstream.deliver_audio(part, sound(part, 100))


@pytest.mark.parametrize("first_done", [A, B])
def test_one_after_the_other_each_whole(first_done: Part) -> None:
    """Two responses whose sound comes in turns are heard as two, in the order of their first sound."""
    call = Call().connect()
    interleave(call, A, B)
    for part in (first_done, B if first_done is A else A):
        done(call, part)
    assert call.leg.played == sound(A, 1000) + sound(B, 1000)
    call.leg.hear(2000)
    kinds = [(event["type"], event["response_id"]) for event in call.channel.events if "buffer" in event["type"]]
    assert kinds == [
        ("output_audio_buffer.started", "resp_1"),
        ("output_audio_buffer.stopped", "resp_1"),
        ("output_audio_buffer.started", "resp_2"),
        ("output_audio_buffer.stopped", "resp_2"),
    ]


def test_three_and_a_late_one() -> None:
    """Whoever waits longest is next; what is not done when its turn comes is heard as it comes."""
    call = Call().connect()
    interleave(call, A, B, C)
    done(call, A)
    interleave(call, C, B)
    done(call, C)
    interleave(call, B)
    done(call, B)
    assert call.leg.played == sound(A, 1000) + sound(B, 3000) + sound(C, 2000)


def test_a_response_of_several_parts_keeps_its_turn() -> None:
    """Another response is not heard between two parts of one."""
    call = Call().connect()
    more = Part("resp_1", "item_9", 1, 0)
    interleave(call, A, B)
    interleave(call, more, B)
    done(call, A)
    assert call.leg.played == sound(A, 1000) + sound(more, 1000) + sound(B, 2000)


@pytest.mark.parametrize("leg_format", [G711_ULAW, pcm16_at(8000), pcm16_at(16_000)], ids=lambda each: each.name)
def test_each_is_converted_as_if_alone(leg_format: AudioFormat, speech_pcm: bytes) -> None:
    """A telephone hears, to the byte, what it would have heard of each response alone."""

    def alone(part: Part, pcm: bytes) -> bytes:
        call = Call(leg_format=leg_format).connect()
        call.answer(pcm, part)
        done(call, part)
        return call.leg.played

    other = speech_pcm[::-1]
    call = Call(leg_format=leg_format).connect()
    for at in range(0, len(speech_pcm), 100 * MS):
        call.answer(speech_pcm[at : at + 100 * MS], A)
        call.answer(other[at : at + 100 * MS], B)
    done(call, B)
    done(call, A)
    assert call.leg.played == alone(A, speech_pcm) + alone(B, other)


def test_listeners_hear_both_at_once(speech_pcm: bytes) -> None:
    """Who takes the sound as events gets each delta when it comes, and each response is whole in its format."""
    call = Call().connect()
    _, sink = call.attach(audio=G711_ULAW)
    _, plain = call.attach(audio=PCM16)
    half = len(speech_pcm) // 2 // MS * MS
    pieces = {A: speech_pcm[:half], B: speech_pcm[half:]}
    for at in range(0, half, 100 * MS):
        for part, pcm in pieces.items():
            call.answer(pcm[at : at + 100 * MS], part)
    names = [event["response_id"] for event in plain.of_type("response.output_audio.delta")]
    assert names[:4] == ["resp_1", "resp_2", "resp_1", "resp_2"]
    for part in pieces:
        done(call, part)
    for part, pcm in pieces.items():
        deltas = [
            base64.b64decode(event["delta"])
            for event in sink.of_type("response.output_audio.delta")
            if event["response_id"] == part.response_id
        ]
        heard = b"".join(deltas)
        assert len(heard) / 8 == pytest.approx(len(pcm) / MS, abs=1)
        assert likeness(SoundDecoder(G711_ULAW).push(heard), pcm)[0] > 0.95
        last = [event["type"] for event in sink.events if part.response_id in str(event)]
        assert last[-3:] == ["response.output_audio.delta", "response.output_audio.done", "response.done"]


def test_barge_in_cuts_those_that_wait() -> None:
    """The one that sounds is cut where it was heard, the others to nothing; none of them is heard later."""
    call = Call().connect()
    interleave(call, A, B, C)
    call.leg.hear(450)
    call.interrupt()
    assert truncations(call) == [("item_1", 0, 450), ("item_2", 0, 0), ("item_3", 0, 0)]
    assert told(call).count("output_audio_buffer.cleared") == 1
    interleave(call, A, B, C)
    for part in (A, B, C):
        done(call, part)
    assert call.leg.queued_ms == 0
    call.answer(sound(A, 100), Part("resp_4", "item_4", 0, 0))
    assert call.leg.queued_ms == 100


def test_barge_in_while_the_first_has_nothing_to_play() -> None:
    """All of the first was heard so far and more of it is to come: those that wait are cut all the same."""
    call = Call().connect()
    interleave(call, A, B)
    call.leg.hear(1000)
    call.leg.say(CLEAR)
    assert truncations(call) == [("item_2", 0, 0)]
    done(call, A)
    interleave(call, B)
    assert call.leg.played == sound(A, 1000)


def test_a_mark_is_behind_those_that_wait() -> None:
    """A mark comes back when all that came before it has been heard, also what had to wait for its turn."""
    call = Call().connect()
    listener, sink = call.attach()
    interleave(call, A, B)
    call.send(listener, {"type": "bridge.mark", "name": "here"})
    done(call, A)
    call.leg.hear(1500)
    assert not any(event["type"] == own.MarkReached(name="", status="").type for event in sink.events)
    call.leg.hear(500)
    assert any(event.get("name") == "here" and event["status"] == "played" for event in sink.events)


def test_one_that_never_ends_does_not_silence_the_others() -> None:
    """When a minute of sound waits, the response that has its turn is taken for done, and nothing is lost."""
    call = Call().connect()
    call.answer(sound(A, 100), A)
    for _ in range(59):
        call.answer(sound(B, 1000), B)
    assert call.leg.played == sound(A, 100)
    call.answer(sound(B, 2000), B)
    assert call.leg.played == sound(A, 100) + sound(B, 61_000)


def test_sound_behind_its_end_keeps_nobody_waiting() -> None:
    """A service that says too early that a response is done: its rest is heard, and takes no turn for good."""
    call = Call().connect()
    call.answer(sound(A, 100), A)
    done(call, A)
    call.answer(sound(A, 100), A)
    call.answer(sound(B, 100), B)
    assert call.leg.played == sound(A, 200) + sound(B, 100)


def test_listeners_of_opus_hear_each_response_whole(speech_pcm: bytes) -> None:
    """Each response has an encoder of its own: its packets are what they would be if it were alone."""

    def packets(*sounds: tuple[Part, bytes]) -> list[list[str]]:
        call = Call().connect()
        _, sink = call.attach(audio=OPUS)
        for at in range(0, len(speech_pcm), 110 * MS):
            for part, pcm in sounds:
                call.answer(pcm[at : at + 110 * MS], part)
        for part, _ in sounds:
            done(call, part)
        deltas = sink.of_type("response.output_audio.delta")
        return [[each["delta"] for each in deltas if each["response_id"] == part.response_id] for part, _ in sounds]

    first, second = (A, speech_pcm), (B, speech_pcm[::-1])
    assert packets(first, second) == packets(first) + packets(second)
