"""Firefox ESR at the console, with PulseAudio for a microphone and a loudspeaker."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.event_log import inbound_sound, outbound_sound
from tests.end_to_end.sound import PLAYED_LIKENESS, samples_of, stretched_likeness
from tests.foreign.network import inside, network
from tests.foreign.peers import FOLDER, LIKENESS, converse
from tests.foreign.sound_card import SoundCard
from tests.sdk_js.node import Scenario, scenario
from tests.settings import config_for_tests

pytestmark = pytest.mark.usefixtures("node_packages")

_KEY = "sk-test"
_SILENCE = bytes(2 * 24 * 1000)


@pytest.fixture
async def card(tmp_path: Path) -> AsyncIterator[SoundCard]:
    """The sound card that Firefox finds."""
    async with SoundCard.plugged_in(tmp_path) as plugged_in:
        yield plugged_in


async def _talk(daemon: Daemon, log: Scenario, card: SoundCard, spoken: bytes, *, peer_hangs_up: bool) -> None:
    """One call at the console: what is said is heard by a listener, the answer comes out of the loudspeaker."""
    words = samples_of(spoken)
    await log.until("peer.connected")
    async with asyncio.TaskGroup() as tasks:
        talking = tasks.create_task(converse(daemon, log, peer_hangs_up=peer_hangs_up, key=_KEY))
        await card.speak(_SILENCE + spoken + _SILENCE)
    listener, told = talking.result()
    assert told["complaints"] == []

    caller, answer = samples_of(inbound_sound(listener.events)), samples_of(outbound_sound(listener.events))
    assert len(caller) >= len(words)
    assert stretched_likeness(caller, words) > PLAYED_LIKENESS
    assert stretched_likeness(caller, answer) > LIKENESS
    assert stretched_likeness(card.heard, answer) > PLAYED_LIKENESS


def firefox_on(
    script: str, name: str, daemon: Daemon, card: SoundCard, before: tuple[str, ...] = (), **inputs: Any
) -> AbstractAsyncContextManager[Scenario]:
    """Firefox at the console, driven by ``script``; its profile is its own."""
    found = shutil.which("firefox-esr")
    assert found, "needs firefox-esr: make foreign"
    environ = [f"{name}={value}" for name, value in card.environ.items()]
    command = (*before, "env", *environ, "node")
    profile = str(Path(card.environ["HOME"], "profile"))
    inputs = {"url": daemon.url, "firefox": found, "profile": profile, **inputs}
    return scenario(script, name, folder=FOLDER, command=command, **inputs)


def _firefox(
    daemon: Daemon, card: SoundCard, before: tuple[str, ...] = (), **inputs: Any
) -> AbstractAsyncContextManager[Scenario]:
    """Firefox as a caller."""
    return firefox_on("firefox.mjs", "console", daemon, card, before, **inputs)


async def test_on_the_default_setup(card: SoundCard, short_pcm: bytes) -> None:
    """HTTP on loopback, no key, nothing advertised: Talk connects, speaks, hears, and hangs up."""
    async with Daemon(config_for_tests()) as daemon:
        async with _firefox(daemon, card, hangsUp=True) as log:
            await _talk(daemon, log, card, short_pcm, peer_hangs_up=True)


async def test_across_a_network(card: SoundCard, short_pcm: bytes) -> None:
    """Firefox has a network of its own, and the bridge a key: they talk, and the bridge hangs up."""
    async with network() as net:
        namespace = await net.namespace()
        host, _ = await net.link(None, namespace)
        config = config_for_tests(host=host, api_key=(_KEY,))
        async with Daemon(config) as daemon:
            async with _firefox(daemon, card, inside(namespace), key=_KEY, hangsUp=False) as log:
                await _talk(daemon, log, card, short_pcm, peer_hangs_up=False)
            [gone] = log.of("peer.gone")
            assert gone["state"].startswith("closed: the other side ended the call")  # why may follow
