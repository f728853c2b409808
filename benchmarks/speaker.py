"""An endpoint that speaks to whoever calls, and does nothing else: ``python -m benchmarks.speaker``.

Offers come in by standard input and answers leave by standard output, each a JSON string on a line of its own.
"""

import asyncio
import json
import sys

import uvloop

from benchmarks.calls import speech
from bridge.errors import BridgeError
from bridge.media.playback import Marked, Part, Started, Stopped
from bridge.peer.endpoint import Endpoint
from bridge.peer.peer import Peer
from bridge.peer.sdp import MAX_SDP_BYTES, parse_offer
from bridge.session.roles import Sink

__all__: list[str] = []

_PART = Part("benchmark", "benchmark", 0, 0)
_REPETITIONS = 20


class _Speaker:
    """Speaks as soon as the peer is there."""

    peer: Peer

    def leg_connected(self) -> None:
        for _ in range(_REPETITIONS):
            self.peer.play(_PART, speech())

    def receive_audio(self, pcm: bytes) -> None: ...

    def channel_opened(self, sink: Sink) -> None: ...

    def receive_text(self, text: str) -> None: ...

    def played(self, event: Started | Stopped | Marked) -> None: ...

    def leg_closed(self, reason: str, error: BridgeError | None) -> None: ...


async def _serve() -> None:
    offers = asyncio.StreamReader(limit=2 * MAX_SDP_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(offers), sys.stdin)
    async with Endpoint("127.0.0.1", 0) as endpoint:
        while line := await offers.readline():
            speaker = _Speaker()
            speaker.peer, answer = endpoint.accept(parse_offer(json.loads(line).encode()), speaker)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
