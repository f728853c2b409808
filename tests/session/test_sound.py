"""Sound crosses a session in the formats of those at its ends, and is converted no more often than it must be."""

import base64

import msgspec
import pytest

from bridge.media.convert import SoundDecoder, SoundEncoder
from bridge.media.playback import Part
from bridge.media.resample import Resampler
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.audio import G711_ALAW, G711_ULAW, PCM16, AudioFormat, pcm16_at
from tests.fakes import FakeSink, likeness
from tests.session.stage import MS, Call

_AT_ONCE = 17  # the engine's answer, and all that it gives beside it
NARROW = [G711_ULAW, G711_ALAW, pcm16_at(8000)]


def name_of(audio_format: AudioFormat) -> str:
    return audio_format.name


def encoded(audio_format: AudioFormat, pcm: bytes) -> bytes:
    encoder = SoundEncoder(audio_format)
    return encoder.push(pcm) + encoder.flush()


def heard_by(sink: FakeSink, name: str, field: str) -> bytes:
    return b"".join(base64.b64decode(event[field]) for event in sink.of_type(name))


def speak(call: Call, sound: bytes) -> None:
    step = 20 * call.leg.input_format.bytes_per_ms
    for at in range(0, len(sound), step):
        call.leg.speak(sound[at : at + step])


@pytest.mark.parametrize("audio_format", NARROW, ids=name_of)
def test_equal_ends_pass_bytes_through(
    audio_format: AudioFormat, speech_pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where leg and upstream speak one format, every byte arrives as it was, and nothing is resampled."""
    sound = audio_format.bytes_per_ms * 3000 * b"\x55"
    call = Call(leg_format=audio_format).connect()
    call.upstream.change(audio_format)
    monkeypatch.setattr(Resampler, "push", lambda *_: pytest.fail("resampled"))
    speak(call, sound)
    call.answer(sound[::-1])
    call.finish_answer()
    assert call.upstream.audio == sound
    assert call.leg.played == sound[::-1]


@pytest.mark.parametrize("upstream_format", [PCM16, pcm16_at(16_000), G711_ALAW], ids=name_of)
@pytest.mark.parametrize("leg_format", NARROW, ids=name_of)
def test_ends_that_differ_understand_each_other(
    leg_format: AudioFormat, upstream_format: AudioFormat, speech_pcm: bytes
) -> None:
    """Speech comes through both ways, the answer whole to its last sample."""
    call = Call(leg_format=leg_format).connect()
    call.upstream.change(upstream_format)
    speak(call, encoded(leg_format, speech_pcm))
    call.answer(encoded(upstream_format, speech_pcm))
    call.finish_answer()
    assert likeness(SoundDecoder(upstream_format).push(call.upstream.audio), speech_pcm)[0] > 0.9
    assert likeness(SoundDecoder(leg_format).push(call.leg.played), speech_pcm)[0] > 0.9
    assert len(call.leg.played) / leg_format.bytes_per_ms == pytest.approx(len(speech_pcm) / MS, abs=0.3)


def test_a_listener_changes_nothing_for_the_ends(speech_pcm: bytes) -> None:
    """While leg and upstream pass µ-law through, a listener of PCM hears both sides, decoded for it alone."""
    call = Call(leg_format=G711_ULAW).connect()
    call.upstream.change(G711_ULAW)
    _, sink = call.attach(audio=PCM16)
    sound = encoded(G711_ULAW, speech_pcm)
    speak(call, sound)
    call.answer(sound)
    call.finish_answer()
    assert call.upstream.audio == call.leg.played == sound
    assert likeness(heard_by(sink, "input_audio_buffer.append", "audio"), speech_pcm)[0] > 0.9
    assert likeness(heard_by(sink, "response.output_audio.delta", "delta"), speech_pcm)[0] > 0.9


def test_listeners_of_one_rate_share_its_resampling(speech_pcm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six listeners in four formats of two rates cost two resamplings a piece."""
    pushes = []
    push = Resampler.push

    def counted(self: Resampler, pcm: bytes) -> bytes:
        pushes.append(self)
        return push(self, pcm)

    monkeypatch.setattr(Resampler, "push", counted)
    call = Call().connect()
    for audio_format in (*NARROW, *NARROW, pcm16_at(16_000), PCM16):
        call.attach(audio=audio_format)
    call.leg.speak(speech_pcm[: 20 * MS])
    assert len(pushes) == len(set(pushes)) == 2


def test_formats_may_change_in_the_middle(speech_pcm: bytes) -> None:
    """From the moment an upstream changes its formats sound goes and comes in the new ones; listeners hear no gap."""
    call = Call().connect()
    _, sink = call.attach(audio=G711_ULAW)
    half = len(speech_pcm) // 4 * 2
    speak(call, speech_pcm[:half])
    call.answer(speech_pcm[:half])
    call.upstream.change(G711_ALAW)
    call.upstream.downstream.deliver_event(server.SessionUpdated(session=call.session.state.config))
    speak(call, speech_pcm[half:])
    call.answer(encoded(G711_ALAW, speech_pcm[half:]))
    call.finish_answer()
    assert call.upstream.audio[:half] == speech_pcm[:half]
    assert likeness(SoundDecoder(G711_ALAW).push(call.upstream.audio[half:]), speech_pcm[half:])[0] > 0.9
    assert call.leg.played[:half] == speech_pcm[:half]
    deltas = heard_by(sink, "response.output_audio.delta", "delta")
    assert len(deltas) / 8 == pytest.approx(len(speech_pcm) / MS, abs=0.5)
    assert likeness(SoundDecoder(G711_ULAW).push(deltas), speech_pcm)[0] > 0.9


def test_answers_in_turns_are_each_made_whole(speech_pcm: bytes) -> None:
    """Responses whose sound comes in turns go on where each was: a listener hears them as if each had come alone."""
    alone = []
    step = len(speech_pcm) // _AT_ONCE // 4 * 2
    sounds = [speech_pcm[at * step :][: 600 * MS] for at in range(_AT_ONCE)]
    parts = [Part(f"resp_{number}", f"item_{number}", 0, 0) for number in range(_AT_ONCE)]
    for part, sound in zip(parts, sounds, strict=True):
        call = Call(leg_format=G711_ULAW).connect()
        _, sink = call.attach(audio=pcm16_at(16_000))
        call.answer(sound, part)
        _finish(call, part)
        alone.append(heard_by(sink, "response.output_audio.delta", "delta"))
    call = Call(leg_format=G711_ULAW).connect()
    _, sink = call.attach(audio=pcm16_at(16_000))
    for at in range(0, 600 * MS, 200 * MS):
        for part, sound in zip(parts, sounds, strict=True):
            call.answer(sound[at : at + 200 * MS], part)
    for part in parts:
        _finish(call, part)
    deltas = sink.of_type("response.output_audio.delta")
    for part, expected in zip(parts, alone, strict=True):
        own = [event for event in deltas if event["response_id"] == part.response_id]
        assert {event["item_id"] for event in own} == {part.item_id}
        assert b"".join(base64.b64decode(event["delta"]) for event in own) == expected


def test_an_answer_that_ends_without_a_word_is_whole(speech_pcm: bytes) -> None:
    """A service that leaves out ``response.output_audio.done`` loses nothing: the response's own end completes it."""
    call = Call(leg_format=G711_ULAW).connect()
    call.answer(speech_pcm)
    response = items.Response(id="resp_1", status="completed", output_modalities=["audio"])
    call.upstream.downstream.deliver_event(server.ResponseDone(response=response))
    assert len(call.leg.played) == pytest.approx(len(speech_pcm) / 6, abs=1)


def _finish(call: Call, part: Part) -> None:
    ids = {"response_id": part.response_id, "item_id": part.item_id, "output_index": 0, "content_index": 0}
    call.upstream.downstream.deliver_event(
        msgspec.convert({"type": "response.output_audio.done", **ids}, server.OutputAudioDone)
    )


def test_formats_are_not_asked_for_each_packet(speech_pcm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a call is set up, what its leg and its upstream speak is asked again only when one of them says so."""
    call = Call(leg_format=G711_ULAW).connect()
    asked: list[str] = []

    class Asking:
        def __init__(self, name: str, value: AudioFormat | None) -> None:
            self._name, self._value = name, value

        def __get__(self, *_: object) -> AudioFormat | None:
            asked.append(self._name)
            return self._value

    for end, name, value in (
        (call.leg, "input_format", G711_ULAW),
        (call.leg, "passage", None),
        (call.upstream, "input_format", PCM16),
        (call.upstream, "output_format", PCM16),
        (call.upstream, "passage", None),
    ):
        vars(end).pop(name, None)
        monkeypatch.setattr(type(end), name, Asking(name, value), raising=False)
    for _ in range(100):
        call.leg.speak(bytes(160))
    call.answer(speech_pcm)
    assert asked == []
    call.upstream.downstream.upstream_changed()
    assert sorted(asked) == ["input_format", "input_format", "output_format", "passage"]
