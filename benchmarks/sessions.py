"""How many calls one core carries, beside aiortc as in its examples: ``python -m benchmarks.sessions``.

Every server is a process of its own and meets the same load: real WebRTC peers that speak (``benchmarks.kit.load``),
each with one WebSocket. What is compared is the CPU time of the server's process alone, per packet of a caller's.

- ``mic``: a caller's sound becomes append events of 20 ms on the WebSocket of a listener. Nobody answers (the embedded
  engine with turn detection off); reordering, counters, the replay and all else are on, as they always are.
- ``both``: the WebSocket is an agent's. It gets the same events, and the sound that it answers with goes to the caller.
- ``passed``: the bridge calls a service over WebRTC, and Opus passes between caller and service both ways.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
from tqdm import tqdm

from benchmarks.kit.caller import NO_TURNS, post_offer
from benchmarks.kit.load import Clock, FrameCounter, LoadPeer, Weather, client_frame
from benchmarks.kit.output import COLOURS, add_output_flags, new_picture, run, save
from benchmarks.kit.process import serving
from benchmarks.kit.sampling import CPU_TICK_S, cpu_s, machine
from benchmarks.kit.sound import FRAME_BYTES, speech
from bridge.webrtc.dtls import new_certificate

__all__ = ["main", "measure", "run_points"]

_MODES = ("mic", "both", "passed")
_HOST = "127.0.0.1"
_PACKETS_PER_S = 50
_AT_ONCE = 8  # calls that are being set up
_WARM_UP_S = 14.0  # by then receiver reports have said that nothing is lost
_DELTA_TICKS = 5
_AHEAD = 4  # deltas of an answer before the first is played
_MB = 1024 * 1024
_ANSWER = {"response_id": "resp_benchmark", "item_id": "item_benchmark", "output_index": 0, "content_index": 0}

Figures = dict[str, Any]


class _Load:
    """All callers of one server, and their sockets."""

    def __init__(self, url: str, weather: Weather) -> None:
        self.url = url
        self.clock = Clock()
        self.peers: list[LoadPeer] = []
        self.sockets: list[FrameCounter] = []
        self._certificate = new_certificate()
        self._weather = weather

    @property
    def port(self) -> int:
        """Of the server."""
        return int(self.url.rpartition(":")[2])

    def new_peer(self) -> LoadPeer:
        """One more caller."""
        peer = LoadPeer(self._certificate, len(self.peers), self._weather)
        self.peers.append(peer)
        return peer

    def is_ready(self, peer: LoadPeer, socket: FrameCounter | None = None) -> None:
        """From now on it speaks when all do."""
        self.clock.add(peer.send_frame, peer.keep_alive)
        if socket is not None:
            self.sockets.append(socket)

    def check(self) -> None:
        """Raises where a caller or a socket was lost."""
        faults = [fault for peer in self.peers for fault in peer.faults]
        lost = sum(socket.is_lost for socket in self.sockets)
        if faults or lost:
            raise RuntimeError(f"{len(faults)} faults of peers, {lost} sockets lost: {faults[:3]}")

    async def aclose(self) -> None:
        """Hangs up."""
        for socket in self.sockets:
            socket.transport.abort()
        await asyncio.gather(*(peer.aclose() for peer in self.peers))


_Opener = Callable[[_Load], Awaitable[None]]


async def _open_mic(load: _Load) -> None:
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


async def _open_both(load: _Load) -> None:
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


async def _open_at_aiortc(load: _Load) -> None:
    """A caller of the baseline, whose socket does the signalling too."""
    socket = await FrameCounter.open(_HOST, load.port, "/")

    async def signal(offer: str) -> bytes:
        answer = asyncio.ensure_future(socket.next_text())
        await asyncio.sleep(0)
        socket.transport.write(client_frame(json.dumps({"type": "offer", "sdp": offer}).encode()))
        return str(json.loads(await answer)["sdp"]).encode()

    peer = load.new_peer()
    await peer.connect(_HOST, signal)
    load.is_ready(peer, socket)


async def _open_both_at_aiortc(load: _Load) -> None:
    """The same, and it is answered."""
    await _open_at_aiortc(load)
    load.clock.add(_speaker(load.sockets[-1]))


async def _open_passed(load: _Load) -> None:
    """A caller of the bridge, which calls a service."""

    async def signal(offer: str) -> bytes:
        return (await asyncio.to_thread(post_offer, load.url, offer))[0]

    peer = load.new_peer()
    await peer.connect(_HOST, signal)
    load.is_ready(peer)


def _speaker(socket: FrameCounter) -> Callable[[int], None]:
    """What writes the answer's sound, 100 ms every 100 ms, a little ahead of what is played."""
    pcm, size = speech(), _DELTA_TICKS * FRAME_BYTES
    deltas = [
        client_frame(
            json.dumps({"type": "response.output_audio.delta", "event_id": "event_benchmark", **_ANSWER,
                        "delta": b64encode(pcm[at : at + size]).decode()}).encode()
        )
        for at in range(0, len(pcm) - size, size)
    ]  # fmt: skip
    ticks = 0

    def tick(number: int) -> None:
        nonlocal ticks
        for _ in range(_AHEAD if ticks == 0 else ticks % _DELTA_TICKS == 0):
            socket.transport.write(deltas[ticks // _DELTA_TICKS % len(deltas)])
        ticks += 1

    return tick


async def _get(url: str, *, is_post: bool = False) -> int:
    def fetch() -> int:
        with urllib.request.urlopen(
            urllib.request.Request(url, method="POST" if is_post else "GET"), timeout=20
        ) as got:
            return int(got.read())

    return await asyncio.to_thread(fetch)


async def run_points(
    mode: str, counts: list[int], *, seconds: float, windows: int, weather: Weather, warm_up_s: float = _WARM_UP_S,
    is_baseline: bool = False,
    watch: Callable[[int], Awaitable[None]] | None = None
) -> list[Figures]:  # fmt: skip
    """The bridge, or the baseline, under so many calls, then more; ``watch`` is told its process for each window."""
    name = f"{mode}, aiortc" if is_baseline else mode
    async with contextlib.AsyncExitStack() as stack:
        service_url: str | None = None
        server = serving("--max-calls", "2000", "--upstream", "agent")
        open_call = _open_both
        if is_baseline:
            server = serving(mode, program="benchmarks.sessions_aiortc")
            open_call = _open_at_aiortc if mode == "mic" else _open_both_at_aiortc
        elif mode == "mic":
            server, open_call = serving("--max-calls", "2000", "--engine", "parrot"), _open_mic
        elif mode == "passed":
            service = await stack.enter_async_context(serving(program="benchmarks.sessions_service"))
            service_url = service.url
            upstream = ("--upstream", f"{service_url}/v1/realtime/calls")
            server, open_call = serving("--max-calls", "2000", *upstream), _open_passed

        async def window(load: _Load, process: psutil.Process, what: str) -> dict[str, float]:
            watching = None if watch is None else asyncio.ensure_future(watch(process.pid))
            taken = await _window(load, process, seconds, what, service_url)
            if watching is not None:
                await watching
            return taken

        bridge = await stack.enter_async_context(server)
        process = bridge.figures
        load = _Load(bridge.url, weather)
        ticking = asyncio.ensure_future(load.clock.run())
        stack.callback(ticking.cancel)
        stack.push_async_callback(load.aclose)
        base = process.memory_info().rss
        points = []
        for calls in counts:
            load.clock.is_speaking = False
            before_s, more = cpu_s(process), calls - len(load.peers)
            await _set_up(load, open_call, more, name)
            set_up_s = max(cpu_s(process) - before_s, CPU_TICK_S) / more
            fresh = process.memory_info().rss
            load.clock.is_speaking = True
            if service_url is not None:
                await _get(f"{service_url}/speak", is_post=True)
            await asyncio.sleep(warm_up_s)
            load.clock.late_s = 0.0
            taken = [await window(load, process, f"{name}, {calls} calls") for _ in range(windows)]
            load.check()
            us = statistics.median(each["us_per_packet"] for each in taken)
            points.append({
                "calls": calls,
                "calls_per_core": round(1e6 / us / _PACKETS_PER_S, 1),
                "us_per_packet": round(us, 1),
                "us_per_packet_of_each_window": [round(each["us_per_packet"], 1) for each in taken],
                "heard_percent": round(statistics.mean(each["heard_percent"] for each in taken), 1),
                "answered_percent": round(statistics.mean(each["answered_percent"] for each in taken), 1),
                "set_ups_per_core_s": round(1 / set_up_s, 1),
                "mb_per_call": round((fresh - base) / calls / _MB, 3),
                "mb_per_call_after_speech": round((process.memory_info().rss - base) / calls / _MB, 3),
                "base_mb": round(base / _MB, 1),
                "threads": process.num_threads(),
                "load_late_ms": round(1000 * load.clock.late_s, 1),
            })  # fmt: skip
        if load.sockets:
            await _require_sound(load.sockets[0])
        return points


async def _set_up(load: _Load, open_call: _Opener, calls: int, name: str) -> None:
    room = asyncio.Semaphore(_AT_ONCE)
    with tqdm(total=calls, desc=f"{name}, dialling", unit="call", leave=False, disable=None) as bar:

        async def one() -> None:
            async with room:
                await open_call(load)
            bar.update()

        await asyncio.gather(*(one() for _ in range(calls)))


async def _window(
    load: _Load, process: psutil.Process, seconds: float, what: str, service_url: str | None
) -> dict[str, float]:
    async def count() -> tuple[float, int, int, int]:
        heard = sum(socket.events for socket in load.sockets)
        if service_url is not None:
            heard = await _get(f"{service_url}/heard")
        sent, received = sum(peer.sent for peer in load.peers), sum(peer.received for peer in load.peers)
        return cpu_s(process), sent, heard, received

    before = await count()
    for _ in tqdm(range(round(seconds)), desc=what, unit="s", leave=False, disable=None):
        await asyncio.sleep(1)
    spent_s, sent, heard, received = (b - a for a, b in zip(before, await count(), strict=True))
    return {
        "us_per_packet": 1e6 * spent_s / sent,
        "heard_percent": 100 * heard / sent,
        "answered_percent": 100 * received / sent,
    }


async def _require_sound(socket: FrameCounter) -> None:
    """What was counted is what it should be."""
    text = await socket.next_text(lambda text: b"append" in text)
    event = json.loads(text)
    length = len(b64decode(event["audio"]))
    if event["type"] != "input_audio_buffer.append" or length == 0 or length % (FRAME_BYTES // 2):
        raise RuntimeError(f"no append event of whole frames: {text[:200]!r}")


async def measure(
    *, calls: dict[str, list[int]], baseline_calls: list[int], seconds: float, windows: int, weather: Weather,
    warm_up_s: float = _WARM_UP_S
) -> Figures:  # fmt: skip
    """All figures; of each mode the bridge's points, then the baseline's."""
    figures: Figures = {"machine": machine()}
    for mode in calls:
        figures[mode] = {
            "bridge": await run_points(
                mode, calls[mode], seconds=seconds, windows=windows, weather=weather, warm_up_s=warm_up_s
            )
        }
        if mode != "passed" and baseline_calls:  # aiortc passes nothing on
            baseline = await run_points(
                mode,
                baseline_calls,
                seconds=seconds,
                windows=windows,
                weather=weather,
                warm_up_s=warm_up_s,
                is_baseline=True,
            )
            best, others = (max(p["calls_per_core"] for p in points) for points in (figures[mode]["bridge"], baseline))
            figures[mode] |= {"aiortc": baseline, "ratio": round(best / others, 2)}
    return figures


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description="How many calls one core carries, beside aiortc.")
    for mode, default in (("mic", "50,150,300"), ("both", "40,80"), ("passed", "50,100,150")):
        what = f"numbers of calls at which the bridge is measured in the mode {mode}; empty: not at all"
        parser.add_argument(f"--{mode}", default=default, help=what)
    parser.add_argument("--baseline-calls", default="16,24", help="the same for aiortc, which carries fewer")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--warm-up-s", type=float, default=_WARM_UP_S)
    parser.add_argument("--loss-percent", type=float, default=0.0)
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    add_output_flags(parser)
    arguments = parser.parse_args()
    figures = run(
        measure(
            calls={mode: numbers for mode in _MODES if (numbers := _numbers(getattr(arguments, mode)))},
            baseline_calls=_numbers(arguments.baseline_calls),
            seconds=arguments.seconds,
            windows=arguments.windows,
            warm_up_s=arguments.warm_up_s,
            weather=Weather(arguments.loss_percent, arguments.jitter_ms, arguments.seed),
        )
    )
    sys.stdout.write(json.dumps(figures) + "\n")
    save(arguments, figures, _draw)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _draw(figures: Figures, path: str) -> None:
    """A bar for each server and mode."""
    modes = [mode for mode in _MODES if mode in figures]
    picture = new_picture(10, 3.6)
    names = {"mic": "microphone → append events", "both": "both ways", "passed": "Opus passed on"}
    for axes, mode in zip(picture.subplots(1, len(modes), squeeze=False)[0], modes, strict=True):
        points = [(server, p) for server in COLOURS for p in figures[mode].get(server, ())]
        bars = axes.bar(
            [f"{server}\n{point['calls']} calls" for server, point in points],
            [point["calls_per_core"] for _, point in points],
            color=[COLOURS[server] for server, _ in points],
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
        axes.set_title(names[mode], fontsize=10)
        axes.tick_params(labelsize=7)
    picture.supylabel("calls per core", fontsize=9)
    picture.savefig(path)


if __name__ == "__main__":
    main()
