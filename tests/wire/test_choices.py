"""What a listener chooses on its URL, and what is said of a choice that cannot be."""

from urllib.parse import parse_qsl

import pytest

from bridge.errors import BadRequest
from bridge.wire.audio import G711_ALAW, G711_ULAW, OPUS, PCM16, mp3_at, pcm16_at, stereo_at
from bridge.wire.choices import STOCK, Choices, EventFilter, parse_choices
from bridge.wire.stats import Framing


def chosen(query: str) -> Choices:
    return parse_choices(parse_qsl(query, keep_blank_values=True), others=("call_id", "role"))


def refusal(query: str) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        chosen(query)
    return caught.value


def test_no_choice_is_what_stock_clients_expect() -> None:
    """Every control event and no sound."""
    assert chosen("call_id=rtc_1&role=observer") == STOCK == chosen("audio=none")
    assert (STOCK.audio, STOCK.events, STOCK.chunk_ms, STOCK.framing) == (None, None, None, "json")


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("audio=pcm16", Choices(audio=PCM16)),
        ("audio=pcm16&rate=24000", Choices(audio=PCM16)),
        ("audio=pcm16&rate=48000", Choices(audio=pcm16_at(48_000))),
        ("audio=pcm16&rate=44100", Choices(audio=pcm16_at(44_100))),
        ("audio=g711_alaw&latency=low", Choices(audio=G711_ALAW, chunk_ms=20)),
        ("audio=g711_ulaw&latency=balanced", Choices(audio=G711_ULAW, chunk_ms=60)),
        ("audio=g711_ulaw&latency=high", Choices(audio=G711_ULAW, chunk_ms=200)),
        ("audio=pcm16&chunk_ms=1000", Choices(audio=PCM16, chunk_ms=1000)),
        ("audio=pcm16&chunk_size=2048", Choices(audio=PCM16, chunk_size=2048)),
        ("audio=pcm16&channels=1&compression=none", Choices(audio=PCM16)),
        ("audio=pcm16&channels=2", Choices(audio=stereo_at(24_000))),
        ("audio=pcm16&channels=2&rate=8000", Choices(audio=stereo_at(8000))),
        ("audio=g711_ulaw&channels=1", Choices(audio=G711_ULAW)),
        ("audio=pcm16&tracks=output", Choices(audio=PCM16, tracks=("output",))),
        ("audio=pcm16&tracks=output,input", Choices(audio=PCM16)),
        ("audio=pcm16&framing=binary", Choices(audio=PCM16, framing=Framing.BINARY)),
        ("audio=pcm16&audio=pcm16&framing=json", Choices(audio=PCM16)),
        ("after=event_abc_7", Choices(after="event_abc_7")),
        ("audio=opus", Choices(audio=OPUS)),
        ("compression=opus", Choices(audio=OPUS)),
        ("audio=pcm16&compression=opus", Choices(audio=OPUS)),
        ("audio=opus&compression=opus&rate=48000&channels=1", Choices(audio=OPUS)),
        ("audio=opus&framing=binary&tracks=input", Choices(audio=OPUS, framing=Framing.BINARY, tracks=("input",))),
        ("compression=mp3", Choices(audio=mp3_at(24_000))),
        ("audio=mp3&rate=24000", Choices(audio=mp3_at(24_000))),
        ("audio=pcm16&compression=mp3&rate=44100", Choices(audio=mp3_at(44_100))),
    ],
)
def test_choices(query: str, meant: Choices) -> None:
    """Each has its words."""
    assert chosen(query) == meant


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("audio=aac", "audio"),
        ("audio=pcm16&compression=aac", "compression"),
        ("audio=none&compression=opus", "compression"),
        ("audio=g711_ulaw&compression=opus", "compression"),
        ("audio=opus&compression=mp3", "compression"),
        ("audio=opus&compression=none", "compression"),
        ("audio=opus&rate=24000", "rate"),
        ("audio=mp3&rate=48000", "rate"),
        ("audio=opus&channels=2", "channels"),
        ("audio=opus&latency=low", "latency"),
        ("audio=mp3&chunk_ms=20", "chunk_ms"),
        ("compression=opus&chunk_size=1024", "chunk_size"),
        ("audio=", "audio"),
        ("audio=pcm16_8000", "audio"),
        ("audio=pcm16&audio=none", "audio"),
        ("audio=pcm16&rate=22050", "rate"),
        ("audio=pcm16&rate=fast", "rate"),
        ("audio=pcm16&rate=%D9%A8", "rate"),
        ("audio=g711_ulaw&rate=8000", "rate"),
        ("rate=8000", "rate"),
        ("audio=none&latency=low", "latency"),
        ("audio=pcm16&latency=lowest", "latency"),
        ("audio=pcm16&latency=low&chunk_ms=20", "chunk_ms"),
        ("audio=pcm16&chunk_ms=20&chunk_size=1024", "chunk_size"),
        ("audio=pcm16&latency=low&chunk_size=1024", "chunk_size"),
        ("audio=pcm16&chunk_size=1000", "chunk_size"),
        ("chunk_size=1024", "chunk_size"),
        ("audio=pcm16&channels=3", "channels"),
        ("audio=pcm16&channels=2&framing=binary", "channels"),
        ("audio=g711_ulaw&channels=2", "channels"),
        ("channels=2", "channels"),
        ("compression=none", "compression"),
        ("audio=pcm16&chunk_ms=19", "chunk_ms"),
        ("audio=pcm16&chunk_ms=1001", "chunk_ms"),
        ("audio=pcm16&chunk_ms=-20", "chunk_ms"),
        ("audio=pcm16&tracks=", "tracks"),
        ("audio=pcm16&tracks=input,third", "tracks"),
        ("tracks=input", "tracks"),
        ("framing=binary", "framing"),
        ("audio=pcm16&framing=xml", "framing"),
        ("events=", "events"),
        ("events=response.finished", "events"),
        ("events=respons", "events"),
        ("events=!nothing", "events"),
        ("events=response.output_audio.delta", "events"),
        ("events=" + "response," * 1000 + "error", "events"),
        ("adio=pcm16", "adio"),
        ("something=else", "something"),
    ],
)
def test_wrong_choice_is_named(query: str, param: str) -> None:
    """An unknown choice and one that contradicts another are refused, each by its name."""
    error = refusal(query)
    assert error.param == param
    assert param in error.message


def test_a_misspelt_choice_gets_a_hint() -> None:
    """What it may have meant."""
    assert "did you mean 'latency'?" in refusal("audio=pcm16&latencey=low").message


@pytest.mark.parametrize(
    ("patterns", "wanted", "unwanted"),
    [
        ("response.done", ["response.done"], ["response.created", "error"]),
        ("response", ["response.done", "response.output_item.added"], ["rate_limits.updated"]),
        ("response.*,error", ["response.done", "error"], ["session.updated"]),
        ("response.output_audio", ["response.output_audio.done"], ["response.output_audio_transcript.delta"]),
        ("!response", ["session.updated", "error"], ["response.done"]),
        ("response, !response.output_audio_transcript", ["response.done"], ["response.output_audio_transcript.delta"]),
        ("response.audio_transcript.delta", ["response.audio_transcript.delta"], ["response.audio_transcript.done"]),
    ],
)
def test_event_filter(patterns: str, wanted: list[str], unwanted: list[str]) -> None:
    """Names, prefixes up to a dot, ``!`` leaves out and wins; beta's names count as well."""
    events = chosen(f"events={patterns}").events
    assert isinstance(events, EventFilter)
    for _ in range(2):  # the answer is remembered
        assert [name for name in wanted if name not in events] == []
        assert [name for name in unwanted if name in events] == []
