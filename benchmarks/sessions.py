"""How many calls one core carries, beside aiortc as in its examples: ``python -m benchmarks.sessions``.

Every server is a process of its own and meets the same load: real WebRTC peers that speak (see ``benchmarks.load``),
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
import platform
import statistics
import subprocess
import sys
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import uvloop
from tqdm import tqdm

from benchmarks.load import Clock, FrameCounter, LoadPeer, Weather, client_frame, speech
from bridge.peer.dtls import new_certificate

__all__ = ["main", "measure", "run_points"]

_MODES = ("mic", "both", "passed")
_SERVE = ("bridge", "serve", "--port", "0", "--udp-port", "0", "--max-calls", "2000", "--log-level", "error")
_HOST = "127.0.0.1"
_CPU_TICK_S = 0.01  # the kernel counts CPU time no finer
_PACKETS_PER_S = 50
_AT_ONCE = 8  # calls that are being set up
_WARM_UP_S = 14.0  # by then receiver reports have said that nothing is lost
_DELTA_TICKS = 5
_AHEAD = 4  # deltas of an answer before the first is played
_FRAME_BYTES = 960
_MB = 1024 * 1024
_NO_TURNS = json.dumps({"type": "realtime", "audio": {"input": {"turn_detection": None}}})
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

    def post(self, offer: str, session: str | None = None) -> tuple[bytes, str]:
        """The bridge's answer, and the id of the call."""
        body, kind = offer.encode(), "application/sdp"
        if session is not None:
            parts = (("sdp", offer), ("session", session))
            head = '--part\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
            body, kind = "".join(head.format(*part) for part in parts).encode() + b"--part--\r\n", ""
            kind = "multipart/form-data; boundary=part"
        request = urllib.request.Request(f"{self.url}/v1/realtime/calls", body, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.read(), response.headers["Location"].rpartition("/")[2]

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
        answer, call_id = await asyncio.to_thread(load.post, offer, _NO_TURNS)
        return answer

    peer = load.new_peer()
    await peer.connect(_HOST, signal)
    path = f"/v1/realtime?call_id={call_id}&audio=pcm16"
    load.is_ready(peer, await FrameCounter.open(_HOST, load.port, path))


async def _open_both(load: _Load) -> None:
    """A caller of the bridge whom an agent answers."""

    async def signal(offer: str) -> bytes:
        return (await asyncio.to_thread(load.post, offer))[0]

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
        return (await asyncio.to_thread(load.post, offer))[0]

    peer = load.new_peer()
    await peer.connect(_HOST, signal)
    load.is_ready(peer)


def _speaker(socket: FrameCounter) -> Callable[[int], None]:
    """What writes the answer's sound, 100 ms every 100 ms, a little ahead of what is played."""
    pcm, size = speech(), _DELTA_TICKS * _FRAME_BYTES
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


@contextlib.asynccontextmanager
async def _process(*arguments: str) -> AsyncIterator[tuple[str, psutil.Process]]:
    """A server that prints its port or URL in its first line."""
    command = [sys.executable, "-m", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode().strip()
        url = next((word for word in line.split() if word.startswith("http")), f"http://{_HOST}:{line}").rstrip("/")
        yield url, psutil.Process(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            process.terminate()  # the daemon's grace period ends with the second one
        await process.wait()


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
        server: tuple[str, ...] = (*_SERVE, "--upstream", "agent")
        open_call = _open_both
        if is_baseline:
            server = ("benchmarks.sessions_aiortc", mode)
            open_call = _open_at_aiortc if mode == "mic" else _open_both_at_aiortc
        elif mode == "mic":
            server, open_call = (*_SERVE, "--engine", "parrot"), _open_mic
        elif mode == "passed":
            service_url, _ = await stack.enter_async_context(_process("benchmarks.sessions_service"))
            server, open_call = (*_SERVE, "--upstream", f"{service_url}/v1/realtime/calls"), _open_passed

        async def window(load: _Load, process: psutil.Process, what: str) -> dict[str, float]:
            watching = None if watch is None else asyncio.ensure_future(watch(process.pid))
            taken = await _window(load, process, seconds, what, service_url)
            if watching is not None:
                await watching
            return taken

        url, process = await stack.enter_async_context(_process(*server))
        load = _Load(url, weather)
        ticking = asyncio.ensure_future(load.clock.run())
        stack.callback(ticking.cancel)
        stack.push_async_callback(load.aclose)
        base = process.memory_info().rss
        points = []
        for calls in counts:
            load.clock.is_speaking = False
            before_s, more = _cpu_s(process), calls - len(load.peers)
            await _set_up(load, open_call, more, name)
            set_up_s = max(_cpu_s(process) - before_s, _CPU_TICK_S) / more
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
        return _cpu_s(process), sent, heard, received

    before = await count()
    for _ in tqdm(range(round(seconds)), desc=what, unit="s", leave=False, disable=None):
        await asyncio.sleep(1)
    cpu_s, sent, heard, received = (b - a for a, b in zip(before, await count(), strict=True))
    return {
        "us_per_packet": 1e6 * cpu_s / sent,
        "heard_percent": 100 * heard / sent,
        "answered_percent": 100 * received / sent,
    }


async def _require_sound(socket: FrameCounter) -> None:
    """What was counted is what it should be."""
    text = await socket.next_text(lambda text: b"append" in text)
    event = json.loads(text)
    length = len(b64decode(event["audio"]))
    if event["type"] != "input_audio_buffer.append" or length == 0 or length % (_FRAME_BYTES // 2):
        raise RuntimeError(f"no append event of whole frames: {text[:200]!r}")


def _cpu_s(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


async def measure(
    *, calls: dict[str, list[int]], baseline_calls: list[int], seconds: float, windows: int, weather: Weather,
    warm_up_s: float = _WARM_UP_S
) -> Figures:  # fmt: skip
    """All figures; of each mode the bridge's points, then the baseline's."""
    figures: Figures = {"machine": _machine()}
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


def _machine() -> dict[str, object]:
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    packages = {name: version(name) for name in ("aiortc", "av", "uvloop", "websockets")}
    return {"cpu": cpu, "cores": psutil.cpu_count(), "python": platform.python_version(), **packages}


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
    parser.add_argument("--json", help="path of a file for the figures")
    parser.add_argument("--png", help="path of a picture of them")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(
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
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")
    if arguments.png:
        _draw(figures, arguments.png)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _draw(figures: Figures, path: str) -> None:
    """A bar for each server and mode."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only who draws needs it
    from matplotlib.figure import Figure

    modes = [mode for mode in _MODES if mode in figures]
    picture = Figure(figsize=(10, 3.6), dpi=80, layout="constrained")
    FigureCanvasAgg(picture)
    names = {"mic": "microphone → append events", "both": "both ways", "passed": "Opus passed on"}
    colours = {"bridge": "#0b6e4f", "aiortc": "#c8553d"}
    for axes, mode in zip(picture.subplots(1, len(modes), squeeze=False)[0], modes, strict=True):
        points = [(server, p) for server in colours for p in figures[mode].get(server, ())]
        bars = axes.bar(
            [f"{server}\n{point['calls']} calls" for server, point in points],
            [point["calls_per_core"] for _, point in points],
            color=[colours[server] for server, _ in points],
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
        axes.set_title(names[mode], fontsize=10)
        axes.tick_params(labelsize=7)
    picture.supylabel("calls per core", fontsize=9)
    picture.savefig(path)


if __name__ == "__main__":
    main()
