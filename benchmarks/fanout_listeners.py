"""The listeners of the fan-out benchmarks, in a process of their own: they count, check the order and take the time.

Commands come in by lines of text, figures go out as lines of JSON: ``measure`` (forget what was until now), ``report``,
``freeze N`` (the last N read nothing any more), ``thaw``, ``save PATH`` (one listener of each kind keeps what it gets
from now on, until ``saved`` writes it). A message numbered ``n`` was sent at ``times[n]`` of the shared file.
"""

import asyncio
import base64
import functools
import json
import os
import pickle
import socket
import sys
import time
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np

from benchmarks.kit.output import run

__all__ = ["KINDS", "MAX_MESSAGES", "Listener", "Times", "open_times"]

Times = np.memmap[Any, np.dtype[np.float64]]
"""When each message was sent, in seconds of the system's monotonic clock; in a file that all processes share."""

KINDS = ("audio=pcm16", "audio=g711_ulaw", "audio=pcm16&rate=8000", "audio=pcm16&framing=binary")
MAX_MESSAGES = 100_000
_SEQUENCE = slice(4, 8)  # of a binary message's header
_APPEND = b'{"type":"input_audio_buffer.append","event_id":"'
_SMALL_BYTES = 4096  # what the kernel may keep for one that is going to freeze


def open_times(path: str, *, is_new: bool = False) -> Times:
    """The shared times."""
    return np.memmap(path, np.float64, "w+" if is_new else "r+", shape=(MAX_MESSAGES,))


class Listener(asyncio.Protocol):
    """A WebSocket client that reads no more of a message than its number."""

    def __init__(self, url: str, times: Times) -> None:
        self.ready = asyncio.get_running_loop().create_future()
        self.messages = 0
        self.bytes = 0
        self.gaps = 0
        self.number = 0
        self.delays: list[float] = []
        self.saved: list[tuple[bool, bytes]] | None = None
        self._url = urlsplit(url)
        self._times = times
        self._buffer = b""
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks for the upgrade."""
        self.transport = cast(asyncio.Transport, transport)
        target = f"{self._url.path}?{self._url.query}"
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET {target} HTTP/1.1\r\nHost: {self._url.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Whole frames; what is left waits for more."""
        buffer = self._buffer + data if self._buffer else data
        at = 0
        if not self._is_open:
            head, _, rest = buffer.partition(b"\r\n\r\n")
            if rest or buffer.endswith(b"\r\n\r\n"):
                if b" 101 " not in head.partition(b"\r\n")[0]:
                    raise ConnectionError(head.decode(errors="replace"))
                self._is_open = True
                self.ready.set_result(None)
                buffer = rest
        now = time.monotonic()
        while self._is_open and len(buffer) - at >= 2:
            opcode, length, start = buffer[at], buffer[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if len(buffer) < start + length:
                break
            at = start + length
            self._take(opcode, buffer[start:at], now)
        self._buffer = buffer[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Over."""
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("closed during the handshake"))

    def _take(self, opcode: int, payload: bytes, now: float) -> None:
        if opcode == 0x89:  # a ping, answered by a masked pong
            self.transport.write(b"\x8a" + bytes((0x80 | len(payload),)) + bytes(4) + payload)
            return
        if opcode == 0x82:
            number = int.from_bytes(payload[_SEQUENCE], "big")
        elif payload.startswith(_APPEND):
            end = payload.index(b'"', len(_APPEND))
            number = int(payload[payload.rindex(b"_", 0, end) + 1 : end])
        else:
            number = 0
        self.messages += 1
        self.bytes += len(payload)
        if self.saved is not None:
            self.saved.append((opcode == 0x81, payload))
        if number:
            self.gaps += number != self.number + 1 and self.number > 0
            self.number = number
            self.delays.append(now - self._times[number % MAX_MESSAGES])


class _Crowd:
    """All listeners of this process."""

    def __init__(self, listeners: list[Listener], may_freeze: int, kinds: int) -> None:
        self._listeners = listeners
        self._kinds = kinds
        self._steady = listeners[: len(listeners) - may_freeze]  # who was frozen reads old sound when it is thawed
        self._frozen: list[Listener] = []
        self._path = ""

    def carry_out(self, command: str, value: str) -> dict[str, Any]:
        """One command; its answer."""
        if command == "measure":
            for listener in self._listeners:
                listener.messages = listener.bytes = listener.gaps = listener.number = 0
                listener.delays.clear()
        elif command == "report":
            return self._report()
        elif command == "freeze":
            self._frozen = self._listeners[-int(value) :]
            for listener in self._frozen:
                listener.transport.pause_reading()
        elif command == "thaw":
            for listener in self._frozen:
                listener.transport.resume_reading()
            self._frozen = []
        elif command == "save":
            self._path = value
            for listener in self._listeners[: self._kinds]:
                listener.saved = []
        elif command == "saved":
            with open(self._path, "wb") as file:
                pickle.dump([listener.saved for listener in self._listeners[: self._kinds]], file)
        return {}

    def _report(self) -> dict[str, Any]:
        reading = [listener for listener in self._listeners if listener not in self._frozen]
        delays = np.concatenate([np.array(listener.delays) for listener in self._steady])
        p50, p99 = np.percentile(delays, (50, 99)) if len(delays) else (0.0, 0.0)
        by_kind = [{listener.messages for listener in reading[kind :: self._kinds]} for kind in range(self._kinds)]
        return {
            "messages": sum(listener.messages for listener in reading),
            "bytes": sum(listener.bytes for listener in reading),
            "gaps": sum(listener.gaps for listener in reading),
            "spread": max((max(counts) - min(counts) for counts in by_kind if counts), default=0),
            "p50_ms": 1000 * float(p50),
            "p99_ms": 1000 * float(p99),
        }


def _itself(listener: Listener) -> Listener:
    return listener


async def _listen(url: str, count: int, small: int, memory: str, kinds: tuple[str, ...]) -> None:
    """``count`` listeners, each kind as often as the others, ``small`` of them with little room in the kernel."""
    times, urls = open_times(memory), url.split(",")  # of one call, or of several
    loop = asyncio.get_running_loop()
    listeners = []
    for number in range(count):
        line = socket.socket()
        if number >= count - small:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BYTES)
        line.setblocking(False)
        where = urls[number % len(urls)]
        address = urlsplit(where)
        await loop.sock_connect(line, (address.hostname, address.port))
        listener = Listener(f"{where}&{kinds[number % len(kinds)]}", times)
        await loop.create_connection(functools.partial(_itself, listener), sock=line)
        await asyncio.wait_for(listener.ready, 10)
        listeners.append(listener)
    crowd = _Crowd(listeners, small, len(kinds))
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    async for line_read in reader:
        command, _, value = line_read.decode().strip().partition(" ")
        sys.stdout.write(json.dumps(crowd.carry_out(command, value)) + "\n")
        sys.stdout.flush()
    for listener in listeners:
        listener.transport.abort()


if __name__ == "__main__":
    chosen = tuple(sys.argv[5:]) or KINDS
    run(_listen(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], chosen))
