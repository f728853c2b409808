"""A Realtime service over WebRTC that costs little: whom ``benchmarks.sessions`` lets the bridge call.

``python -m benchmarks.sessions_service`` prints its port. To every caller it speaks without end, packets that were
encoded once; what it hears it does not decode, and counts if it is what these callers say. ``GET /heard`` says how many
packets that were, ``POST /speak`` makes it speak, at the pace of one clock, until ``POST /pause``.
"""

import asyncio
import secrets
import socket
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks.kit.caller import Caller
from benchmarks.kit.load import Clock
from benchmarks.kit.output import run
from benchmarks.kit.sound import opus_speech
from bridge.errors import BridgeError
from bridge.media.contracts import Sink
from bridge.media.passing import PassedPacket
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.peer import Peer
from bridge.webrtc.sdp import parse_offer
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import encode

__all__: list[str] = []

_LEAD_TICKS = 10
_SAID = frozenset(opus_speech())


class _Call(Caller):
    """One caller."""

    peer: Peer

    def __init__(self) -> None:
        super().__init__()
        self.heard = 0
        self._ssrc = secrets.randbits(32)
        self._sequence = 0
        self._sink: Sink | None = None
        self._is_gone = False

    def leg_connected(self) -> None:
        self.peer.rtp.pass_to(self._hear, decodes=False)

    def _hear(self, packet: PassedPacket) -> bool:
        self.heard += packet.payload in _SAID
        return True

    def channel_opened(self, sink: Sink) -> None:
        self._sink = sink
        self._say("session.created", session={"type": "realtime", "id": "sess_benchmark", "model": "benchmark"})

    def _begin(self) -> None:
        for number in (1, 2):  # the first answer tells the bridge that this service says when it plays
            response: dict[str, Any] = {"id": f"resp_{number}", "object": "realtime.response", "output": []}
            part = {"response_id": f"resp_{number}", "item_id": f"item_{number}", "output_index": 0}
            part["content_index"] = 0
            self._say("response.created", response={**response, "status": "in_progress"})
            self._say("response.content_part.added", part={"type": "audio", "transcript": ""}, **part)
            self._say("output_audio_buffer.started", response_id=f"resp_{number}")
            if number == 1:
                self._say("response.done", response={**response, "status": "completed"})
                self._say("output_audio_buffer.cleared", response_id="resp_1")

    def speak(self, number: int) -> None:
        """20 ms more."""
        if self._sink is None or self._is_gone or self.heard < _LEAD_TICKS:
            return
        self._sequence += 1
        if self._sequence <= _LEAD_TICKS:  # what is said by events comes before what is heard
            if self._sequence == 1:
                self._begin()
            return
        payloads = opus_speech()
        payload = payloads[self._sequence % len(payloads)]
        packet = PassedPacket(payload, self._ssrc, self._sequence & 0xFFFF, 960 * self._sequence & 0xFFFFFFFF, False)
        self.peer.rtp.forward(None, packet)

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        self._is_gone = True

    def _say(self, name: str, **fields: object) -> None:
        assert self._sink is not None
        self._sink.send_message(
            EncodedMessage(encode({"type": name, "event_id": f"event_{secrets.token_hex(4)}", **fields}))
        )


async def _serve() -> None:
    calls: list[_Call] = []
    clock = Clock()
    async with Endpoint("127.0.0.1", 0) as endpoint:

        async def accept(request: Request) -> Response:
            call = _Call()
            call.peer, answer = endpoint.accept(parse_offer(await request.body()), call)
            calls.append(call)
            clock.add(call.speak)
            return Response(answer, 201, media_type="application/sdp")

        async def heard(request: Request) -> Response:
            return JSONResponse(sum(call.heard for call in calls))

        async def speak(request: Request) -> Response:
            clock.is_speaking = request.url.path == "/speak"
            return JSONResponse(len(calls))

        routes = [
            Route("/v1/realtime/calls", accept, methods=["POST"]),
            Route("/heard", heard),
            Route("/speak", speak, methods=["POST"]),
            Route("/pause", speak, methods=["POST"]),
        ]
        listening = socket.create_server(("127.0.0.1", 0))
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        running = asyncio.ensure_future(clock.run())
        await uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="error")).serve([listening])
        running.cancel()


if __name__ == "__main__":
    run(_serve())
