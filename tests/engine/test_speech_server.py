"""Ears and a voice behind URLs: real speech goes there and comes back, and what goes wrong is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.engine.local import Local
from bridge.engine.rule_responder import RuleResponder
from bridge.engine.speech_server import HearingServer, VoiceServer
from bridge.errors import OverLimit, UpstreamError
from tests.engine.speech_service import SpeechService
from tests.engine.talk import MS, Talk, silence
from tests.engine.test_rules import Bridge
from tests.fakes import CONTEXT
from tests.machine import scaled

_LIMIT_S = scaled(30.0)
_BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_SPENT = b'HTTP/1.1 402 Pay\r\nConnection: close\r\n\r\n{"error": {"message": "No credit.", "code": "spent"}}'
_ENDLESS = (
    b"HTTP/1.1 402 Pay\r\nContent-Length: 1000000000\r\n\r\n"
    b'{"error": {"message": "No credit.", "code": "spent"}}' + b" " * 200_000
)
_WAV = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nRIFF\x00\x00\x00\x00WAVE"
_NO_STREAM = b'HTTP/1.1 400 No\r\nConnection: close\r\n\r\n{"error": {"message": "Unknown parameter: stream."}}'
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
_HALF_STREAM = _STREAM + b'data: {"type": "transcript.text.delta", "delta": "Repeat"}\n\n'
_ERROR_IN_STREAM = _STREAM + b'data: {"error": {"message": "Out of memory."}}\n\n'
_NO_JSON = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>"

Say = Callable[[str], bytes]


@pytest.fixture
async def service(models: Local) -> AsyncIterator[SpeechService]:
    async with SpeechService.serving(models) as service:
        yield service


@pytest.fixture
async def talk(service: SpeechService) -> AsyncIterator[Talk]:
    """A conversation with the engine's rules, whose ears and voice are the service."""
    async with (
        HearingServer(service.url, model="ear-1", timeout_s=scaled(5.0)) as ears,
        VoiceServer(service.url, model="mouth-1", timeout_s=scaled(5.0)) as voice,
    ):
        transcription = {"model": "whisper-1", "language": "en"}
        audio: dict[str, Any] = {"input": {"transcription": transcription}, "output": {"voice": "marin", "speed": 1.25}}
        talk = Talk(RuleResponder(ears, voice, Bridge(), seed=0), audio=audio)
        async with asyncio.timeout(_LIMIT_S):
            yield talk
        await talk.engine.aclose()


async def test_a_question_is_heard_and_answered_there(talk: Talk, service: SpeechService, say: Say) -> None:
    """The caller's speech becomes words at one URL, the answer's words speech at the other."""
    talk.speak(silence(300) + say("Repeat after me, the sky is blue.") + silence(900))
    response = await talk.answer()
    [heard] = talk.said.of_type("conversation.item.input_audio_transcription.completed")
    assert heard["transcript"] == "Repeat after me, the sky is blue."
    assert response["output"][0]["content"] == [{"type": "output_audio", "transcript": "The sky is blue."}]
    assert service.heard[-1] == {"model": "ear-1", "response_format": "json", "language": "en", "stream": "true"}
    [spoken] = service.spoken
    assert spoken == {"model": "mouth-1", "input": "The sky is blue.", "voice": "marin", "response_format": "pcm",
                      "speed": 1.25}  # fmt: skip
    assert talk.said.sounds[response["output"][0]["id"]] == say("The sky is blue.")


async def test_what_passes_is_asked_again(talk: Talk, service: SpeechService) -> None:
    """A voice that is busy for a moment costs time, and no answer."""
    service.faults = [_BUSY]
    talk.type("Repeat after me, hello.")
    talk.send("response.create")
    response = await talk.answer()
    assert response["status"] == "completed"
    assert len(talk.said.sounds[response["output"][0]["id"]]) > 100 * MS


@pytest.mark.parametrize(("fault", "code"), [(_SPENT, "spent"), (_ENDLESS, "spent"), (_WAV, "upstream_protocol")])
async def test_a_voice_that_fails_is_told(talk: Talk, service: SpeechService, fault: bytes, code: str) -> None:
    """The response fails with the server's own code; the next one may be spoken."""
    service.faults = [fault]
    talk.type("Repeat after me, hello.")
    talk.send("response.create")
    response = await talk.answer()
    assert (response["status"], response["status_details"]["error"]["code"]) == ("failed", code)
    talk.send("response.create")
    assert (await talk.answer(2))["status"] == "completed"


async def test_a_transcript_streams(talk: Talk, service: SpeechService, say: Say) -> None:
    """Its pieces are told as they come, and together they are the words."""
    service.streams = True
    talk.speak(silence(300) + say("Repeat after me, the sky is blue.") + silence(900))
    await talk.answer()
    deltas = [event["delta"] for event in talk.said.of_type("conversation.item.input_audio_transcription.delta")]
    assert (len(deltas), "".join(deltas)) == (7, "Repeat after me, the sky is blue.")
    [heard] = talk.said.of_type("conversation.item.input_audio_transcription.completed")
    assert heard["transcript"] == "Repeat after me, the sky is blue."


async def test_ears_that_do_not_stream_are_asked_without(talk: Talk, service: SpeechService, say: Say) -> None:
    """Once refused, a stream is not asked for again."""
    service.faults = [_NO_STREAM]
    for number in (1, 2):
        talk.speak(silence(300) + say("Repeat after me, the sky is blue.") + silence(900))
        await talk.answer(number)
    assert service.heard
    assert all("stream" not in heard for heard in service.heard)


@pytest.mark.parametrize("fault", [_SPENT, _NO_JSON, _HALF_STREAM, _ERROR_IN_STREAM])
async def test_ears_that_fail_are_told(talk: Talk, service: SpeechService, say: Say, fault: bytes) -> None:
    """Transcription fails, as the client is told, and the answer says that nothing was understood."""
    talk.send("session.update", session={"audio": {"input": {"turn_detection": None}}})
    service.faults = [fault]
    with capture_logs() as lines:
        talk.speak(say("Repeat after me, the sky is blue."))
        talk.send("input_audio_buffer.commit")
        talk.send("response.create")
        response = await talk.answer()
    await talk.said.until("conversation.item.input_audio_transcription.failed")
    assert "Sorry" in response["output"][0]["content"][0]["transcript"]
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["engine.hearing_failed"]


async def test_an_interruption_ends_the_request(talk: Talk, service: SpeechService) -> None:
    """A cancelled answer asks for no further sentence."""
    talk.type("Repeat after me, " + "one more thing. " * 20)
    talk.send("response.create")
    await talk.said.until("response.output_audio_transcript.delta")
    talk.send("response.cancel")
    assert (await talk.answer())["status"] == "cancelled"
    assert len(service.spoken) < 20


async def test_voices_are_listed_and_passed_through(service: SpeechService) -> None:
    """By name or as objects; a session's voice reaches the server, in either form that the protocol has."""
    async with VoiceServer(service.url, timeout_s=scaled(5.0)) as voice:
        for listed in (["marin", "cedar"], [{"id": "marin"}, {"name": "cedar"}, {}, 3]):
            service.voices = listed
            assert await voice.voices() == ["marin", "cedar"]
        service.faults = [_NO_JSON]
        assert await voice.voices() == []
        for named in ("cedar", {"id": "cedar"}):
            assert await voice.speak_sentence("Hello.", speed=1.0, voice=named, log=CONTEXT.logger("engine")).next()
        assert [spoken["voice"] for spoken in service.spoken] == ["cedar", "cedar"]


async def test_only_so_many_wait(service: SpeechService) -> None:
    """Of all sessions together; the next one is refused at once."""
    async with HearingServer(service.url, timeout_s=scaled(5.0)) as ears:
        waiting = [ears.listen(silence(100)) for _ in range(200)]
        with pytest.raises(OverLimit):
            ears.listen(silence(100))
        for future in waiting:
            future.cancel()


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 48000\r\n\r\n"
_FAULTS = [
    pytest.param(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False, id="500"),
    pytest.param(b"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False, id="429"),
    pytest.param(b"\x00\xff garbage\r\n\r\n", False, id="garbage"),
    pytest.param(b"", True, id="hang"),
    pytest.param(b"", False, id="gone"),
    pytest.param(_HEAD + bytes(4800), False, id="half"),
    pytest.param(_HEAD + bytes(4800), True, id="half_and_hang"),
]


@asynccontextmanager
async def _impatient(service: SpeechService) -> AsyncIterator[Talk]:
    """A conversation that gives its servers little time, and one try."""
    async with (
        HearingServer(service.url, timeout_s=scaled(0.5), tries=1) as ears,
        VoiceServer(service.url, timeout_s=scaled(0.5), tries=1) as voice,
        asyncio.timeout(_LIMIT_S),
    ):
        audio: dict[str, Any] = {"input": {"transcription": {"model": "whisper-1"}, "turn_detection": None}}
        talk = Talk(RuleResponder(ears, voice, Bridge(), seed=0), audio=audio)
        yield talk
        await talk.engine.aclose()


@pytest.mark.parametrize(("fault", "hangs"), _FAULTS)
async def test_however_a_voice_fails_the_response_says_so(service: SpeechService, fault: bytes, hangs: bool) -> None:
    """It is ``failed``, with an error that has a code and words; the next answer is asked for all the same."""
    service.faults, service.hangs = [fault], hangs
    async with _impatient(service) as talk:
        talk.type("Repeat after me, hello.")
        talk.send("response.create")
        response = await talk.answer()
        error = response["status_details"]["error"]
        assert response["status"] == "failed"
        assert error["code"]
        assert error["message"]
        talk.send("response.create")
        await talk.answer(2)


@pytest.mark.parametrize(("fault", "hangs"), _FAULTS)
async def test_however_ears_fail_the_caller_hears_an_answer(service: SpeechService, fault: bytes, hangs: bool) -> None:
    """The transcription is ``failed``, and the answer says in words that nothing was understood."""
    service.faults, service.hangs = [fault], hangs
    async with _impatient(service) as talk:
        talk.speak(bytes(500 * MS))
        talk.send("input_audio_buffer.commit")
        talk.send("response.create")
        response = await talk.answer()
        await talk.said.until("conversation.item.input_audio_transcription.failed")
        assert "Sorry" in response["output"][0]["content"][0]["transcript"]


@asynccontextmanager
async def _without_end(piece: bytes, pause_s: float) -> AsyncIterator[str]:
    """A server whose answer to each request is this piece, again and again."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_STREAM)
            while not writer.is_closing():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        except OSError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


_DELTA = b'data: {"type": "transcript.text.delta", "delta": "bla"}\n\n'


@pytest.mark.parametrize("piece", [_DELTA * 1000, b" " * 50_000, b"data: " + b"x" * 50_000])
async def test_a_transcript_without_end_is_cut_off(piece: bytes) -> None:
    """Whether it comes as events, as one line, or as nothing at all."""
    async with (
        _without_end(piece, 0.0) as url,
        HearingServer(url, timeout_s=_LIMIT_S) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        with pytest.raises(UpstreamError) as caught:
            await ears.listen(silence(100))
        assert caught.value.code == "upstream_protocol"


async def test_a_transcript_has_a_deadline() -> None:
    """However often a piece of it comes."""
    async with (
        _without_end(_DELTA, 0.05) as url,
        HearingServer(url, timeout_s=scaled(0.5), longest_s=scaled(1.0)) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        with pytest.raises(UpstreamError) as caught:
            await ears.listen(silence(100))
        assert caught.value.code == "upstream_timeout"


async def test_speech_has_a_deadline() -> None:
    """What was spoken until then has been heard."""
    async with (
        _without_end(bytes(2), 0.05) as url,
        VoiceServer(url, timeout_s=scaled(0.5), longest_s=scaled(1.0)) as voice,
        asyncio.timeout(_LIMIT_S),
    ):
        sound = voice.speak_sentence("Hello.", speed=1.0, voice="marin", log=CONTEXT.logger("engine"))
        assert await sound.next()

        async def to_its_end() -> None:
            while await sound.next():
                pass

        with pytest.raises(UpstreamError) as caught:
            await to_its_end()
        assert caught.value.code == "upstream_timeout"
