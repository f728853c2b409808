"""An upstream whose sound passes through to the caller's peer, and is none of the bridge's events."""

import pytest
from msgspec import to_builtins

from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.sound import match, samples_of

_SECOND = 2 * 24_000


@pytest.mark.slow
async def test_an_answer_that_passes_is_no_silence(serve_with: ServeWith, speech_pcm: bytes) -> None:
    """While its sound goes from peer to peer the upstream says nothing, for longer than it may be silent otherwise."""
    spoken = speech_pcm[: 2 * _SECOND]
    async with (
        serve_with() as service,
        serve_with(upstream=f"http://127.0.0.1:{service.port}/v1/realtime/calls", upstream_stall_s=0.8) as daemon,
        RealPeer(daemon.url) as peer,
    ):
        for number in (1, 2):
            before = len(peer.heard) if number > 1 else 0
            await peer.speak(spoken + bytes(_SECOND * 7 // 10))
            await peer.until("output_audio_buffer.stopped", number=number)
            answer = peer.heard[before:]
        (session,) = daemon.registry.sessions
        figures = to_builtins(session.stats())["peer"]
    assert peer.of("error") == []
    assert isinstance(figures, dict)
    assert figures["passed_on"] > 60
    assert match(samples_of(answer), samples_of(spoken)).correlation > 0.85
