"""RTCP on live calls: what a stock peer is told, what it tells, and what it gets again."""

import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import (
    HeaderExtensionsMap,
    RtcpByePacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
)
from aiortc.stats import RTCRemoteInboundRtpStreamStats, RTCRemoteOutboundRtpStreamStats
from msgspec import to_builtins

from bridge.media.extensions import AUDIO_LEVEL_URI, MID_URI
from bridge.media.playback import Part
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.ice import PacketKind, packet_kind
from tests.fakes import NotedLoss
from tests.webrtc.calling import SSRC
from tests.webrtc.conftest import Placing
from tests.webrtc.ear import Ear, sequence_of

PART = Part("resp_1", "item_1", 0, 0)


async def test_the_peer_is_told_what_became_of_its_sound(endpoint: Endpoint, place_call: Placing) -> None:
    """Our report names the caller's stream, its last number and what was lost of it."""
    caller = await place_call(endpoint)
    ear = Ear(caller)
    await caller.speak(10)
    caller.sequence += 5
    await caller.speak(10)
    await ear.until(lambda: any(r.reports and r.reports[0].packets_lost == 5 for r in ear.reports()))
    (block,) = ear.reports()[-1].reports
    assert block.ssrc == SSRC
    assert block.highest_sequence == caller.sequence
    assert to_builtins(caller.peer.stats())["lost"] == 5


async def test_a_stock_peer_and_the_bridge_know_each_other(endpoint: Endpoint, place_call: Placing) -> None:
    """aiortc's own statistics have our reports, and we have its round trip."""
    caller = await place_call(endpoint)
    ear = Ear(caller)
    caller.peer.play(PART, bytes(48_000 * 20))

    async def told() -> bool:
        stats = (await caller.pc.getStats()).values()
        return any(isinstance(each, RTCRemoteOutboundRtpStreamStats | RTCRemoteInboundRtpStreamStats) for each in stats)

    await ear.until(lambda: caller.peer.rtp.reports.round_trip_ms is not None)
    assert await told()
    round_trip_ms = to_builtins(caller.peer.stats())["round_trip_ms"]
    assert isinstance(round_trip_ms, float)
    assert round_trip_ms >= 0
    assert isinstance(ear.reports()[-1], RtcpSrPacket)


async def test_reported_loss_reaches_the_encoder(endpoint: Endpoint, place_call: Placing) -> None:
    """A peer that reports a quarter of its packets as lost gets as much FEC."""
    caller = await place_call(endpoint)
    outbound = caller.peer.rtp.outbound
    outbound._encoder = encoder = NotedLoss(outbound._encoder)
    block = RtcpReceiverInfo(outbound.ssrc, 64, 10, 100, 96, 0, 0)
    await caller.send_rtp(bytes(RtcpRrPacket(ssrc=1, reports=[block])))
    await caller.works()
    assert encoder.loss_percents == [25]
    figures = to_builtins(caller.peer.stats())
    assert (figures["remote_lost_percent"], figures["remote_jitter_ms"]) == (25.0, 2.0)


def nack(sdp: str) -> str:
    """An offer whose Opus may be asked for again."""
    return sdp.replace("a=rtpmap:96", "a=rtcp-fb:96 nack\r\na=rtpmap:96")


@pytest.mark.parametrize("is_negotiated", [True, False])
async def test_a_lost_packet_is_sent_again(
    endpoint: Endpoint, place_call: Placing, monkeypatch: pytest.MonkeyPatch, is_negotiated: bool, speech_pcm: bytes
) -> None:
    """Where the offer has a=rtcp-fb nack, a packet that was lost arrives once it is asked for; else it does not."""
    caller = await place_call(endpoint, patch=nack if is_negotiated else str)
    ear = Ear(caller)
    send = caller.peer.ice.send_datagram
    lost: list[int] = []

    def lose_one(datagram: bytes) -> None:
        if packet_kind(datagram) is PacketKind.RTP and len(ear.rtp) == 5 and not lost:
            lost.append(sequence_of(datagram))
        else:
            send(datagram)

    monkeypatch.setattr(caller.peer.ice, "send_datagram", lose_one)
    caller.peer.play(PART, speech_pcm)
    await ear.until(lambda: len(ear.rtp) >= 15)
    assert lost
    assert lost[0] not in map(sequence_of, ear.rtp)
    request = RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=caller.peer.rtp.outbound.ssrc, lost=lost)
    await caller.send_rtp(bytes(request))
    if is_negotiated:
        await ear.until(lambda: lost[0] in map(sequence_of, ear.rtp))
    await caller.works()
    assert to_builtins(caller.peer.stats())["resent"] == (1 if is_negotiated else 0)


async def test_who_hangs_up_says_bye(endpoint: Endpoint, place_call: Placing) -> None:
    """The last packet of the stream is an RTCP BYE."""
    caller = await place_call(endpoint)
    ear = Ear(caller)
    caller.peer.hang_up("enough")
    await ear.until(lambda: any(isinstance(packet, RtcpByePacket) for packet in ear.rtcp))
    assert ear.rtcp[-1].sources == [caller.peer.rtp.outbound.ssrc]


async def test_packets_name_their_section_and_their_level(
    endpoint: Endpoint, place_call: Placing, speech_pcm: bytes
) -> None:
    """Where the offer has the extensions, each packet of ours has them too."""
    caller = await place_call(endpoint)
    ear = Ear(caller)
    caller.peer.play(PART, speech_pcm)
    await ear.until(lambda: len(ear.rtp) >= 100)
    mid = caller.pc.getTransceivers()[0].mid
    section = caller.peer.negotiation.remote.outbound
    assert section is not None
    known = HeaderExtensionsMap()
    known.configure(
        RTCRtpParameters(
            headerExtensions=[
                RTCRtpHeaderExtensionParameters(id=section.extensions[uri], uri=uri)
                for uri in (AUDIO_LEVEL_URI, MID_URI)
            ]
        )
    )
    read = [RtpPacket.parse(packet, known).extensions for packet in ear.rtp]
    assert {each.mid for each in read} == {mid}
    assert all(each.audio_level is not None for each in read)
    assert min(each.audio_level[1] for each in read) < 40 < 120 < max(each.audio_level[1] for each in read)
