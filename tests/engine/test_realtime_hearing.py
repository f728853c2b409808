"""Ears behind transcription sessions over WebSocket: the bridge itself is the service, and services that fail."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from bridge.daemon import Daemon
from bridge.engine.hearing import StreamedTurn
from bridge.engine.local import Local
from bridge.engine.realtime_hearing import RealtimeHearing
from bridge.engine.rule_responder import RuleResponder
from bridge.errors import UpstreamError
from tests.engine.talk import MS, Talk, silence
from tests.engine.test_rules import Bridge
from tests.machine import scaled
from tests.settings import config_for_tests
from tests.upstream.service import Refusal, Service, Visit

pytestmark = pytest.mark.slow

_LIMIT_S = scaled(30.0)
_TRANSCRIPTION = "conversation.item.input_audio_transcription."


def _socket_url(daemon: Daemon) -> str:
    return daemon.url.replace("http", "ws", 1) + "v1/realtime"


async def test_speech_is_heard_by_another_bridge(models: Local, say: Callable[[str], bytes]) -> None:
    """Words come back, turn after turn, over the same connection; in no words nobody spoke."""
    async with (
        Daemon(config_for_tests(engine="local", api_key=("sk-ear",)), local=models) as daemon,
        RealtimeHearing(_socket_url(daemon), key="sk-ear", timeout_s=_LIMIT_S) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        for sentence in ("Repeat after me, the sky is blue.", "What time is it?"):
            heard = await ears.listen(say(sentence), language="en")
            assert (heard.text, heard.is_speech) == (sentence, True)
            assert len(daemon.registry.sessions) == 1
        assert not (await ears.listen(silence(1000))).is_speech


async def test_a_conversation_has_these_ears(models: Local, say: Callable[[str], bytes]) -> None:
    """The whole engine with them: a spoken question is answered, and its transcript is told."""
    async with (
        Daemon(config_for_tests(engine="local"), local=models) as daemon,
        RealtimeHearing(_socket_url(daemon), timeout_s=_LIMIT_S) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        audio = {"input": {"transcription": {"model": "whisper-1"}}}
        talk = Talk(RuleResponder(ears, models, Bridge(), seed=0), audio=audio)
        talk.speak(silence(300) + say("Repeat after me, the sky is blue.") + silence(900))
        response = await talk.answer()
        assert response["output"][0]["content"][0]["transcript"] == "The sky is blue."
        [heard] = talk.said.of_type(f"{_TRANSCRIPTION}completed")
        assert heard["transcript"] == "Repeat after me, the sky is blue."
        await talk.engine.aclose()


async def _words(visit: Visit) -> None:
    """A service that tells what it hears piece by piece, for one stretch after the other."""
    await visit.greet()
    while True:
        await visit.hear("input_audio_buffer.commit")
        for delta in ("Hel", "lo."):
            await visit.say(f"{_TRANSCRIPTION}delta", item_id="item_1", delta=delta)
        await visit.say(f"{_TRANSCRIPTION}completed", item_id="item_1", transcript="Hello.")


async def _heard(ears: RealtimeHearing, language: str | None = None) -> tuple[str, list[str]]:
    said: list[str] = []
    future: Any = ears.listen(silence(500), language=language)
    assert isinstance(future, StreamedTurn)
    future.follow(said.append)
    return (await future).text, said


async def test_words_stream_and_a_session_is_set_up_once_a_language() -> None:
    """With its model, its language, and no turn detection; the words so far are told as they come."""
    async with (
        Service.serving(_words) as service,
        RealtimeHearing(service.url, model="ear-1", timeout_s=_LIMIT_S) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        for language in ("de", "de", None):
            assert await _heard(ears, language) == ("Hello.", ["Hel", "Hello."])
        visit = await service.visit(1)
        updates = [event for event in visit.events if event["type"] == "session.update"]
        asked = [update["session"]["audio"]["input"] for update in updates]
        assert [one["transcription"] for one in asked] == [{"model": "ear-1", "language": "de"}, {"model": "ear-1"}]
        assert asked[0]["turn_detection"] is None
        assert service.knocks == 1


async def test_a_connection_that_broke_meanwhile_is_replaced() -> None:
    """Nobody hears of it."""

    async def once(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("input_audio_buffer.commit")
        await visit.say(f"{_TRANSCRIPTION}completed", item_id="item_1", transcript="Hello.")
        visit.socket.transport.abort()

    async with (
        Service.serving(once) as service,
        RealtimeHearing(service.url, timeout_s=_LIMIT_S) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        for _ in range(3):
            assert (await ears.listen(silence(500))).text == "Hello."
        assert service.knocks == 3


async def _hang(visit: Visit) -> None:
    await visit.greet()
    await visit.until_closed()


async def _garbage(visit: Visit) -> None:
    await visit.greet()
    await visit.hear("input_audio_buffer.commit")
    await visit.socket.send("{]")
    await visit.until_closed()


async def _half(visit: Visit) -> None:
    await visit.greet()
    await visit.hear("input_audio_buffer.commit")
    await visit.say(f"{_TRANSCRIPTION}delta", item_id="item_1", delta="Hel")
    visit.socket.transport.abort()


async def _fail(visit: Visit) -> None:
    await visit.greet()
    await visit.hear("input_audio_buffer.commit")
    await visit.say("error", error={"type": "server_error", "code": "oom", "message": "Out of memory."})
    await visit.until_closed()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (_hang, "hearing_unreachable"),
        (_garbage, "upstream_protocol"),
        (_half, "hearing_unreachable"),
        (_fail, "oom"),
        (Refusal(429, code="busy", message="Slow down."), "busy"),
        (Refusal(500, code="broken", message="Sorry."), "broken"),
    ],
)
async def test_what_goes_wrong_is_an_error(script: Any, code: str) -> None:
    """However the service fails, the recognition ends with an error."""
    async with (
        Service.serving(script) as service,
        RealtimeHearing(service.url, timeout_s=scaled(0.5)) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        with pytest.raises(UpstreamError) as caught:
            await ears.listen(bytes(500 * MS))
        assert caught.value.code == code


async def _deaf(visit: Visit) -> None:
    await visit.greet()
    await visit.socket.wait_closed()


async def test_a_service_that_reads_nothing_is_given_up() -> None:
    """It is cut off, instead of being waited for; what it was sent does not have to go out first."""
    async with (
        Service.serving(_deaf) as service,
        RealtimeHearing(service.url, timeout_s=scaled(0.5)) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        with pytest.raises(UpstreamError) as caught:
            await ears.listen(bytes(300_000 * MS))  # more than the kernel takes
        assert caught.value.code == "hearing_unreachable"


async def test_no_redirect_is_followed() -> None:
    """The key and the caller's sound go to the server of the settings alone."""
    async with Service.serving(_words) as elsewhere:

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()

        async with await asyncio.start_server(redirect, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime"
            async with RealtimeHearing(url, key="sk-ear", timeout_s=_LIMIT_S) as ears, asyncio.timeout(_LIMIT_S):
                with pytest.raises(UpstreamError, match="302"):
                    await ears.listen(silence(500))
        assert elsewhere.knocks == 0


async def test_a_transcript_without_end_is_cut_off() -> None:
    """No more words are taken than a stretch of speech can have."""

    async def chatter(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("input_audio_buffer.commit")
        with suppress(ConnectionClosed):
            while True:
                await visit.say(f"{_TRANSCRIPTION}delta", item_id="item_1", delta="bla " * 5000)

    async with (
        Service.serving(chatter) as service,
        RealtimeHearing(service.url, timeout_s=_LIMIT_S) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        said: list[str] = []
        future: Any = ears.listen(silence(500))
        future.follow(said.append)
        with pytest.raises(UpstreamError) as caught:
            await future
        assert caught.value.code == "upstream_protocol"
        assert 0 < max(map(len, said)) <= 100_000


async def test_a_recognition_has_a_deadline() -> None:
    """However often an event comes, it does not go on for ever."""

    async def dawdle(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("input_audio_buffer.commit")
        with suppress(ConnectionClosed):
            while True:
                await visit.say("rate_limits.updated", rate_limits=[])
                await asyncio.sleep(0.05)

    async with (
        Service.serving(dawdle) as service,
        RealtimeHearing(service.url, timeout_s=scaled(0.5), longest_s=scaled(1.0)) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        with pytest.raises(UpstreamError) as caught:
            await ears.listen(silence(500))
        assert caught.value.code == "upstream_timeout"
