"""Opus between two WebRTC peers: passed on as it came, decoded only for those who listen."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.daemon import Daemon
from bridge.media.opus import new_decoder
from bridge.media.passing import PassedPacket
from bridge.webrtc.peer import Peer
from bridge.wire.audio import SESSION_HZ
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import inbound_sound, outbound_sound
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.sound import match, samples_of
from tests.end_to_end.web import open_socket

pytestmark = pytest.mark.slow

_ONE_CODEC = 0.9  # correlation that one generation of Opus leaves, as in test_call
_TWO_CODECS = 0.85


@asynccontextmanager
async def _chain(serve_with: ServeWith) -> AsyncIterator[tuple[Daemon, Daemon]]:
    """A bridge whose upstream is another one, over WebRTC."""
    async with serve_with(engine="parrot") as service:
        url = f"http://127.0.0.1:{service.port}/v1/realtime/calls"
        async with serve_with(upstream=url) as daemon:
            yield daemon, service


def _legs(daemon: Daemon) -> tuple[Peer, Peer]:
    """The caller's peer, and the one that calls the service."""
    peers = sorted(daemon.endpoint.peers, key=lambda peer: peer.ice.role)
    caller, dialled = peers
    return caller, dialled


async def test_what_nobody_listens_to_is_not_decoded(serve_with: ServeWith, short_pcm: bytes) -> None:
    """The caller's packets reach the service as they are; so do answers, once the service has said when it plays."""
    async with _chain(serve_with) as (daemon, _), RealPeer(daemon.url) as peer:
        caller, dialled = _legs(daemon)
        await peer.speak(short_pcm)
        await peer.until("output_audio_buffer.stopped")
        assert caller.rtp.inbound.is_mute
        encoded = caller.rtp.outbound.packets - caller.rtp.outbound.passed
        assert (dialled.rtp.outbound.passed > 100, caller.rtp.outbound.passed, encoded > 100) == (True, 0, True)
        await peer.speak(short_pcm)
        await peer.until("output_audio_buffer.stopped", number=2)
        assert dialled.rtp.inbound.is_mute
        assert caller.rtp.outbound.passed > 100
        assert (
            caller.rtp.outbound.packets - caller.rtp.outbound.passed - encoded <= 10
        )  # the silence behind the first answer
        second = peer.heard[-2 * 24 * 3000 :]
        assert match(samples_of(second), samples_of(short_pcm)).correlation > _ONE_CODEC - 0.1


async def test_who_listens_hears_all_the_same(serve_with: ServeWith, short_pcm: bytes) -> None:
    """A listener that comes while packets are passed on hears both sides decoded, and both go on as packets."""
    async with _chain(serve_with) as (daemon, _), RealPeer(daemon.url) as peer:
        await peer.speak(short_pcm)
        await peer.until("output_audio_buffer.stopped")
        async with open_socket(daemon.url, f"call_id={peer.call_id}&audio=pcm16") as listener:
            caller, dialled = _legs(daemon)
            passed = caller.rtp.outbound.passed, dialled.rtp.outbound.passed
            await peer.speak(short_pcm)
            await peer.until("output_audio_buffer.stopped", number=2)
            assert match(samples_of(inbound_sound(listener.events)), samples_of(short_pcm)).correlation > _ONE_CODEC
            assert match(samples_of(outbound_sound(listener.events)), samples_of(short_pcm)).correlation > _TWO_CODECS
            assert caller.rtp.outbound.passed > passed[0] + 100
            assert dialled.rtp.outbound.passed > passed[1] + 100
        assert not caller.rtp.inbound.is_mute  # its stream is made on for a while: the listener may come back


async def test_a_listener_of_opus_hears_the_packets_themselves(serve_with: ServeWith, short_pcm: bytes) -> None:
    """The caller's very packets, as the service gets them, and the answer's, while nobody decodes either."""
    passed: list[bytes] = []
    async with _chain(serve_with) as (daemon, _), RealPeer(daemon.url) as peer:
        caller, dialled = _legs(daemon)
        async with open_socket(daemon.url, f"call_id={peer.call_id}&compression=opus") as listener:
            await peer.speak(short_pcm)
            await peer.until("output_audio_buffer.stopped")
            assert caller.rtp.inbound.is_mute
            taker = caller.rtp.inbound.taker
            assert taker is not None

            def take(packet: PassedPacket) -> bool:
                passed.append(packet.payload)
                return taker(packet)

            caller.rtp.inbound.taker = take
            await peer.speak(short_pcm)
            await peer.until("output_audio_buffer.stopped", number=2)
            assert caller.rtp.inbound.is_mute
            assert dialled.rtp.inbound.is_mute
            answered = listener.of("output_audio_buffer.started")[1]["response_id"]
        deltas = [event for event in listener.of("response.output_audio.delta") if event["response_id"] == answered]
        heard = [base64.b64decode(event["audio"]) for event in listener.of("input_audio_buffer.append")]
    packets = [packet for packet in heard if packet]
    assert len(passed) > 100
    assert b"".join(passed[:100]) in b"".join(packets)
    for sound in (packets, [base64.b64decode(event["delta"]) for event in deltas if event["delta"]]):
        decoder = new_decoder(SESSION_HZ)
        pcm = b"".join(decoder.decode(packet) for packet in sound)
        assert match(samples_of(pcm), samples_of(short_pcm)).correlation > _TWO_CODECS


async def test_an_interruption_while_packets_pass(serve_with: ServeWith, short_pcm: bytes, speech_pcm: bytes) -> None:
    """Barge-in stops what is passed on: cleared, and truncated where the service knows that it was."""
    async with _chain(serve_with) as (daemon, _), RealPeer(daemon.url) as peer:
        await peer.speak(short_pcm)
        await peer.until("output_audio_buffer.stopped")
        await peer.speak(speech_pcm[: 2 * 24 * 6000] + bytes(2 * 24 * 800))
        await peer.until("output_audio_buffer.started", number=2)
        caller, _dialled = _legs(daemon)
        await peer.speak(short_pcm)
        cleared = await peer.until("output_audio_buffer.cleared")
        truncated = await peer.until("conversation.item.truncated")
        assert caller.rtp.outbound.passed > 10
        assert cleared["response_id"] == peer.of("output_audio_buffer.started")[1]["response_id"]
        assert 100 <= truncated["audio_end_ms"] <= 3000
        await peer.until("output_audio_buffer.stopped", number=2)
