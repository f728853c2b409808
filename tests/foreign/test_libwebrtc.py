"""libwebrtc, as PyPI's ``wrtc`` has it, hears what the bridge sends."""

import asyncio

import pytest

from benchmarks.kit.load import LoadPeer, Weather
from benchmarks.libwebrtc import NetEqReceiver
from bridge.media.extensions import HeaderExtensions
from bridge.media.opus import MAX_BITRATE, new_encoder
from bridge.media.outbound import OutboundAudio
from bridge.media.playback import Part
from bridge.media.rtp import parse_rtp
from bridge.webrtc.dtls import new_certificate

_RATE_HZ = 24_000
_OPUS, _RED = 111, 63
_LOST = (5, 6)  # of each ten packets: FEC alone can bring one of them back


async def _made_up_ms(pcm: bytes, *, red: int | None) -> float:
    """How much libwebrtc made up, if of ten packets that ``OutboundAudio`` makes two in a row are lost."""
    outbound = OutboundAudio(
        new_encoder(_RATE_HZ), rate_hz=_RATE_HZ, payload_type=_OPUS, ssrc=1, sequence=0, rtp_timestamp=0, limit_s=60
    )
    outbound.negotiate(extensions=HeaderExtensions(), uses_dtx=False, bitrate=MAX_BITRATE, red=red)
    outbound.set_packet_loss(20)
    outbound.push(Part("resp_1", "item_1", 0, 0), pcm)
    receiver, peer = NetEqReceiver(), LoadPeer(new_certificate(), 0, Weather())
    loop = asyncio.get_running_loop()
    try:
        await peer.connect("127.0.0.1", receiver.answer)
        began = loop.time()
        for number in range(len(pcm) // 960):
            await asyncio.sleep(began + number * 0.020 - loop.time())
            packet, _ = outbound.tick()
            assert packet is not None
            header = parse_rtp(packet)
            assert header is not None
            kind, sequence, rtp_timestamp, _, start, end = header
            if number % 10 not in _LOST:
                peer.send_rtp(
                    packet[start:end], sequence=sequence, rtp_timestamp=rtp_timestamp, payload_type=kind & 0x7F
                )
        made_up_ms = await receiver.concealed_ms()
        assert peer.faults == []
        return made_up_ms
    finally:
        await peer.aclose()
        await receiver.aclose()


@pytest.mark.alone
async def test_it_hears_from_copies_what_was_lost(speech_pcm: bytes) -> None:
    """Where two packets in a row are lost, the copy in the next one and its FEC bring both back."""
    without, with_copies = await asyncio.gather(_made_up_ms(speech_pcm, red=None), _made_up_ms(speech_pcm, red=_RED))
    assert without > 200
    assert with_copies < without / 3
