"""The servers that ``benchmarks.sessions`` compares: how each is started, and how its callers are set up.

- ``bridge``: this bridge, as ``make run`` has it.
- ``compiled``: the same with its hot path in C, which is built on demand (``make build/compiled/installed``).
- ``aiortc``: a bridge as anybody writes one from aiortc's examples (``benchmarks.sessions_aiortc``).
- ``pion``: a bridge in Go, of Pion, gorilla/websocket and libopus, built on demand (``benchmarks.sessions_pion``).
"""

import asyncio
import contextlib
import json
import os
import subprocess
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import sessions_pion
from benchmarks.kit.caller import NO_TURNS, post_offer
from benchmarks.kit.load import Clock, FrameCounter, LoadPeer, Weather, client_frame
from benchmarks.kit.process import Program, serving, serving_command
from benchmarks.kit.sound import FRAME_BYTES, likeness, speech
from benchmarks.sessions_pion import ServerMissingError
from bridge.media.opus import new_decoder
from bridge.webrtc.dtls import new_certificate
from bridge.wire.audio import SESSION_HZ

__all__ = ["SERVERS", "Load", "Server", "ServerMissingError", "is_in", "make_ready", "start"]

SERVERS = ("bridge", "compiled", "aiortc", "pion")

_HOST = "127.0.0.1"
_ROOT = Path(__file__).parents[1]
_COMPILED = _ROOT / "build" / "compiled" / "site"
_LIMIT_S, _BUILD_LIMIT_S = 20.0, 600.0
_LISTENED = 150  # frames of 20 ms
_LEAST_LIKENESS = 0.7  # SILK has 0.8 to 0.99 in a second, and other sound 0.1 to 0.3
_DELTA_TICKS = 5
_STALL_S = "600"  # upstreams say nothing while another server is measured
_AHEAD = 4  # deltas of an answer before the first is played
_ANSWER = {"response_id": "resp_benchmark", "item_id": "item_benchmark", "output_index": 0, "content_index": 0}


class Load:
    """All callers of one server, and their sockets."""

    def __init__(self, url: str, weather: Weather) -> None:
        self.url = url
        self.clock = Clock()
        self.peers: list[LoadPeer] = []
        self.sockets: list[FrameCounter] = []
        self._certificate = new_certificate()
        self._weather = weather
        self._ticking = asyncio.ensure_future(self.clock.run())

    @property
    def port(self) -> int:
        """Of the server."""
        return int(self.url.rpartition(":")[2])

    def new_peer(self) -> LoadPeer:
        """One more caller; the first decrypts what it hears."""
        peer = LoadPeer(self._certificate, len(self.peers), self._weather)
        peer.decrypts = not self.peers
        self.peers.append(peer)
        return peer

    def is_ready(self, peer: LoadPeer, socket: FrameCounter | None = None) -> None:
        """From now on it speaks when all do."""
        self.clock.add(peer.send_frame, peer.keep_alive)
        if socket is not None:
            self.sockets.append(socket)

    def check(self) -> None:
        """Raises ``RuntimeError`` where a caller or a socket was lost, and what the clock may have raised."""
        if self._ticking.done():
            self._ticking.result()
        faults = [fault for peer in self.peers for fault in peer.faults]
        lost = sum(socket.is_lost for socket in self.sockets)
        if faults or lost:
            raise RuntimeError(f"{len(faults)} faults of peers, {lost} sockets lost: {faults[:3]}")

    async def require_sound(self, *, is_answered: bool) -> None:
        """Raises ``RuntimeError`` if the first socket, or the first caller, does not hear the speech that was said."""
        if self.sockets:
            events = map(json.loads, await self.sockets[0].next_texts(_LISTENED, b"input_audio_buffer.append"))
            _require_speech(f"events of {self.url}", b"".join(b64decode(event["audio"]) for event in events))
        if is_answered:
            payloads, decoder = await self.peers[0].next_payloads(_LISTENED), new_decoder(SESSION_HZ)
            _require_speech(f"packets of {self.url}", b"".join(map(decoder.decode, payloads)))

    async def aclose(self) -> None:
        """Hangs up."""
        self._ticking.cancel()
        for socket in self.sockets:
            socket.transport.abort()
        await asyncio.gather(*(peer.aclose() for peer in self.peers))


def _require_speech(what: str, pcm: bytes) -> None:
    """Raises ``RuntimeError`` unless two thirds are speech as it was said; where it begins anew one need not be."""
    size = len(pcm) // 6 * 2
    like = sorted(likeness(pcm[at : at + size]) for at in range(0, 3 * size, size))
    if like[1] < _LEAST_LIKENESS:
        raise RuntimeError(f"{what} hold {len(pcm)} bytes of sound that are like what was said by {like}")


Opener = Callable[[Load], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """One that runs, and its callers."""

    name: str
    program: Program
    load: Load
    open_call: Opener
    service_url: str | None = None
    """Of the service that it calls, if it passes on."""

    async def speak(self, is_speaking: bool) -> None:
        """All callers, who answers them, and the service: from now on, or no longer."""
        self.load.clock.is_speaking = is_speaking
        if self.service_url is not None:
            await _ask(f"{self.service_url}/{'speak' if is_speaking else 'pause'}", method="POST")

    async def heard(self) -> int:
        """How much of the callers' sound has come through until now: events, or packets at the service."""
        if self.service_url is not None:
            return await _ask(f"{self.service_url}/heard")
        return sum(socket.events for socket in self.load.sockets)


def is_in(server: str, mode: str) -> bool:
    """Whether a server has a mode: all have, but aiortc passes nothing on."""
    return server != "aiortc" or mode != "passed"


async def make_ready(server: str) -> dict[str, str]:
    """Builds what it needs, and returns the versions that matter; raises ``ServerMissingError``."""
    if server == "pion":
        await sessions_pion.build()
        return sessions_pion.versions()
    if server == "compiled":
        command = ["make", "--no-print-directory", "build/compiled/installed"]
        built = await asyncio.to_thread(
            subprocess.run, command, cwd=_ROOT, stdout=subprocess.DEVNULL, check=False, timeout=_BUILD_LIMIT_S
        )
        if built.returncode:
            raise ServerMissingError("the server compiled needs a C compiler: sudo apt-get install gcc make")
    return {}


async def start(name: str, mode: str, weather: Weather, stack: contextlib.AsyncExitStack) -> Server:
    """Starts a server without callers; ``stack`` ends it. What it is built from is built if it is not yet."""
    service_url: str | None = None
    if mode == "passed":
        service_url = (await stack.enter_async_context(serving(program="benchmarks.sessions_service"))).url
    upstream = f"{service_url}/v1/realtime/calls"
    openers = _OPENERS
    if name == "aiortc":
        starting, openers = serving(mode, program="benchmarks.sessions_aiortc"), _OPENERS_OF_BASELINES
    elif name == "pion":
        words = (mode, upstream) if mode == "passed" else (mode,)
        program = str(await sessions_pion.build())
        starting, openers = serving_command(program, *words, environ=sessions_pion.environ()), _OPENERS_OF_BASELINES
    else:
        flags = {
            "mic": ("--engine", "parrot"),
            "both": ("--upstream", "agent", "--upstream-stall-s", _STALL_S),
            "passed": ("--upstream", upstream),
        }
        environ = dict(os.environ)
        if name == "compiled":
            environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": f"{_COMPILED}:{_ROOT}"}
        starting = serving("--max-calls", "2000", *flags[mode], environ=environ)
    server = await stack.enter_async_context(starting)
    load = Load(server.url, weather)
    stack.push_async_callback(load.aclose)
    return Server(name, server, load, openers[mode], service_url)


async def _ask(url: str, *, method: str = "GET") -> int:
    def fetch() -> int:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=_LIMIT_S) as got:
            return int(got.read())

    return await asyncio.to_thread(fetch)


async def _open_mic(load: Load) -> None:
    """A caller of the bridge with a listener."""
    call_id = ""

    async def signal(offer: str) -> bytes:
        nonlocal call_id
        answer, call_id = await asyncio.to_thread(post_offer, load.url, offer, json.dumps(NO_TURNS))
        return answer

    peer = load.new_peer()
    await peer.connect(_HOST, signal)
    path = f"/v1/realtime?call_id={call_id}&audio=pcm16"
    load.is_ready(peer, await FrameCounter.open(_HOST, load.port, path))


async def _open_both(load: Load) -> None:
    """A caller of the bridge whom an agent answers."""

    async def signal(offer: str) -> bytes:
        return (await asyncio.to_thread(post_offer, load.url, offer))[0]

    socket = await FrameCounter.open(_HOST, load.port, "/v1/realtime?role=agent")
    created = asyncio.ensure_future(socket.next_text(lambda text: b"session.created" in text))
    peer = load.new_peer()
    await peer.connect(_HOST, signal)
    await created
    response = {"id": _ANSWER["response_id"], "object": "realtime.response", "status": "in_progress", "output": []}
    socket.transport.write(client_frame(json.dumps({"type": "response.created", "response": response}).encode()))
    load.is_ready(peer, socket)
    load.clock.add(_speaker(socket))


async def _open_passed(load: Load) -> None:
    """A caller of the bridge, or of Pion, which calls a service."""

    async def signal(offer: str) -> bytes:
        return (await asyncio.to_thread(post_offer, load.url, offer))[0]

    peer = load.new_peer()
    await peer.connect(_HOST, signal)
    load.is_ready(peer)


async def _open_by_socket(load: Load) -> None:
    """A caller of a baseline, whose socket does the signalling too."""
    socket = await FrameCounter.open(_HOST, load.port, "/")

    async def signal(offer: str) -> bytes:
        answer = asyncio.ensure_future(socket.next_text())
        await asyncio.sleep(0)
        socket.transport.write(client_frame(json.dumps({"type": "offer", "sdp": offer}).encode()))
        return str(json.loads(await answer)["sdp"]).encode()

    peer = load.new_peer()
    await peer.connect(_HOST, signal)
    load.is_ready(peer, socket)


async def _open_both_by_socket(load: Load) -> None:
    """The same, and it is answered."""
    await _open_by_socket(load)
    load.clock.add(_speaker(load.sockets[-1]))


_OPENERS: dict[str, Opener] = {"mic": _open_mic, "both": _open_both, "passed": _open_passed}
_OPENERS_OF_BASELINES: dict[str, Opener] = {
    "mic": _open_by_socket, "both": _open_both_by_socket, "passed": _open_passed
}  # fmt: skip


def _speaker(socket: FrameCounter) -> Callable[[int], None]:
    """What writes the answer's sound, 100 ms every 100 ms, a little ahead of what is played; after a pause, again."""
    pcm, size = speech(), _DELTA_TICKS * FRAME_BYTES
    deltas = [
        client_frame(
            json.dumps({"type": "response.output_audio.delta", "event_id": "event_benchmark", **_ANSWER,
                        "delta": b64encode(pcm[at : at + size]).decode()}).encode()
        )
        for at in range(0, len(pcm) - size, size)
    ]  # fmt: skip
    ticks = written = 0
    last = -2

    def tick(number: int) -> None:
        nonlocal ticks, written, last
        if number != last + 1:
            ticks = 0
        last = number
        for _ in range(_AHEAD if ticks == 0 else ticks % _DELTA_TICKS == 0):
            socket.transport.write(deltas[written % len(deltas)])
            written += 1
        ticks += 1

    return tick
