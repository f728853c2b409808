"""Talking to the engine that hears and speaks: real speech over WebRTC, and no network."""

import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.daemon import Daemon
from bridge.engine.local import Local
from tests.end_to_end.event_log import EventLog
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.serving import serving
from tests.end_to_end.web import open_socket
from tests.processes import ran
from tests.settings import config_for_tests

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]
_PAUSE = bytes(2 * 24 * 1000)
_MAX_RSS_BYTES = 450e6
_SESSIONS = 20

TURNS = [
    ("Hello there.", "Hello"),
    ("What can you do for me?", "I can repeat after you"),
    ("Repeat after me, the sky is blue.", "The sky is blue."),
    ("Please count to five.", "1, 2, 3, 4, 5."),
    ("What is today's date?", "Today is"),
    ("How many calls are there?", "There is 1 call running on this bridge."),
    ("How many listeners do I have?", "There are no listeners attached to this bridge."),
    ("Can you speak German?", "I am sorry, I speak English only."),
    ("Tell me a story about a dragon.", "You said: Tell me a story about a dragon."),
    ("Thank you very much.", ""),
]

Say = Callable[[str], bytes]


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def daemon(models: Local) -> AsyncIterator[Daemon]:
    """A daemon whose engine hears and speaks, with models that are loaded already."""
    async with Daemon(config_for_tests(engine="local"), local=models) as serving:
        yield serving


def _update(**session: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def _transcribed(**turns: Any) -> dict[str, Any]:
    detection = {"type": "server_vad", **turns}
    return _update(audio={"input": {"transcription": {"model": "whisper-1"}, "turn_detection": detection}})


def _answers(log: EventLog) -> list[str]:
    return [event["transcript"] for event in log.of("response.output_audio_transcript.done")]


async def _heard_out(peer: RealPeer, number: int) -> None:
    """Until the ``number``-th answer has been played."""
    await peer.until("output_audio_buffer.stopped", number=number)


@pytest.mark.timeout(120)
@pytest.mark.alone
async def test_ten_turns_are_understood_and_answered(daemon: Daemon, say: Say) -> None:
    """A scripted conversation: every word of the caller is written down as it was said, every answer fits."""
    async with RealPeer(daemon.url) as peer:
        peer.send(_transcribed())
        await peer.until("session.updated")
        for number, (words, _) in enumerate(TURNS, 1):
            await peer.speak(say(words) + _PAUSE)
            await peer.until("conversation.item.input_audio_transcription.completed", number=number)
            await _heard_out(peer, number)
    said = [event["transcript"] for event in peer.of("conversation.item.input_audio_transcription.completed")]
    assert [text.rstrip(".?") for text in said] == [words.rstrip(".?") for words, _ in TURNS]  # the tone is a guess
    assert [answer[: len(expected)] for answer, (_, expected) in zip(_answers(peer), TURNS, strict=True)] == [
        expected for _, expected in TURNS
    ]
    assert peer.of("error") == []


async def test_the_answer_is_heard(daemon: Daemon, say: Say, models: Local) -> None:
    """What reaches the caller over WebRTC is the answer: its own ears understand it."""
    async with RealPeer(daemon.url) as peer:
        await peer.speak(say("Repeat after me, the sky is blue.") + _PAUSE)
        await _heard_out(peer, 1)
    assert (await models.listen(peer.heard)).text == "The sky is blue."


async def test_barge_in(daemon: Daemon, say: Say) -> None:
    """Who speaks into an answer is listened to: it stops, is cut to what was heard, and another one comes."""
    async with RealPeer(daemon.url) as peer:
        peer.send(_transcribed())
        await peer.until("session.updated")
        await peer.speak(say("What can you do for me?") + _PAUSE)
        started = await peer.until("output_audio_buffer.started")
        await peer.speak(say("What time is it?") + _PAUSE)
        cleared = await peer.until("output_audio_buffer.cleared")
        truncated = await peer.until("conversation.item.truncated")
        await _heard_out(peer, 1)
    assert cleared["response_id"] == started["response_id"]
    assert 0 < truncated["audio_end_ms"] < 2500
    said = [event["transcript"] for event in peer.of("conversation.item.input_audio_transcription.completed")]
    assert said == ["What can you do for me?", "What time is it?"]
    assert _answers(peer)[-1].startswith("It is ")


async def test_it_stays_small_with_twenty_sessions(say: Say, tmp_path: Path) -> None:
    """A daemon with twenty callers who have all spoken and been answered takes less than 450 MB."""
    sound = say("Repeat after me, the sky is blue.") + _PAUSE
    async with serving(tmp_path / "log", engine="auto") as daemon, contextlib.AsyncExitStack() as stack:
        assert daemon.engine == "local"
        sockets = [await stack.enter_async_context(open_socket(daemon.url, "model=any")) for _ in range(_SESSIONS)]
        append = {"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode()}
        for socket in sockets:
            await socket.send(append)
        for socket in sockets:
            done = await socket.until("response.done")
            assert done["response"]["status"] == "completed"
            assert _answers(socket) == ["The sky is blue."]
        assert psutil.Process(daemon.process.pid).memory_info().rss < _MAX_RSS_BYTES


async def test_it_needs_no_network(tmp_path: Path) -> None:
    """In a network that ends at loopback it starts, hears, understands and answers."""
    command = ["unshare", "--map-root-user", "--net", sys.executable, "-m", "tests.end_to_end.offline"]
    code, output, complaint = await ran(*command)
    assert code == 0, complaint
    assert json.loads(output.splitlines()[-1]) == {
        "heard": ["What is 12 plus 30?"],
        "answered": ["12 plus 30 is 42."],
        "others": [],
    }
