"""Callers who speak to a daemon, as a program of their own: ``python -m tests.cluster.callers URL PID KEY COUNT``.

Every second one is heard by a listener, and every other one is answered without a pause, with its own words. When all
of them are heard, it writes ``speaking``. A line of input with a number has it wait until each listener and each caller
who is answered has heard so many more pieces of 20 ms; ``report`` has it write the longest time in which one of them
heard nothing since the report before, and begins a new one.

Time in which the daemon or this program was ready to run, and had no processor, does not count: the kernel tells it.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.kit.caller import NO_TURNS, post_offer
from benchmarks.kit.load import Clock, FrameCounter, LoadPeer, Weather, client_frame
from bridge.webrtc.dtls import new_certificate

__all__ = ["Hearing"]

_LOOK_S = 0.005
_ASK_S = 0.2
_SPOKEN = 100
"""Pieces that are spoken before an answer is asked for."""
_LEFT = 250
"""Pieces of an answer that are there to be played, at least."""


class Hearing:
    """Follows counts that grow with each piece of sound, and how long each of them stood still at most."""

    def __init__(self, counts: dict[str, Callable[[], int]], now: Callable[[], float]) -> None:
        self._counts = list(counts.values())
        self._names = list(counts)
        self._now = now
        self.seen = [count() for count in self._counts]
        self._grew_at = [now()] * len(self._counts)
        self._longest_s = [0.0] * len(self._counts)

    def look(self) -> None:
        """Notes what has grown."""
        now = self._now()
        for number, count in enumerate(self._counts):
            seen = count()
            self._longest_s[number] = max(self._longest_s[number], now - self._grew_at[number])
            if seen != self.seen[number]:
                self.seen[number], self._grew_at[number] = seen, now

    def report(self) -> dict[str, Any]:
        """Returns the longest time in which one of them stood still, and which one; begins anew."""
        self.look()
        longest_s = max(self._longest_s)
        which = self._names[self._longest_s.index(longest_s)]
        self._longest_s = [0.0] * len(self._counts)
        return {"gap_ms": round(1000 * longest_s, 1), "of": which}


def _not_delayed(pids: tuple[str, ...]) -> Callable[[], float]:
    """Makes a clock that stands still while one of the processes waits for a processor."""
    loop = asyncio.get_running_loop()

    def delayed_s(pid: str) -> float:
        with suppress(OSError, IndexError):  # a kernel that does not tell, or a process that has ended
            return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
        return 0.0

    return lambda: loop.time() - sum(map(delayed_s, pids))


class _Call:
    """A caller who speaks, with a socket beside it."""

    def __init__(self, number: int) -> None:
        self.is_answered = number % 2 == 1
        self.name = f"{'caller' if self.is_answered else 'listener'} {number}"
        self._number = number

    async def open(self, url: str, key: str, certificate: Any, clock: Clock) -> None:
        """Connects the caller and the socket."""
        call_id = ""

        async def signal(offer: str) -> bytes:
            nonlocal call_id
            answer, call_id = await asyncio.to_thread(post_offer, url, offer, json.dumps(NO_TURNS), key=key)
            return answer

        self.peer = LoadPeer(certificate, self._number, Weather())
        await self.peer.connect("127.0.0.1", signal)
        clock.add(self.peer.send_frame, self.peer.keep_alive)
        port = urlsplit(url).port
        assert port is not None
        path = f"/v1/realtime?call_id={call_id}{'' if self.is_answered else '&audio=pcm16'}"
        self.socket = await FrameCounter.open("127.0.0.1", port, path, key=key)

    def heard(self) -> int:
        """Returns how many pieces of sound have come."""
        return self.peer.received if self.is_answered else self.socket.events

    async def be_answered(self) -> None:
        """Asks for an answer to what was said until now, and for the same once more whenever little of it is left."""
        self._send("input_audio_buffer.commit")
        spoken = self.peer.sent
        asked, before = 0, self.peer.received
        while True:
            while asked - (self.peer.received - before) < _LEFT:
                self._send("response.create")
                await self.socket.next_text(lambda text: b'"response.done"' in text)
                asked += spoken
            await asyncio.sleep(_ASK_S)

    def _send(self, event: str) -> None:
        self.socket.transport.write(client_frame(json.dumps({"type": event}).encode()))


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  # counts have no event
        await asyncio.sleep(_LOOK_S)


async def _run(url: str, pid: str, key: str, count: int) -> None:
    clock, certificate = Clock(), new_certificate()
    calls = [_Call(number) for number in range(count)]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(clock.run())]
        for call in calls:
            await call.open(url.rstrip("/"), key, certificate, clock)
        clock.is_speaking = True
        await _until(lambda: all(call.peer.sent > _SPOKEN for call in calls))
        running += [tasks.create_task(call.be_answered()) for call in calls if call.is_answered]
        hearing = Hearing({call.name: call.heard for call in calls}, _not_delayed((pid, "self")))

        async def look() -> None:
            while True:
                hearing.look()
                await asyncio.sleep(_LOOK_S)

        async def more(pieces: int) -> None:
            enough = [seen + pieces for seen in hearing.seen]
            await _until(lambda: all(seen >= wanted for seen, wanted in zip(hearing.seen, enough, strict=True)))

        running.append(tasks.create_task(look()))
        await more(_SPOKEN)
        hearing.report()
        answer = "speaking"
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while True:
            sys.stdout.write(f"{answer}\n")
            sys.stdout.flush()
            line = (await reader.readline()).decode().strip()
            if not line:
                break
            if line == "report":
                faults = [fault for call in calls for fault in call.peer.faults]
                lost = sum(call.socket.is_lost for call in calls)
                late_ms, clock.late_s = round(1000 * clock.late_s, 1), 0.0
                answer = json.dumps({**hearing.report(), "faults": faults, "lost": lost, "clock_late_ms": late_ms})
            else:
                await more(int(line))
                answer = "heard"
        for task in running:
            task.cancel()
        await asyncio.gather(*(call.peer.aclose() for call in calls))


if __name__ == "__main__":
    _, url, pid, key, count = sys.argv
    uvloop.run(_run(url, pid, key, int(count)))
