"""Which files a packet passes, seen on a running bridge: ``python -m tools.packet_path``.

A daemon runs in this process. A caller that speaks and an upstream that answers run in others; the listener is no
code of the bridge's. Meanwhile every call from one file of the package into another is noted, callback by callback.
Of the callbacks that begin and end where a packet does, the most frequent one is drawn: that is what an ordinary
packet costs, without reports, retransmissions and the first of everything.
"""

import ast
import asyncio
import itertools
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from types import CodeType, FrameType
from typing import Any, NamedTuple

import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bridge import log as logging
from bridge.config import of_flat
from bridge.daemon import Daemon
from tools.reference import fill
from tools.sources import ROOT

__all__ = ["PAGE", "WAYS", "Edge", "Passage", "blocks", "main", "traced"]

PAGE = ROOT / "docs" / "internals" / "packet.md"
_SPEECH = ROOT / "tests" / "data" / "speech.wav"
_PACKAGE = f"{ROOT / 'bridge'}/"
_READY = re.compile(rb"bridge is ready: (http://\S+)")
_CALL_ID = re.compile(r'"id":"(rtc_[^"]+)"')
_LIMIT_S = 60.0

Edge = tuple[str, str]
"""A file, and a file that it calls into; paths inside the package."""


class _Way(NamedTuple):
    """A part of a packet's way: in which file its callback begins, and which file it reaches."""

    block: str
    start: str
    end: str


WAYS = (
    _Way("packet-in", "webrtc/udp.py", "api/socket.py"),
    _Way("packet-answer", "upstream/websocket.py", "media/outbound.py"),
    _Way("packet-out", "webrtc/runner.py", "webrtc/udp.py"),
)


class Passage(NamedTuple):
    """What one callback does inside the package."""

    edges: tuple[Edge, ...]
    """In their order."""
    direct: tuple[str, ...]
    """The files that were at work in one another when the last one was reached: the way itself."""


class _Tracer:
    """What callbacks of the event loop do inside the package, and how many of them do the same."""

    def __init__(self) -> None:
        self.seen: dict[str, Counter[Passage]] = {way.block: Counter() for way in WAYS}
        self._files: dict[CodeType, str | None] = {}
        self._stack: list[str] = []
        self._edges: dict[Edge, None] = {}
        self._direct: dict[str, tuple[str, ...]] = {}

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        """For ``sys.setprofile``."""
        if event not in ("call", "return"):
            return
        code = frame.f_code
        if code not in self._files:
            self._files[code] = self._file_of(code)
        file = self._files[code]
        if file is None:
            return
        if event == "call":
            if self._stack and self._stack[-1] != file:
                self._edges[self._stack[-1], file] = None
            self._stack.append(file)
            for way in WAYS:
                if file == way.end and self._stack[0] == way.start:
                    self._direct.setdefault(way.block, tuple(dict.fromkeys(self._stack)))
        elif self._stack:
            self._stack.pop()
            if not self._stack:
                for block, direct in self._direct.items():
                    self.seen[block][Passage(tuple(self._edges), direct)] += 1
                self._edges, self._direct = {}, {}

    def passages(self) -> dict[str, Passage]:
        """The most frequent one of each way; raises ``ValueError`` if there was none."""
        for way in WAYS:
            if not self.seen[way.block]:
                raise ValueError(f"nothing came from {way.start} to {way.end}: name the files in WAYS as they are now")
        return {block: found.most_common(1)[0][0] for block, found in self.seen.items()}

    @staticmethod
    def _file_of(code: CodeType) -> str | None:
        path = code.co_filename
        return path.removeprefix(_PACKAGE) if path.startswith(_PACKAGE) else None


async def traced() -> dict[str, Passage]:
    """Each way, from a call of a few seconds."""
    tracer = _Tracer()
    async with asyncio.timeout(_LIMIT_S), _service() as upstream:
        settings: dict[str, Any] = {"port": 0, "udp_port": 0, "drain_s": 0, "max_loop_lag_ms": 0, "upstream": upstream}
        async with Daemon(of_flat(settings)) as daemon, _caller(daemon.url):
            call_id = await _first_call(daemon)
            url = f"{daemon.url.replace('http', 'ws', 1)}v1/realtime?call_id={call_id}&audio=pcm16"
            async with connect(url) as listener:
                with _profiled(tracer):
                    await _until_answered(listener)
    return tracer.passages()


def blocks(passages: dict[str, Passage]) -> dict[str, str]:
    """A picture and a table of each way, for the page."""
    return {name: f"{_picture(passage)}\n\n{_table(passage)}" for name, passage in passages.items()}


def main() -> int:
    """Draws the ways into the page."""
    logging.configure("json", "error")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        made = blocks(runner.run(traced()))
    PAGE.write_text(fill(PAGE.read_text(), made))
    return 0


def _picture(passage: Passage) -> str:
    numbers = {file: number for number, file in enumerate(_files(passage), 1)}
    thick = set(itertools.pairwise(passage.direct))
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'    f{number}["{number}. {file}"]' for file, number in numbers.items()]
    for caller, callee in passage.edges:
        arrow = "==>" if (caller, callee) in thick else "-->"
        lines.append(f"    f{numbers[caller]} {arrow} f{numbers[callee]}")
    return "\n".join([*lines, "```"])


def _table(passage: Passage) -> str:
    files = _files(passage)
    lines = [
        f"{len(passage.direct)} files are on the way itself, in bold. With those that are asked it is {len(files)}. "
        "They stand in the order in which the packet first comes to them.",
        "",
        "| | file | what it is for |",
        "|---|---|---|",
    ]
    for number, file in enumerate(files, 1):
        caption = (ast.get_docstring(ast.parse((ROOT / "bridge" / file).read_text())) or "").splitlines()[0]
        name = f"**`bridge/{file}`**" if file in passage.direct else f"`bridge/{file}`"
        lines.append(f"| {number} | {name} | {caption.replace('``', '`').replace('|', '/')} |")
    return "\n".join(lines)


def _files(passage: Passage) -> list[str]:
    return list(dict.fromkeys(file for edge in passage.edges for file in edge))


@contextmanager
def _profiled(tracer: _Tracer) -> Iterator[None]:
    sys.setprofile(tracer.profile)
    try:
        yield
    finally:
        sys.setprofile(None)


@asynccontextmanager
async def _program(*arguments: str) -> Any:
    """A command of ``bridge`` in a process of its own, ended with the block."""
    with tempfile.TemporaryFile() as complaints:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=complaints
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def _service() -> Any:
    """A Realtime service that answers with the caller's own words; its URL."""
    async with _program("serve", "--port", "0", "--udp-port", "0", "--engine", "parrot") as process:
        match = _READY.match(await process.stdout.readline())
        if match is None:
            raise RuntimeError("the service did not start")
        yield f"{match[1].decode().replace('http', 'ws', 1)}v1/realtime"


def _caller(url: str) -> Any:
    return _program("call", url, "--in", str(_SPEECH), "--out", "/dev/null")


async def _first_call(daemon: Daemon) -> str:
    """The id of the call that the caller makes, once it is there."""
    async with connect(f"{daemon.url.replace('http', 'ws', 1)}v1/calls/events") as watcher:
        async for text in watcher:
            if match := _CALL_ID.search(str(text)):
                return match[1]
    raise RuntimeError("no call came")


async def _until_answered(listener: Any) -> None:
    """Until the answer has been played, or the caller has hung up."""
    try:
        async for text in listener:
            if '"type":"output_audio_buffer.stopped"' in text:
                return
    except ConnectionClosed:
        pass


if __name__ == "__main__":
    sys.exit(main())
