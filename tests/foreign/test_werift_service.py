"""A Realtime service over WebRTC on werift, as it is: the bridge calls it for a client over WebSocket."""

import base64
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.event_log import outbound_sound
from tests.end_to_end.sound import match, samples_of
from tests.end_to_end.web import open_socket
from tests.foreign.peers import FOLDER, heard_by
from tests.sdk_js.node import scenario
from tests.settings import config_for_tests

pytestmark = pytest.mark.usefixtures("node_packages")

_LIKENESS = 0.9
_PIECE_BYTES = 2 * 24 * 100


@pytest.mark.parametrize("service_hangs_up", [True, False], ids=["service-hangs-up", "client-hangs-up"])
async def test_it_hears_and_answers(speech: dict[str, str], short_pcm: bytes, service_hangs_up: bool) -> None:
    """It hears all that the client appends, its answer comes as deltas, and both notice when the other hangs up."""
    words = samples_of(short_pcm)
    inputs: dict[str, Any] = {"hangsUp": service_hangs_up, "packets": speech["packets"]}
    async with scenario("werift_service.mjs", "serve", folder=FOLDER, **inputs) as service:
        port = (await service.until("service.ready"))["port"]
        upstream = f"http://127.0.0.1:{port}/v1/realtime/calls"
        async with Daemon(config_for_tests(upstream=upstream)) as daemon:
            async with open_socket(daemon.url, "model=any") as client:
                [session] = daemon.registry.sessions
                for at in range(0, len(short_pcm), _PIECE_BYTES):
                    audio = base64.b64encode(short_pcm[at : at + _PIECE_BYTES]).decode()
                    await client.send({"type": "input_audio_buffer.append", "audio": audio})
                await client.send({"type": "input_audio_buffer.commit"})
                await client.send({"type": "response.create"})
                await client.until("response.done")
                service.end_input()
                if service_hangs_up:
                    assert await client.close_code() in (1000, 1001)
            if not service_hangs_up:
                await service.until("peer.gone")
            await session.lifetime.closed.wait()
    assert client.of("error") == []
    assert match(heard_by(service.of("peer.heard")[0]), words).correlation > _LIKENESS
    assert match(samples_of(outbound_sound(client.events)), words).correlation > _LIKENESS
    assert client.types.index("response.created") < client.types.index("response.output_audio.delta")
