"""WHIP and WHEP with stacks that nobody here wrote: libdatachannel, which OBS is built on, and GStreamer."""

from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.event_log import inbound_sound
from tests.end_to_end.sound import PLAYED_LIKENESS, match, samples_of, stretched_likeness
from tests.end_to_end.web import open_socket
from tests.foreign.network import inside, network
from tests.foreign.peers import FOLDER, LIKENESS, heard_by
from tests.sdk_js.node import Scenario, scenario
from tests.settings import config_for_tests

_KEY = "sk-test"
_PYTHON = "/usr/bin/python3"  # it alone has the system's bindings of GStreamer


async def _published(daemon: Daemon, log: Scenario, short_pcm: bytes) -> dict[str, Any]:
    """Until the answer has been played: what the publisher said was heard, and what its player heard is the answer."""
    connected = await log.until("peer.connected")
    key = {"Authorization": f"Bearer {_KEY}"}
    async with open_socket(
        daemon.url, f"call_id={connected['call_id']}&audio=pcm16", first=None, additional_headers=key
    ) as listener:
        await listener.until("output_audio_buffer.stopped")
        log.end_input()
        told = await log.until("peer.heard")
        words = samples_of(short_pcm)
        assert match(samples_of(inbound_sound(listener.events)), words).correlation > LIKENESS
        assert stretched_likeness(heard_by(told), words) > PLAYED_LIKENESS  # a late clock leaves gaps
        assert (await log.until("peer.gone"))["statuses"] == [200, 200]
        assert await listener.close_code() == 1000
    assert (daemon.registry.sessions, daemon.players.ids) == ([], [])
    return connected


@pytest.mark.usefixtures("node_packages")
async def test_libdatachannel_with_pictures(daemon: Daemon, speech: dict[str, str], short_pcm: bytes) -> None:
    """Sound and H.264 in one offer, as OBS makes it: the sound is taken, the pictures are told to be of no use."""
    inputs: dict[str, Any] = {"url": daemon.url, "key": _KEY, **speech}
    async with scenario("one_way.mjs", "call", folder=FOLDER, **inputs) as log:
        connected = await _published(daemon, log, short_pcm)
    assert connected["warning"].startswith("unused_sections: ")


async def test_gstreamer(speech: dict[str, str], short_pcm: bytes) -> None:
    """``webrtcbin`` with a ``POST`` of its offer, both ways, from a network of its own."""
    async with network() as net:
        namespace = await net.namespace()
        host, _ = await net.link(None, namespace)
        async with Daemon(config_for_tests(host=host, api_key=(_KEY,))) as daemon:
            command = (*inside(namespace), _PYTHON)
            inputs: dict[str, Any] = {"url": daemon.url, "key": _KEY, **speech}
            async with scenario("webrtcbin_one_way.py", "call", folder=FOLDER, command=command, **inputs) as log:
                connected = await _published(daemon, log, short_pcm)
    assert connected["version"].startswith("GStreamer 1.")
