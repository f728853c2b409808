"""How long the bridge holds sound: ``python -m benchmarks latency [--calls 20] [--spacing-calls 50]``.

Real WebRTC calls from this process to another one, no loss. First to a daemon, each caller speaking and with a
WebSocket listener: the time from a packet's being sent to its append event's being read. Then to an endpoint that
speaks to all of them at once: how far its packets are from being 20 ms apart. This process's own delays are in both. Of
the daemon it says how much of a core it took, how late its loop was, and how long the garbage collector stopped it; how
many calls are half of what a core carries follows from the first.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedOK

from benchmarks.kit.caller import PART, Caller, call, socket_url
from benchmarks.kit.output import add_output_flags, new_picture, run, save
from benchmarks.kit.process import Program, running, serving
from benchmarks.kit.sampling import cpu_s
from benchmarks.kit.sound import speech
from bridge.media.rtp import CLOCK_HZ, timestamp_difference
from bridge.webrtc.dial import dial
from bridge.webrtc.ice import PacketKind, packet_kind
from bridge.webrtc.ice_full import IceFull
from bridge.webrtc.peer import Peer
from bridge.webrtc.runner import PeerRunner

__all__ = ["main"]

_WARM_UP_S = 2.0
_DAEMON = ("--port", "0", "--udp-port", "0", "--log-level", "error", "--max-calls", "1000", "--engine", "parrot")


_Floats = NDArray[np.float64]


class _Caller(Caller):
    """One caller; notes when its packets leave and when those of the daemon come."""

    def __init__(self) -> None:
        super().__init__()
        self.sent_at: list[float] = []
        self.came: list[tuple[float, int]] = []
        """When, and with which RTP timestamp."""
        self.read_at: list[float] = []

    def watch(self, peer: Peer) -> None:
        """From now on each packet's time is noted, at the socket."""
        clock = time.perf_counter
        send, take = peer.ice.send_datagram, peer.ice.hand_over

        def note_sent(datagram: bytes) -> None:
            if packet_kind(datagram) is PacketKind.RTP:
                self.sent_at.append(clock())
            send(datagram)

        def note_came(kind: PacketKind, datagram: bytes, now: float) -> None:
            if kind is PacketKind.RTP:
                self.came.append((clock(), int.from_bytes(datagram[4:8], "big")))
            take(kind, datagram, now)

        assert isinstance(peer.ice, IceFull)
        peer.ice.burst = None  # each packet is handed over as it comes
        peer.ice.send_datagram = note_sent  # type: ignore[method-assign]
        peer.ice.hand_over = note_came  # type: ignore[method-assign]


Signal = Callable[[str], Awaitable[bytes]]


@contextlib.asynccontextmanager
async def _speaker() -> AsyncIterator[Signal]:
    """The endpoint that speaks, as a process of its own."""
    async with running("benchmarks.speaker") as speaker:

        async def signal(offer: str) -> bytes:
            return str(json.loads(await speaker.ask(json.dumps(offer)))).encode()

        yield signal


@contextlib.asynccontextmanager
async def _called(runner: PeerRunner, caller: _Caller, signal: Signal) -> AsyncIterator[Peer]:
    async with dial(runner, caller, signal) as peer:
        await asyncio.wait_for(caller.connected.wait(), 10)
        yield peer


async def _read(listener: ClientConnection, caller: _Caller) -> None:
    clock = time.perf_counter
    with contextlib.suppress(ConnectionClosedOK):  # the calls ended because another could not be dialled
        while True:
            text = await listener.recv(decode=False)
            if b'"input_audio_buffer.append"' in text[:60]:
                caller.read_at.append(clock())


async def _measure_delay(calls: int, seconds: int) -> dict[str, float]:
    """From a packet's being sent to its event's being read, in ms."""
    callers: list[_Caller] = []
    async with (
        serving(*_DAEMON, program="benchmarks.lateness") as daemon,
        contextlib.AsyncExitStack() as stack,
    ):
        readers = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = []
        for _ in tqdm(range(calls), desc="dialling", unit="call", disable=None):
            caller = _Caller()
            runner = await stack.enter_async_context(PeerRunner())  # each caller has a clock of its own
            peer = await stack.enter_async_context(call(daemon.url, runner, caller))
            address = socket_url(daemon.url, f"call_id={caller.call_id}&audio=pcm16")
            listener = await stack.enter_async_context(connect(address, proxy=None))
            tasks.append(readers.create_task(_read(listener, caller)))
            for _ in range(20):
                peer.play(PART, speech())
            caller.watch(peer)
            callers.append(caller)
        await asyncio.sleep(_WARM_UP_S)
        for caller in callers:
            caller.sent_at.clear()
            caller.read_at.clear()
        await _lateness(daemon)
        busy_s, began = cpu_s(daemon.figures), time.perf_counter()
        for _ in tqdm(range(seconds), desc="speaking", unit="s", disable=None):
            await asyncio.sleep(1)
        busy_s, elapsed_s = cpu_s(daemon.figures) - busy_s, time.perf_counter() - began
        lateness = await _lateness(daemon)
        for task in tasks:
            task.cancel()
    delays = np.concatenate([_delays(caller) for caller in callers])
    load = {"cpu_percent_of_core": round(100 * busy_s / elapsed_s, 1)}
    return {"events": len(delays), **_percentiles("event_delay", 1000 * delays), **load, **lateness}


async def _lateness(daemon: Program) -> dict[str, float]:
    """How late the daemon's loop was since it was asked last, and how long the garbage collector stopped it."""
    daemon.process.send_signal(signal.SIGUSR1)
    lateness: dict[str, float] = json.loads(await daemon.ask())
    return lateness


def _delays(caller: _Caller) -> _Floats:
    """Each event is of the latest packet of which none of them comes too early.

    In speech each packet makes one event, so that the two lists are the same but for where they begin.
    """
    sent, read = np.array(caller.sent_at), np.array(caller.read_at)
    fitting = []
    for shift in range(-3, 4):
        ours, theirs = sent[max(0, shift) :], read[max(0, -shift) :]
        count = min(len(ours), len(theirs))
        delays: _Floats = theirs[:count] - ours[:count]
        if delays.min() >= 0:
            fitting.append(delays)
    return fitting[-1]


async def _measure_spacing(calls: int, seconds: int) -> dict[str, float]:
    """By how much packets to all callers at once are early or late, in ms."""
    async with _speaker() as signal, PeerRunner() as runner, contextlib.AsyncExitStack() as stack:
        callers = [_Caller() for _ in range(calls)]
        for caller in tqdm(callers, desc="dialling", unit="call", disable=None):
            caller.watch(await stack.enter_async_context(_called(runner, caller, signal)))
        await asyncio.sleep(_WARM_UP_S)
        for caller in callers:
            caller.came.clear()
        for _ in tqdm(range(seconds), desc="listening", unit="s", disable=None):
            await asyncio.sleep(1)
        came = [tuple(caller.came) for caller in callers]
    errors = [
        later - earlier - timestamp_difference(stamp, before) / CLOCK_HZ
        for each in came
        for (earlier, before), (later, stamp) in zip(each, each[1:], strict=False)
    ]
    return {"packets": len(errors), **_percentiles("spacing_error", 1000 * np.abs(errors))}


def _percentiles(name: str, values_ms: _Floats) -> dict[str, float]:
    return {f"{name}_p{at}_ms": round(float(np.percentile(values_ms, at)), 2) for at in (50, 99)}


async def measure(calls: int, spacing_calls: int, seconds: int) -> list[dict[str, float]]:
    figures = []
    if calls:
        figures.append({"calls": calls, **await _measure_delay(calls, seconds)})
        sys.stdout.write(json.dumps(figures[-1]) + "\n")
    if spacing_calls:
        figures.append({"calls": spacing_calls, **await _measure_spacing(spacing_calls, seconds)})
        sys.stdout.write(json.dumps(figures[-1]) + "\n")
    return figures


def draw(figures: list[dict[str, float]], path: str) -> None:
    """A bar for each percentile."""
    picture = new_picture(7, 3)
    axes = picture.subplots()
    bars = {name.removesuffix("_ms"): value for each in figures for name, value in each.items() if name.endswith("_ms")}
    axes.bar_label(axes.barh(list(bars), list(bars.values()), color="#0b6e4f"), fmt="%.1f ms", padding=3)
    axes.set_xlabel("ms")
    picture.savefig(path)


def main() -> None:
    """Measures and prints a JSON line for each of the two."""
    parser = argparse.ArgumentParser(description="How long the bridge holds sound.")
    parser.add_argument("--calls", type=int, default=20, help="that speak and are listened to; 0 leaves it out")
    parser.add_argument("--spacing-calls", type=int, default=50, help="that are spoken to at once; 0 leaves it out")
    parser.add_argument("--seconds", type=int, default=10)
    add_output_flags(parser)
    arguments = parser.parse_args()
    save(arguments, run(measure(arguments.calls, arguments.spacing_calls, arguments.seconds)), draw)


if __name__ == "__main__":
    main()
