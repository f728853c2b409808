"""Live calls over a network that behaves as networks do: it loses, delays and doubles, and its NATs forget."""

import asyncio

import numpy as np
import pytest
from msgspec import to_builtins

from bridge.media.playback import Part
from bridge.webrtc.endpoint import Endpoint
from tests.machine import scaled
from tests.webrtc.calling import Caller, NotedSound
from tests.webrtc.conftest import Placing
from tests.webrtc.ear import Ear, sequence_of
from tests.webrtc.relay import Relay
from tests.webrtc.test_inbound_outbound_live import opus_packets

pytestmark = pytest.mark.slow

PART = Part("resp_1", "item_1", 0, 0)
PER_S = 50


async def talk(caller: Caller, ear: Ear, packets: int) -> None:
    """Speaks a frame for each packet that is heard, for so many: both ways at the same pace."""
    for _ in range(packets):
        heard = len(ear.rtp)
        await caller.send_rtp(caller.rtp(caller.opus()))
        await ear.until(lambda: len(ear.rtp) > heard)  # noqa: B023


async def test_a_nat_that_forgets(endpoint: Endpoint, place_call: Placing) -> None:
    """When a caller's address changes in mid-call, all of its sound goes on, and it misses less than a second of ours.

    Its next check would be five seconds away; its sound from the new address is proof enough to ask it there.
    """
    async with Relay(endpoint.port) as relay:
        caller = await place_call(endpoint, is_connected=False)
        await caller.connect(patch_answer=relay.through)
        ear = Ear(caller)
        caller.peer.play(PART, bytes(48_000 * 10))
        await talk(caller, ear, PER_S)
        await relay.rebind()
        before = len(ear.rtp)
        async with asyncio.timeout(scaled(2)), asyncio.TaskGroup() as group:
            speaking = group.create_task(keep_speaking(caller))
            await ear.until(lambda: len(ear.rtp) > before)
            speaking.cancel()
        missed = sequence_of(ear.rtp[before]) - sequence_of(ear.rtp[before - 1]) - 1
        assert 0 <= missed < PER_S
        await talk(caller, ear, PER_S)
        await caller.works()
        figures = to_builtins(caller.peer.stats())
        assert (figures["moves"], figures["lost"], figures["concealed_ms"]) == (1, 0, 0)
        assert caller.peer.ice.address == relay.outside[-1]  # type: ignore[attr-defined]


async def keep_speaking(caller: Caller) -> None:
    """A frame every 20 ms, whoever hears it."""
    while True:
        await caller.send_rtp(caller.rtp(caller.opus()))
        await asyncio.sleep(0.02)


async def test_a_replay_from_elsewhere_moves_nothing(
    endpoint: Endpoint, place_call: Placing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has seen a caller's packets and sends them from another address is not answered, and hears nothing."""
    caller = await place_call(endpoint)
    await caller.works()
    noted = NotedSound(caller.peer.rtp)
    monkeypatch.setattr(caller.peer.ice, "media", noted)
    await caller.speak()
    seen = tuple(noted.packets)
    sent: list[object] = []
    monkeypatch.setattr(endpoint.mux, "sender_for", lambda address: lambda datagram, to: sent.append(to))
    monkeypatch.setattr(caller.peer.ice, "send_datagram", lambda datagram: sent.append(caller.peer.ice.address))  # type: ignore[attr-defined]
    for datagram in seen:
        endpoint.mux.datagram_received(datagram, ("127.0.0.1", 9))
    assert ("127.0.0.1", 9) not in sent
    assert endpoint.mux.drops["unknown_source"] == len(seen)
    assert caller.peer.rtp.doubles == len(seen) > 0


@pytest.mark.parametrize("seed", range(3))
async def test_speech_over_a_bad_network(endpoint: Endpoint, place_call: Placing, speech_pcm: bytes, seed: int) -> None:
    """With 5 % lost, 5 % doubled and delays that change the order, what arrived in time is heard, in its time."""
    async with Relay(endpoint.port, seed=seed, loss=0.05, jitter_s=0.03, doubles=0.05) as relay:
        caller = await place_call(endpoint, is_connected=False)
        await caller.connect(patch_answer=relay.through)
        packets = list(opus_packets(speech_pcm))[:100]
        for packet in packets:
            await caller.send_rtp(caller.rtp(packet))
            await asyncio.sleep(0.02)
        expected = len(packets) * 960
        await caller.owner.until(lambda: len(caller.owner.pcm) >= 0.95 * expected)
        stats = caller.peer.rtp.inbound.stats
        assert stats.lost > 0
        assert caller.peer.rtp.doubles > 0
        assert stats.concealed_ms > 0
        assert stats.decoded_ms >= 0.9 * 20 * (stats.packets - stats.late)


async def test_barge_in_is_heard_at_once_and_told_exactly(endpoint: Endpoint, place_call: Placing) -> None:
    """A clear stops the sound within 40 ms, and what is reported as heard is what the caller received, within 20 ms."""
    caller = await place_call(endpoint)
    ear = Ear(caller)
    tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(24_000 * 10) / 24_000)
    caller.peer.play(PART, tone.astype("<i2").tobytes())
    await ear.until(lambda: len(ear.rtp) >= 60)
    before, cut = ear.samples(), caller.peer.clear()
    assert cut is not None
    response_id, [heard] = cut
    assert (response_id, heard.part) == ("resp_1", PART)
    await ear.until(lambda: caller.peer.rtp.outbound.is_idle)
    sounding = np.flatnonzero(np.abs(ear.samples()) > 500)
    received_ms = (sounding[-1] - sounding[0] + 1) / 24
    assert received_ms == pytest.approx(heard.audio_end_ms, abs=20)
    assert (sounding[-1] - len(before)) / 24 <= 40
