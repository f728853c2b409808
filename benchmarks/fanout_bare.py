"""The same bytes, broadcast by ``websockets`` and nothing else: what the fan-out benchmark compares the bridge with.

Prints its port. ``go PATH N`` on a line: sends what the file holds, a tick every 20 ms for N ticks, to the listeners of
each kind, and prints a line when that is done.
"""

import asyncio
import pickle
import sys
import time
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.fanout_listeners import KINDS, MAX_MESSAGES, Times, open_times
from benchmarks.kit.output import run

__all__ = ["TICK_S", "ticks_of"]

TICK_S = 0.020

Tick = list[list[str | bytes]]
"""What is sent at one time, for each kind."""


def ticks_of(path: str) -> list[Tick]:
    """What was saved, cut behind each sound message of each kind."""
    with open(path, "rb") as file:
        by_kind: list[list[tuple[bool, bytes]]] = pickle.load(file)
    cut: list[list[list[str | bytes]]] = []
    for messages in by_kind:
        ticks: list[list[str | bytes]] = [[]]
        for is_text, payload in messages:
            ticks[-1].append(payload.decode() if is_text else payload)
            if not is_text or payload.startswith(b'{"type":"input_audio_buffer.append"'):
                ticks.append([])
        cut.append(ticks[:-1])
    return [list(tick) for tick in zip(*cut, strict=False)]


async def _serve(memory: str) -> None:
    times = open_times(memory)
    groups: list[set[ServerConnection]] = [set() for _ in KINDS]

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        query = urlsplit(connection.request.path).query
        group = groups[next(number for number, kind in enumerate(KINDS) if query.endswith(f"&{kind}"))]
        group.add(connection)
        try:
            await connection.wait_closed()
        finally:
            group.discard(connection)

    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        async for line in reader:
            _, path, count = line.decode().split()
            await _play(ticks_of(path)[: int(count)], groups, times)
            print(flush=True)


async def _play(ticks: list[Tick], groups: list[set[ServerConnection]], times: Times) -> None:
    began = time.monotonic()
    for number, tick in enumerate(ticks):
        await asyncio.sleep(began + number * TICK_S - time.monotonic())
        for sound in tick[-1]:  # in binary framing the number is easy to find
            if isinstance(sound, bytes):
                times[int.from_bytes(sound[4:8], "big") % MAX_MESSAGES] = time.monotonic()
        for group, messages in zip(groups, tick, strict=True):
            for message in messages:
                broadcast(group, message)


if __name__ == "__main__":
    run(_serve(sys.argv[1]))
