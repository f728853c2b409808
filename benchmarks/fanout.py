"""What a listener costs, and what a frozen one does to the others: ``python -m benchmarks.fanout [--listeners 500]``.

One call with so many WebSocket listeners in four formats, served by ``bridge serve`` in a process of its own, against
``websockets.broadcast`` of the very bytes that the bridge sent, in a process of its own, at the same pace, by turns.
The listeners are in a third process; they see that nothing is missing and that everything is in order. Then a tenth of
them reads nothing, by turns with windows in which all read. Prints JSON; ``--png`` draws it.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.fanout_bare import TICK_S
from benchmarks.fanout_listeners import MAX_MESSAGES, Times, open_times
from benchmarks.kit.caller import NO_TURNS, socket_url
from benchmarks.kit.output import add_output_flags, new_picture, run, save
from benchmarks.kit.process import Program, running, serving
from benchmarks.kit.sampling import cpu_s, rss_mb
from benchmarks.kit.sound import FRAME_BYTES, speech

__all__ = ["main", "measure"]

_TICKS_PER_EVENT = 25
_FILL_S = 40  # of sound at once, with which those who read nothing fill what the kernel keeps for them
_FILL_PACE_S = 0.2
_WAITS_BYTES = 64 * 1024
_KERNEL_BYTES = 512 * 1024  # what the process holds for a frozen listener beside its backlog
_BACKLOG_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Side:
    """One of the two servers with its listeners."""

    server: Program
    listeners: Program
    cpu_s: float = 0.0
    messages: int = 0
    gaps: int = 0
    spread: int = 0
    us_per_event: list[float] = field(default_factory=list)

    async def begin(self) -> float:
        """From now on counts."""
        await self.listeners.ask("measure")
        return cpu_s(self.server.figures)

    async def end(self, before_s: float) -> None:
        """Until now counted."""
        await asyncio.sleep(0.3)  # the last messages are still under way
        spent_s = cpu_s(self.server.figures) - before_s
        report = await self.listeners.report()
        self.cpu_s += spent_s
        self.messages += report["messages"]
        self.gaps += report["gaps"]
        self.spread = max(self.spread, report["spread"])
        self.us_per_event.append(1e6 * spent_s / max(1, report["messages"]))


def _append(pcm: bytes) -> str:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})


class _Owner:
    """Who speaks in the call: 20 ms of speech every 20 ms, and a typed message twice a second."""

    def __init__(self, socket: ClientConnection, times: Times) -> None:
        self._socket = socket
        self._times = times
        self._number = 0
        pcm = speech()
        pieces = (pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm) - FRAME_BYTES, FRAME_BYTES))
        self._appends = [_append(piece) for piece in pieces]
        self._second = _append(pcm[: 50 * FRAME_BYTES])
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a typed message"}]}
        self._message = json.dumps({"type": "conversation.item.create", "item": item})

    async def speak(self, seconds: float, what: str) -> None:
        """For so long, at the pace of speech."""
        began = time.monotonic()
        for tick in tqdm(range(round(seconds / TICK_S)), desc=what, unit="tick", leave=False, disable=None):
            await asyncio.sleep(began + tick * TICK_S - time.monotonic())
            self._number += 1
            self._times[self._number % MAX_MESSAGES] = time.monotonic()
            await self._socket.send(self._appends[self._number % len(self._appends)])
            if self._number % _TICKS_PER_EVENT == 0:
                await self._socket.send(self._message)

    async def pour(self, seconds: int) -> None:
        """So much sound faster than it plays, a second at a time."""
        for _ in tqdm(range(seconds), desc="filling up", unit="s", leave=False, disable=None):
            self._number += 1
            self._times[self._number % MAX_MESSAGES] = time.monotonic()
            await self._socket.send(self._second)
            await asyncio.sleep(_FILL_PACE_S)

    async def drain(self) -> None:
        """Reads what it is told, so that it is no slow listener itself."""
        async for _ in self._socket:
            pass


async def measure(*, listeners: int, seconds: float, rounds: int, fill_s: int = _FILL_S) -> dict[str, Any]:
    """All figures."""
    frozen = listeners // 10
    with tempfile.TemporaryDirectory() as folder:
        memory = f"{folder}/times"
        times = open_times(memory, is_new=True)
        async with contextlib.AsyncExitStack() as stack:
            room = ("--max-listeners-per-call", str(listeners + 10), "--max-listeners-per-key", str(listeners + 10))
            daemon = await stack.enter_async_context(serving("--engine", "parrot", *room))
            socket = await stack.enter_async_context(
                connect(socket_url(daemon.url, "model=any"), proxy=None, compression=None)
            )
            session_id = json.loads(await socket.recv())["session"]["id"]
            call_url = f"{daemon.url}/v1/calls/{session_id}"
            await socket.send(json.dumps({"type": "session.update", "session": NO_TURNS}))
            owner = _Owner(socket, times)
            drain = asyncio.create_task(owner.drain())
            stack.callback(drain.cancel)
            bare = await stack.enter_async_context(serving(memory, program="benchmarks.fanout_bare"))
            ours, theirs = [
                _Side(
                    server,
                    await stack.enter_async_context(
                        running(
                            "benchmarks.fanout_listeners",
                            socket_url(server.url, f"call_id={session_id}"),
                            str(listeners),
                            str(frozen),
                            memory,
                        )
                    ),
                )
                for server in (daemon, bare)
            ]
            for side in (ours, theirs):
                await side.listeners.ask()
            await owner.speak(1.0, "warming up")
            await _compare(ours, theirs, owner, f"{folder}/sent", seconds=seconds, rounds=rounds)
            figures = _comparison(ours, theirs, listeners)
            figures |= await _freeze(ours, owner, call_url, frozen, seconds=seconds, rounds=rounds, fill_s=fill_s)
            return figures


async def _compare(ours: _Side, theirs: _Side, owner: _Owner, path: str, *, seconds: float, rounds: int) -> None:
    """By turns: the bridge, and the same bytes without it."""
    for number in range(rounds):
        before_s = await ours.begin()
        if number == 0:
            await ours.listeners.ask(f"save {path}")
        await owner.speak(seconds, f"bridge, round {number + 1}")
        await ours.end(before_s)
        if number == 0:
            await ours.listeners.ask("saved")
        before_s = await theirs.begin()
        await theirs.server.ask(f"go {path} {round(seconds / TICK_S)}")
        await theirs.end(before_s)


def _comparison(ours: _Side, theirs: _Side, listeners: int) -> dict[str, Any]:
    bridge_us, bare_us = 1e6 * ours.cpu_s / ours.messages, 1e6 * theirs.cpu_s / theirs.messages
    return {
        "listeners": listeners,
        "delivered": ours.messages,
        "delivered_bare": theirs.messages,
        "gaps": ours.gaps,
        "spread": ours.spread,
        "bridge_us_per_event": round(bridge_us, 2),
        "bare_us_per_event": round(bare_us, 2),
        "ratio": round(bridge_us / bare_us, 3),
        "ratios": [round(a / b, 3) for a, b in zip(ours.us_per_event, theirs.us_per_event, strict=True)],
    }


async def _freeze(
    ours: _Side, owner: _Owner, call_url: str, frozen: int, *, seconds: float, rounds: int, fill_s: int
) -> dict[str, Any]:
    """By turns: all read, and a tenth of them reads nothing."""
    reading, beside_frozen, rss, behind = [], [], [], []
    for number in range(rounds):
        await owner.speak(1.0, "thawed")
        await ours.listeners.ask("measure")
        await owner.speak(seconds, f"all read, round {number + 1}")
        reading.append(await ours.listeners.report())
        rss.append(rss_mb(ours.server.figures))
        await ours.listeners.ask(f"freeze {frozen}")
        await owner.pour(fill_s)
        await ours.listeners.ask("measure")
        await owner.speak(seconds, f"{frozen} frozen, round {number + 1}")
        beside_frozen.append(await ours.listeners.report())
        rss.append(rss_mb(ours.server.figures))
        behind.append(await asyncio.to_thread(_backlogs, call_url))
        await ours.listeners.ask("thaw")
    # Whatever else the machine does only adds to a delay: the best window of each kind is what is compared.
    normal, disturbed = [min(r["p99_ms"] for r in reports) for reports in (reading, beside_frozen)]
    return {
        "frozen": frozen,
        "p99_ms": round(normal, 2),
        "p99_ms_beside_frozen": round(disturbed, 2),
        "p99_change": round(disturbed / normal - 1, 3),
        "p99s_ms": [[round(r["p99_ms"], 2) for r in reports] for reports in (reading, beside_frozen)],
        "gaps_beside_frozen": sum(report["gaps"] for report in beside_frozen),
        "backlog_mb_of_frozen": [round(sum(sizes) / 1e6, 1) for sizes in behind],
        "frozen_that_wait": [len(sizes) for sizes in behind],
        "rss_mb": rss[0],
        "rss_mb_beside_frozen": max(rss[1::2]),
        "rss_bound_mb": round(rss[0] + frozen * (_BACKLOG_BYTES + _KERNEL_BYTES) / 1e6, 1),
    }


def _backlogs(call_url: str) -> list[int]:
    """What waits for each listener that waits."""
    with urllib.request.urlopen(call_url, timeout=10) as response:
        listeners = json.loads(response.read())["listeners"]
    return [listener["backlog_bytes"] for listener in listeners if listener["backlog_bytes"] > _WAITS_BYTES]


def _draw(figures: dict[str, Any], path: str) -> None:
    """Two pairs of bars."""
    picture = new_picture(9, 4)
    cost, delay = picture.subplots(1, 2)
    cost.bar(["bridge", "websockets.broadcast"], [figures["bridge_us_per_event"], figures["bare_us_per_event"]])
    cost.set(title=f"{figures['listeners']} listeners, ratio {figures['ratio']}", ylabel="CPU µs per delivered event")
    delay.bar(["all read", f"{figures['frozen']} frozen"], [figures["p99_ms"], figures["p99_ms_beside_frozen"]])
    delay.set(title=f"{figures['p99_change']:+.1%}", ylabel="p99 delay of those who read, ms")
    picture.savefig(path)


def main() -> None:
    """Measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description="What a listener costs, and what a frozen one does to the others.")
    parser.add_argument("--listeners", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fill-s", type=int, default=_FILL_S, help="sound between freezing and measuring")
    add_output_flags(parser)
    arguments = parser.parse_args()
    figures = run(
        measure(
            listeners=arguments.listeners,
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            fill_s=arguments.fill_s,
        )
    )
    sys.stdout.write(json.dumps(figures) + "\n")
    save(arguments, figures, _draw)


if __name__ == "__main__":
    main()
