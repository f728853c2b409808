"""An endpoint that speaks to whoever calls, and does nothing else: ``python -m benchmarks.speaker``.

Offers come in by standard input and answers leave by standard output, each a JSON string on a line of its own.
"""

import asyncio
import json
import sys

from benchmarks.kit.caller import PART, Caller
from benchmarks.kit.output import run
from benchmarks.kit.sound import speech
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.peer import Peer
from bridge.webrtc.sdp import MAX_SDP_BYTES, parse_offer

__all__: list[str] = []

_REPETITIONS = 20


class _Speaker(Caller):
    """Speaks as soon as the peer is there."""

    peer: Peer

    def leg_connected(self) -> None:
        for _ in range(_REPETITIONS):
            self.peer.play(PART, speech())


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
    run(_serve())
