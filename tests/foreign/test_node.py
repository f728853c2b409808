"""WebRTC stacks for Node, as they are: libwebrtc, werift and libdatachannel call the bridge."""

from typing import Any

import pytest

from bridge.config import Config
from bridge.daemon import Daemon
from tests.end_to_end.event_log import inbound_sound, outbound_sound, stream_numbers
from tests.end_to_end.sound import match, samples_of
from tests.end_to_end.web import open_socket, request
from tests.foreign.peers import FOLDER, heard_by, stretched_likeness
from tests.sdk_js.node import scenario

pytestmark = pytest.mark.usefixtures("node_packages")

_LIKENESS = 0.9
_FRAME_SAMPLES = 480


async def _talk(daemon: Daemon, peer: str, speech: dict[str, str], spoken: bytes, *, peer_hangs_up: bool) -> None:
    """One call: what the peer says is heard by a listener, it hears that again, and one of the two hangs up."""
    words = samples_of(spoken)
    inputs: dict[str, Any] = {"url": daemon.url, "hangsUp": peer_hangs_up, **speech}
    async with scenario("call.mjs", peer, folder=FOLDER, **inputs) as log:
        call_id = (await log.until("peer.connected"))["call_id"]
        session = daemon.registry.find(call_id)
        async with open_socket(daemon.url, f"call_id={call_id}&audio=pcm16") as listener:
            log.end_input()
            told = await log.until("peer.heard")
            if not peer_hangs_up:
                reply = await request("POST", f"{daemon.url}v1/realtime/calls/{call_id}/hangup")
                assert reply.status == 200
            await session.closed.wait()
            assert await listener.close_code() == 1000
    assert log.of("error") == []
    assert log.types[-1] == "peer.gone"
    appends = listener.of("input_audio_buffer.append")
    assert stream_numbers(appends) == list(range(1, len(appends) + 1))
    caller, answer = samples_of(inbound_sound(listener.events)), heard_by(told)
    assert len(caller) >= len(words) - _FRAME_SAMPLES
    assert match(caller, words).correlation > _LIKENESS
    assert match(samples_of(outbound_sound(listener.events)), words).correlation > _LIKENESS
    assert (stretched_likeness(answer, words) if peer == "wrtc" else match(answer, words).correlation) > _LIKENESS


@pytest.mark.parametrize("peer_hangs_up", [True, False], ids=["peer-hangs-up", "bridge-hangs-up"])
@pytest.mark.parametrize("peer", ["wrtc", "werift", "datachannel"])
async def test_it_speaks_and_is_answered(
    daemon: Daemon, peer: str, speech: dict[str, str], short_pcm: bytes, peer_hangs_up: bool
) -> None:
    """A listener hears all that the peer says, the peer hears the answer, and both notice when the other hangs up."""
    await _talk(daemon, peer, speech, short_pcm, peer_hangs_up=peer_hangs_up)


async def test_libwebrtc_over_ipv6(speech: dict[str, str], short_pcm: bytes) -> None:
    """On ``::1`` the same call comes about."""
    config = Config(host="::1", port=0, udp_port=0, drain_s=0, engine="parrot")
    async with Daemon(config) as daemon:
        await _talk(daemon, "wrtc", speech, short_pcm, peer_hangs_up=True)
