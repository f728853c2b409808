"""Firefox ESR as an operator's browser: the console's Operations page, and a call that is listened to."""

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.conftest import _peers_use_loopback
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.sound import PLAYED_LIKENESS, samples_of, stretched_likeness
from tests.foreign.sound_card import SoundCard
from tests.foreign.test_firefox import card, firefox_on

__all__ = ["_peers_use_loopback", "card"]

pytestmark = pytest.mark.usefixtures("node_packages")

_SILENCE = bytes(2 * 24 * 1000)


async def test_an_operator_finds_a_call_and_hears_it(daemon: Daemon, card: SoundCard, short_pcm: bytes) -> None:
    """The caller's words and the answer come out of the loudspeaker; axe-core finds nothing in the dark theme."""
    async with RealPeer(daemon.url) as caller:
        await daemon.observer.load.sample()
        async with firefox_on("console.mjs", "operations", daemon, card, callId=caller.call_id) as log:
            shown = await log.until("page.operations")
            assert caller.call_id in shown["command"]
            assert shown["charts"][0].startswith("Calls: now 1")
            assert len(shown["charts"]) == 10
            assert shown["complaints"] == []
            await log.until("page.listening")
            await caller.speak(short_pcm + _SILENCE)
            await caller.until("output_audio_buffer.stopped")
            log.end_input()
            heard = await log.until("page.heard")
            assert "your own words" in heard["turns"]
            assert heard["complaints"] == []
            assert (await log.until("page.closed"))["faults"] == []
    assert stretched_likeness(card.heard, samples_of(short_pcm)) > PLAYED_LIKENESS
