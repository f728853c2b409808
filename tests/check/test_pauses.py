"""A machine that stands still while it speaks makes pauses in the speech; no server is blamed for them."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.client.check.link import PeerLink
from bridge.client.check.rows.common import input_settings
from bridge.client.check.runner import run
from bridge.client.check.steps import Expect, Never, Row, Speak
from bridge.client.check.target import CheckTarget
from bridge.client.sound import PHRASE, read_sound
from bridge.daemon import Daemon
from tests.settings import config_for_tests

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

_ONE_TURN = Row(
    id="turns.one",
    says="The phrase is one turn.",
    source="this test",
    steps=(
        Speak(until="input_audio_buffer.committed"),
        input_settings(noise_reduction=None),
        Expect("session.updated"),
        Never("input_audio_buffer.speech_started", 1.5),
    ),
)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def daemon() -> AsyncIterator[Daemon]:
    """One that finds turns."""
    async with Daemon(config_for_tests()) as serving:
        yield serving


def _stand_still(monkeypatch: pytest.MonkeyPatch, *, times: int) -> list[str]:
    """Lets the process stand still for a second in the middle of the phrase, so often; tells of each phrase."""
    begun: list[str] = []
    take = PeerLink.receive_event

    def receive(link: PeerLink, event: dict[str, Any]) -> None:
        take(link, event)
        if event["type"] == "input_audio_buffer.speech_started" and link.is_speaking:
            if link.call_id not in begun and len(begun) < times:
                asyncio.get_running_loop().call_soon(time.sleep, 1.0)
            begun.append(str(link.call_id))

    monkeypatch.setattr(PeerLink, "receive_event", receive)
    return begun


async def test_a_row_is_played_again_if_the_machine_made_pauses(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The phrase falls into two turns at first; the second time it is whole, and the row passes."""
    begun = _stand_still(monkeypatch, times=1)
    target = CheckTarget(daemon.url, transport="webrtc")
    outcome = (await run(target, [_ONE_TURN], read_sound(PHRASE)))[0]
    assert (outcome.verdict, outcome.why) == ("pass", "")
    assert len(set(begun)) >= 2


async def test_a_machine_that_always_stands_still_is_named(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last try the outcome says that the pauses were not the server's, and how often it was tried."""
    begun = _stand_still(monkeypatch, times=100)
    target = CheckTarget(daemon.url, transport="webrtc")
    outcome = (await run(target, [_ONE_TURN], read_sound(PHRASE)))[0]
    assert outcome.verdict == "fail"
    assert "this machine stood still for" in outcome.why
    assert "tried 3 times" in outcome.why
    assert len(set(begun)) == 3


async def test_another_try_costs_speech(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``--max-seconds`` leaves is not exceeded by it."""
    begun = _stand_still(monkeypatch, times=100)
    target = CheckTarget(daemon.url, transport="webrtc")
    outcome = (await run(target, [_ONE_TURN], read_sound(PHRASE), max_speech_s=_ONE_TURN.speech_s * 1.5))[0]
    assert outcome.verdict == "fail"
    assert "tried once" in outcome.why
    assert len(set(begun)) == 1
