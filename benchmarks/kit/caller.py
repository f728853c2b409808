"""Callers over WebRTC: their offer, and a leg owner that benchmarks derive from."""

import asyncio
import contextlib
import urllib.request
from collections.abc import AsyncIterator

from bridge.errors import BridgeError
from bridge.media.contracts import Sink
from bridge.media.playback import Part, Played
from bridge.webrtc.dial import dial
from bridge.webrtc.peer import Peer
from bridge.webrtc.runner import PeerRunner

__all__ = ["NO_TURNS", "PART", "Caller", "call", "post_offer", "socket_url"]

PART = Part("benchmark", "benchmark", 0, 0)
"""As what a caller's speech is played."""

NO_TURNS = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
"""A session in which nobody answers."""

_LIMIT_S = 20.0


class Caller:
    """Owns the leg of a caller and notes when it is connected; benchmarks derive from it to know more."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.has_channel = asyncio.Event()
        self.call_id = ""

    def leg_connected(self) -> None:
        """Sound can flow."""
        self.connected.set()

    def receive_leg_audio(self, sound: bytes) -> None:
        """Sound came."""

    def channel_opened(self, sink: Sink) -> None:
        """Events can flow."""
        self.has_channel.set()

    def receive_leg_text(self, text: str) -> None:
        """An event came."""

    def played(self, event: Played) -> None:
        """What is spoken begins or ends."""

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """The call is over."""


@contextlib.asynccontextmanager
async def call(url: str, runner: PeerRunner, caller: Caller, *, queue_limit_s: int = 600) -> AsyncIterator[Peer]:
    """A call to the bridge at ``url``, connected, with its data channel open and its id in ``caller.call_id``."""

    async def signal(offer: str) -> bytes:
        answer, caller.call_id = await asyncio.to_thread(post_offer, url, offer)
        return answer

    async with dial(runner, caller, signal, queue_limit_s=queue_limit_s) as peer:
        async with asyncio.timeout(_LIMIT_S):
            await caller.connected.wait()
            await caller.has_channel.wait()
        yield peer


def post_offer(url: str, offer: str, session: str | None = None, *, key: str = "") -> tuple[bytes, str]:
    """The bridge's answer to an offer, and the id of the call; ``session`` is JSON that comes with it. It blocks."""
    body, kind = offer.encode(), "application/sdp"
    if session is not None:
        head = '--part\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
        parts = (("sdp", offer), ("session", session))
        body = "".join(head.format(*part) for part in parts).encode() + b"--part--\r\n"
        kind = "multipart/form-data; boundary=part"
    headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(f"{url}/v1/realtime/calls", body, headers)
    with urllib.request.urlopen(request, timeout=_LIMIT_S) as response:
        return response.read(), response.headers["Location"].rpartition("/")[2]


def socket_url(url: str, query: str) -> str:
    """Where the bridge at ``url`` takes WebSockets."""
    return f"ws{url.removeprefix('http')}/v1/realtime?{query}"
