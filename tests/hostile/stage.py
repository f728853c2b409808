"""What a test of an attack is made of: a live daemon, an innocent call beside it, and an attacker in its own process.

Theory of operation. The innocent call is an owner's WebSocket that appends 20 ms of sound every 20 ms, or a peer that
sends them, and a listener that hears it. The attacker's process is started first and waits; then the call is measured
on the quiet machine, then the attacker is let loose and the call is measured again, until the attacker has done what it
came for. What counts is the longest time in which the listener heard nothing, without the time in which the daemon or
the test was ready to run and the machine had no processor for it: the kernel tells it, and a busy machine is nobody's
attack.

    async def test_it(target: Target) -> None:
        outcome = await attacked(target, some_attack, 1000)
        outcome.require_harmless()
        assert outcome.answer == ...            # what ``some_attack(target.address, 1000)`` returned
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.kit.load import LoadPeer, Weather
from bridge.webrtc.dtls import new_certificate
from tests.end_to_end.web import open_socket, request
from tests.machine import SLOWNESS, scaled

__all__ = [
    "KEY",
    "OPERATOR",
    "WAITS",
    "Address",
    "Innocent",
    "Outcome",
    "Target",
    "attacked",
    "attacker",
    "innocent_call",
    "serve",
]

KEY = "operator-key"
"""The daemon's own API key."""
OPERATOR = {"Authorization": f"Bearer {KEY}"}
"""The header that shows it."""

MAX_GAP_S = 0.1
"""On the reference machine, with nothing beside it."""
MAX_TIMES_QUIET = 5
MAX_GROWTH_MB = 100
MAX_LEFT_MB = 40
"""More than before, soon after the attack: what the allocator keeps for the next one."""

_ROOT = Path(__file__).parents[2]
_READY = re.compile(r"bridge is ready: https?://\[?([^/]+?)\]?:(\d+)/  media: UDP (\d+)")
WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What says that a socket, with TLS or without, has nothing to read or no room to write."""

_TIMEOUT_S = 10.0
_START_LIMIT_S = scaled(20.0)
_QUIET_S = 2.0
_AFTERWARDS_S = 0.5
_ATTACK_LIMIT_S = scaled(40.0)
_BACK_LIMIT_S = scaled(10.0)
_FRAME_S = 0.020
_SOUND = base64.b64encode(bytes(range(240)) * 4).decode()  # 20 ms of PCM16 at 24 kHz
_APPEND = json.dumps({"type": "input_audio_buffer.append", "audio": _SOUND})
_NO_TURNS = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
_SAMPLE_S = 0.05
_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Address:
    """Where an attacker finds the daemon; plain values, so that they go from process to process."""

    port: int
    udp_port: int
    audiosocket_port: int = 0
    host: str = "127.0.0.1"
    certificate: str = ""
    """The path of the one that it shows over TLS."""

    @property
    def origin(self) -> str:
        """As a URL begins."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.certificate else ''}://{host}:{self.port}"

    @property
    def tls(self) -> ssl.SSLContext | None:
        """A context that trusts it; None without TLS."""
        return ssl.create_default_context(cafile=self.certificate) if self.certificate else None

    def connect(self, *, is_plain: bool = False) -> socket.socket:
        """A connection by which HTTP may be spoken; ``is_plain`` leaves TLS out."""
        connection = socket.create_connection((self.host, self.port), timeout=_TIMEOUT_S)
        if not self.certificate or is_plain:
            return connection
        return ssl.create_default_context(cafile=self.certificate).wrap_socket(connection, server_hostname="localhost")


class Target:
    """A running daemon: where it is, what it weighs, what it has logged."""

    def __init__(self, process: "subprocess.Popen[str]", address: Address, log: Path) -> None:
        self.process = process
        self.address = address
        self._log = log
        self._memory = psutil.Process(process.pid)

    @property
    def url(self) -> str:
        """Of HTTP and WebSocket."""
        return f"{self.address.origin}/"

    @property
    def is_running(self) -> bool:
        """It has not ended."""
        return self.process.poll() is None

    @property
    def rss_mb(self) -> float:
        """Resident memory, in MB."""
        return float(self._memory.memory_info().rss) / _MB

    def log_lines(self) -> list[dict[str, Any]]:
        """What it has logged until now."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def stop(self, limit_s: float) -> float:
        """SIGTERM; it must be gone in time with exit code 0, and say so. Returns the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running {limit_s:g} s after SIGTERM") from None
        assert code == 0, f"exit code {code}: {self._log.read_text()[-2000:]}"
        assert self.log_lines()[-1]["event"] == "daemon.stopped"
        return time.monotonic() - began


@contextmanager
def serve(log: Path, *flags: str, stderr: int | None = None, within: Sequence[str] = ()) -> Iterator[Target]:
    """A daemon on free ports of loopback, killed in the end if it still runs; logs to ``log``, or to ``stderr``.

    ``within`` is a command that becomes the one behind it, in surroundings that it makes.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
    command = [*within, sys.executable, "-m", "bridge", "serve", "--port", "0", "--engine", "parrot", *flags]
    log.touch()
    with open(log, "a") as file:  # appends: several may write here, one after the other
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=file if stderr is None else stderr,
            text=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        ready = _READY.match(line)
        assert ready, line + log.read_text()
        port = int(ready[2])
        certificate = flags[flags.index("--tls-cert") + 1] if "--tls-cert" in flags else ""
        address = Address(port, int(ready[3]), _audiosocket_port(process.pid, port), ready[1], certificate)
        yield Target(process, address, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def _audiosocket_port(pid: int, http_port: int) -> int:
    """The other TCP port that the daemon listens on; 0 where there is none."""
    ports = {c.laddr.port for c in psutil.Process(pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    return next(iter(ports - {http_port}), 0)


class Innocent:
    """A call whose sound reaches a listener; it notes when. ``say`` is told the number of each frame of 20 ms."""

    def __init__(
        self,
        call_id: str,
        say: Callable[[int], Awaitable[None]],
        is_open: Callable[[], bool],
        listener: ClientConnection,
        daemon_pid: int,
    ) -> None:
        self.call_id = call_id
        self._pids = daemon_pid, os.getpid()
        self._say = say
        self._is_open = is_open
        self._listener = listener
        self._heard: list[tuple[float, float]] = []  # when, and by how much the machine had delayed us until then

    async def speak(self) -> None:
        """Until cancelled, or cut off."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        with contextlib.suppress(ConnectionClosed):
            for number in itertools.count():
                due += _FRAME_S
                await asyncio.sleep(due - loop.time())
                await self._say(number)

    async def listen(self) -> None:
        """Until cancelled, or cut off: notes when each piece of sound has come."""
        with contextlib.suppress(ConnectionClosed):
            async for message in self._listener:
                if '"input_audio_buffer.append"' in str(message):
                    self._heard.append(self.now())

    def now(self) -> tuple[float, float]:
        """This moment, and by how much the machine has delayed the daemon and us until now, in seconds."""
        return asyncio.get_running_loop().time(), sum(map(_delayed_s, self._pids))

    def longest_gap_s(self, since: tuple[float, float], until: tuple[float, float]) -> float:
        """The longest time without sound between two moments."""
        moments = [since, *(moment for moment in self._heard if since < moment < until), until]
        return max(
            (later - earlier) - (more_delayed - delayed)
            for (earlier, delayed), (later, more_delayed) in pairwise(moments)
        )

    @property
    def is_alive(self) -> bool:
        """Neither the caller nor the listener is gone."""
        return self._is_open() and self._listener.close_code is None


def _delayed_s(pid: int) -> float:
    """How long the main thread of a process has waited for a processor; 0 where the kernel does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


@asynccontextmanager
async def innocent_call(target: Target, transport: str = "websocket") -> AsyncIterator[Innocent]:
    """A call that is speaking, with somebody who hears it."""
    call = _websocket_call if transport == "websocket" else _webrtc_call
    async with call(target) as (call_id, say, is_open):
        address = f"{target.url.replace('http', 'ws', 1)}v1/realtime?call_id={call_id}&audio=pcm16"
        options: dict[str, Any] = {"compression": None, "proxy": None, "additional_headers": OPERATOR}
        async with (
            connect(address, ssl=target.address.tls, **options) as listener,
            asyncio.TaskGroup() as tasks,
        ):
            innocent = Innocent(call_id, say, is_open, listener, target.process.pid)
            running = [tasks.create_task(innocent.speak()), tasks.create_task(innocent.listen())]
            try:
                yield innocent
            finally:
                for task in running:
                    task.cancel()


_Caller = tuple[str, Callable[[int], Awaitable[None]], Callable[[], bool]]
"""The call's id, what says a frame of sound, and whether it is still there."""


@asynccontextmanager
async def _websocket_call(target: Target) -> AsyncIterator[_Caller]:
    async with open_socket(target.url, "model=any", additional_headers=OPERATOR, ssl=target.address.tls) as owner:
        await owner.send({"type": "session.update", "session": _NO_TURNS})
        await owner.until("session.updated")
        connection = owner.connection

        async def say(_: int) -> None:
            await connection.send(_APPEND)

        yield owner.events[0]["session"]["id"], say, lambda: connection.close_code is None


@asynccontextmanager
async def _webrtc_call(target: Target) -> AsyncIterator[_Caller]:
    call_ids = []

    async def signal_offer(offer: str) -> bytes:
        headers = {**OPERATOR, "Content-Type": "application/sdp"}
        reply = await request("POST", f"{target.url}v1/realtime/calls", headers=headers, body=offer)
        assert reply.status == 201, reply
        call_ids.append(reply.headers["location"].rpartition("/")[2])
        return reply.body

    peer = LoadPeer(new_certificate(), 0, Weather())
    await peer.connect("127.0.0.1", signal_offer)
    loop = asyncio.get_running_loop()

    async def say(number: int) -> None:
        peer.send_frame(number)
        peer.keep_alive(loop.time())

    try:
        async with open_socket(target.url, f"call_id={call_ids[0]}", additional_headers=OPERATOR) as beside:
            await beside.send({"type": "session.update", "session": _NO_TURNS})
            await beside.until("session.updated")
        yield call_ids[0], say, lambda: not peer.faults
    finally:
        await peer.aclose()


@dataclass(slots=True)
class Outcome:
    """What an attack has done."""

    answer: Any
    """What the attacker's function returned."""
    seconds: float
    """How long that took."""
    quiet_gap_s: float
    gap_s: float
    growth_mb: float
    """The most that the daemon's memory grew by."""
    left_mb: float
    """What of it was left soon after."""
    is_alive: bool
    """The innocent call goes on."""

    def require_harmless(self, *, max_growth_mb: float = MAX_GROWTH_MB) -> None:
        """Fails with all figures where the innocent call or the daemon suffered."""
        assert self.is_alive, self
        assert self.gap_s <= max(MAX_GAP_S * SLOWNESS, MAX_TIMES_QUIET * self.quiet_gap_s), self
        assert self.growth_mb <= max_growth_mb, self
        assert self.left_mb <= MAX_LEFT_MB, self


async def attacked(
    target: Target, attack: Callable[..., Any], *arguments: Any, transport: str = "websocket"
) -> Outcome:
    """Lets ``attack(target.address, *arguments)`` run in a process of its own beside an innocent call.

    ``attack`` is a function of a module; the arguments, and what it returns, are JSON. ``transport`` is the innocent
    call's: ``websocket`` or ``webrtc``.
    """
    loop = asyncio.get_running_loop()
    async with attacker(target, attack, *arguments) as attacking, innocent_call(target, transport) as innocent:
        before_mb = target.rss_mb
        began = innocent.now()
        await asyncio.sleep(_QUIET_S)
        loosed = innocent.now()
        async with _peak_of(target) as peak:
            answer = await attacking.result()
            ended = loop.time()
            await asyncio.sleep(_AFTERWARDS_S)
        gap_s = innocent.longest_gap_s(loosed, innocent.now())
        return Outcome(
            answer=answer,
            seconds=ended - loosed[0],
            quiet_gap_s=innocent.longest_gap_s(began, loosed),
            gap_s=gap_s,
            growth_mb=peak[0] - before_mb,
            left_mb=await _left_mb(target, before_mb),
            is_alive=innocent.is_alive and await _is_listed(target, innocent.call_id),
        )


class Attacker:
    """A process that has everything ready, and waits for its word."""

    def __init__(self, process: asyncio.subprocess.Process, order: str) -> None:
        self._process = process
        self._order: bytes | None = order.encode()

    async def begin(self) -> None:
        """Lets it loose, and waits until it says that it is under way."""
        order, self._order = self._order, None
        assert order is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order)
        self._process.stdin.close()
        async with asyncio.timeout(_START_LIMIT_S):
            assert await self._process.stdout.readline() == b"under way\n"

    async def result(self) -> Any:
        """Lets it loose if it is not, and waits for its end; what its function returned."""
        async with asyncio.timeout(_ATTACK_LIMIT_S):
            output, _ = await self._process.communicate(self._order)
        assert self._process.returncode == 0
        return json.loads(output.rpartition(b"\n")[2])


@asynccontextmanager
async def attacker(target: Target, attack: Callable[..., Any], *arguments: Any) -> AsyncIterator[Attacker]:
    """A process for ``attack(target.address, *arguments)``; killed in the end, if it still runs."""
    name = f"{attack.__module__}:{attack.__name__}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.hostile.attacker", name),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_LIMIT_S):
            assert await process.stdout.readline() == b"ready\n"
        yield Attacker(process, json.dumps([asdict(target.address), arguments]))
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@asynccontextmanager
async def _peak_of(target: Target) -> AsyncIterator[list[float]]:
    """The most that the daemon weighed in the meantime, in MB."""
    peak = [target.rss_mb]

    async def watch() -> None:
        while target.is_running:
            peak[0] = max(peak[0], target.rss_mb)
            await asyncio.sleep(_SAMPLE_S)

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch())
        yield peak
        watching.cancel()


async def _left_mb(target: Target, before_mb: float) -> float:
    """What the daemon weighs more than before, when that is little enough, or after a while."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _BACK_LIMIT_S
    while target.rss_mb - before_mb > MAX_LEFT_MB and loop.time() < until:  # noqa: ASYNC110 (no event tells of it)
        await asyncio.sleep(_SAMPLE_S)
    return target.rss_mb - before_mb


async def _is_listed(target: Target, call_id: str) -> bool:
    reply = await request("GET", f"{target.url}v1/calls", headers=OPERATOR, tls=target.address.tls)
    return call_id in [call["id"] for call in reply.json["data"]]
