"""WebRTC stacks for Node, as they are: libwebrtc, werift and libdatachannel call the bridge."""

from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.event_log import inbound_sound, outbound_sound
from tests.end_to_end.sound import PLAYED_LIKENESS, match, samples_of, stretched_likeness
from tests.foreign.peers import FOLDER, LIKENESS, converse, heard_by
from tests.sdk_js.node import scenario
from tests.settings import config_for_tests
from tests.webrtc.relay import Relay

pytestmark = pytest.mark.usefixtures("node_packages")

_FRAME_SAMPLES = 480


async def _talk(daemon: Daemon, peer: str, speech: dict[str, str], spoken: bytes, *, peer_hangs_up: bool) -> None:
    """One call: what the peer says is heard by a listener, it hears that again, and one of the two hangs up."""
    words = samples_of(spoken)
    inputs: dict[str, Any] = {"url": daemon.url, "hangsUp": peer_hangs_up, **speech}
    async with scenario("call.mjs", peer, folder=FOLDER, **inputs) as log:
        listener, told = await converse(daemon, log, peer_hangs_up=peer_hangs_up)
    caller, answer = samples_of(inbound_sound(listener.events)), heard_by(told)
    assert len(caller) >= len(words) - _FRAME_SAMPLES
    assert match(caller, words).correlation > LIKENESS
    assert match(samples_of(outbound_sound(listener.events)), words).correlation > LIKENESS
    if peer == "wrtc":  # it alone gives what it has played, and not the packets
        assert stretched_likeness(answer, words) > PLAYED_LIKENESS
    else:
        assert match(answer, words).correlation > LIKENESS


@pytest.mark.parametrize("peer_hangs_up", [True, False], ids=["peer-hangs-up", "bridge-hangs-up"])
@pytest.mark.parametrize("peer", ["wrtc", "werift", "datachannel"])
async def test_it_speaks_and_is_answered(
    daemon: Daemon, peer: str, speech: dict[str, str], short_pcm: bytes, peer_hangs_up: bool
) -> None:
    """A listener hears all that the peer says, the peer hears the answer, and both notice when the other hangs up."""
    await _talk(daemon, peer, speech, short_pcm, peer_hangs_up=peer_hangs_up)


async def test_libwebrtc_over_ipv6(speech: dict[str, str], short_pcm: bytes) -> None:
    """On ``::1`` the same call comes about."""
    config = config_for_tests(host="::1")
    async with Daemon(config) as daemon:
        await _talk(daemon, "wrtc", speech, short_pcm, peer_hangs_up=True)


@pytest.mark.parametrize("peer", ["wrtc", "werift", "datachannel"])
async def test_large_events_while_packets_are_lost(daemon: Daemon, peer: str) -> None:
    """Three packets in a hundred are lost: 1 MB of events goes up, 2 MB comes down, whole and in order."""
    async with Relay(daemon.endpoint.port, seed=3, loss=0.03) as relay:
        way = {"from": daemon.endpoint.port, "to": relay.port}
        async with scenario(
            "large.mjs", peer, folder=FOLDER, url=daemon.url, events=16, chars=60_000, relay=way
        ) as log:
            told = await log.until("peer.told")
            running = tuple(daemon.endpoint.peers)  # none if it has hung up already
            faults = {fault for each in running for fault in each.faults}
        assert relay.lost > 20
    assert told["errors"] == []
    assert told["added"] == told["done"] == [True] * 16
    assert faults <= {"sctp_no_room"}
