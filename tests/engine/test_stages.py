"""What the stages of an engine take, and what the engine adds: over real sockets, with real speech."""

import asyncio
import statistics
from collections.abc import Callable

import pytest

from bridge.engine.llm import ChatServer
from bridge.engine.llm_responder import LlmResponder
from bridge.engine.local import Local
from bridge.engine.speech_server import HearingServer, VoiceServer
from bridge.wire.stats import StageStats
from tests.engine.chat_service import ChatService, Reply, refuse, say
from tests.engine.speech_service import SpeechService
from tests.engine.talk import AUDIO, MS, Talk
from tests.machine import scaled

_THINKING_S = 0.1
_ADDED_S = 0.060
_TURNS = 7
_LIMIT_S = scaled(30.0)


def _stages(talk: Talk) -> dict[str, StageStats]:
    return {stage.name.value: stage for stage in talk.engine.stats().stages}


@pytest.mark.alone
@pytest.mark.slow
async def test_the_first_sound_comes_when_the_stages_have_done_their_work(
    models: Local, say: Callable[[str], bytes]
) -> None:
    """From the end of speech to the first sound it takes what ears, mind and voice take, and 60 ms at most."""

    async def think(reply: Reply) -> None:
        await asyncio.sleep(_THINKING_S)  # it is the model's time
        await reply.delta(content="It is sunny.")
        await reply.end()

    question = say("What is the weather like in Oslo?")
    added_s = []
    async with (
        ChatService.serving(think) as chat,
        SpeechService.serving(models) as speech,
        ChatServer(chat.url, timeout_s=_LIMIT_S) as server,
        HearingServer(speech.url, timeout_s=_LIMIT_S) as ears,
        VoiceServer(speech.url, timeout_s=_LIMIT_S) as voice,
        asyncio.timeout(_LIMIT_S),
    ):
        for _ in range(_TURNS):
            talk = Talk(LlmResponder(server, ears=ears, voice=voice), audio={"input": {"turn_detection": None}})
            talk.speak(question)
            loop = asyncio.get_running_loop()
            began = loop.time()
            talk.send("input_audio_buffer.commit")
            talk.send("response.create")
            await talk.said.until(AUDIO)
            total_s = loop.time() - began
            stages = _stages(talk)
            assert [stages[name].answered for name in ("ear", "mind", "voice")] == [1, 1, 1]
            own_s = sum((stage.first_ms or 0) / 1000 for stage in stages.values())
            assert own_s > _THINKING_S
            added_s.append(total_s - own_s)
            await talk.engine.aclose()
    assert statistics.median(added_s) <= _ADDED_S, added_s


async def test_what_fails_is_counted(models: Local) -> None:
    """Each stage by itself; what nobody wanted any more is no failure."""
    async with (
        ChatService.serving(say("Well."), refuse(403), say("Well.")) as chat,
        SpeechService.serving(models) as speech,
        ChatServer(chat.url) as server,
        VoiceServer(speech.url) as voice,
        HearingServer(speech.url) as ears,
        asyncio.timeout(_LIMIT_S),
    ):
        audio = {"input": {"turn_detection": None, "transcription": {"model": "whisper-1"}}}
        talk = Talk(LlmResponder(server, ears=ears, voice=voice), audio=audio)
        for number, (fault, status) in enumerate(((b"", "completed"), (b"", "failed"), (_REFUSED, "failed")), 1):
            speech.faults = [fault] if fault else []
            talk.type("Hello")
            talk.send("response.create")
            assert (await talk.answer(number))["status"] == status
        speech.faults = [_REFUSED]
        talk.speak(bytes(500 * MS))
        talk.send("input_audio_buffer.commit")
        await talk.said.until("conversation.item.input_audio_transcription.failed")
        stages = _stages(talk)
        assert {name: (stage.answered, stage.failed) for name, stage in stages.items()} == {
            "ear": (0, 1),
            "mind": (2, 1),
            "voice": (1, 1),
        }
        assert stages["mind"].slowest_ms >= stages["mind"].first_ms > 0  # type: ignore[operator]
        await talk.engine.aclose()


_REFUSED = b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
