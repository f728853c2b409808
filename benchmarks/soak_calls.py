"""The calls of ``benchmarks.soak``: each kind of caller, and listeners that come and go in every way.

A seat is one caller after the other. Each speaks, is answered, and stays for a while; then it hangs up, is hung up
on or is gone without a word, and the next one calls. Beside each call two listeners join, leave, break off and come
back, or stop reading. All chances come from one seed.
"""

import asyncio
import contextlib
import json
import random
import secrets
import time
import urllib.request
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from benchmarks.kit.caller import PART, Caller
from benchmarks.kit.load import FrameCounter, client_frame
from benchmarks.kit.sound import speech
from bridge.client.carriers.contract import silence_of
from bridge.client.carriers.dialling import Dialling
from bridge.client.phone import Phone
from bridge.client.phone import dial as dial_phone
from bridge.errors import BridgeError
from bridge.media.convert import SoundEncoder
from bridge.webrtc.dial import dial
from bridge.webrtc.runner import PeerRunner
from bridge.wire.audio import G711_ULAW

__all__ = ["KINDS", "PUBLIC_URL", "TWILIO_TOKEN", "Callers"]

KINDS = ("webrtc", "websocket", "twilio")
PUBLIC_URL, TWILIO_TOKEN = "https://bridge.example.com", "soak-token"

_CHOICES = {  # and how often
    "audio=pcm16": 3,
    "audio=g711_ulaw&latency=balanced": 3,
    "audio=opus": 1,
    "audio=pcm16&rate=16000&framing=binary&latency=high": 3,
    "audio=none": 2,
    "audio=mp3": 1,
    "audio=pcm16&rate=8000&chunk_ms=100&tracks=input": 3,
}
_LISTENERS = 2  # beside each call
_CHUNK_S, _FRAME_S = 0.1, 0.02
_PAUSE_S = 8.0  # in it the turn ends and the answer is heard
_LIFE_S = 20.0, 180.0
_AGAIN_S = 3.0
_LIMIT_S = 20.0


class _Owner(Caller):
    """The caller's end of a WebRTC call."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = asyncio.Event()

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        self.closed.set()


class Callers:
    """So many seats; ``counts`` says what has happened until now."""

    def __init__(self, url: str, *, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._url = url
        self._host, self._port = url.removeprefix("http://").rstrip("/").split(":")
        self._random = random.Random(seed)
        self._runner = PeerRunner()
        self._stop = asyncio.Event()
        pcm = speech()
        size = int(48_000 * _CHUNK_S)
        whole = pcm + bytes(-len(pcm) % size) + bytes(size * int(_PAUSE_S / _CHUNK_S))
        self._appends = [
            client_frame(b'{"type":"input_audio_buffer.append","audio":"%s"}' % b64encode(whole[at : at + size]))
            for at in range(0, len(whole), size)
        ]
        encoder, silence = SoundEncoder(G711_ULAW), silence_of(G711_ULAW)
        ulaw = encoder.push(pcm) + encoder.flush() + silence * int(_PAUSE_S / _FRAME_S)
        self._frames = [ulaw[at : at + len(silence)] for at in range(0, len(ulaw) - len(silence) + 1, len(silence))]

    async def run(self, calls: int) -> None:
        """Fills so many seats until ``stop``, a few of them at a time; returns when all callers have gone."""
        async with self._runner, asyncio.TaskGroup() as seats:
            for number in range(calls):
                seats.create_task(self._seat(KINDS[number % len(KINDS)]))
                await self._pause(0.3)

    def stop(self) -> None:
        """All callers go."""
        self._stop.set()

    async def _seat(self, kind: str) -> None:
        calls = {"webrtc": self._webrtc, "websocket": self._websocket, "twilio": self._twilio}
        while not self._stop.is_set():
            try:
                await calls[kind](self._random.uniform(*_LIFE_S))
                self.counts[f"{kind}.ended"] += 1
            except* Exception as group:  # whatever goes wrong in one call must not end the others
                for error in _leaves(group):
                    self.counts[f"{kind}.failed: {type(error).__name__} {error}"[:120]] += 1
                await self._pause(_AGAIN_S)

    # Each kind of call, from the first request to the end

    async def _webrtc(self, life_s: float) -> None:
        owner = _Owner()
        call_id = ""

        async def signal(offer: str) -> bytes:
            nonlocal call_id
            headers = {"Content-Type": "application/sdp"}
            answer, location = await asyncio.to_thread(self._post, "v1/realtime/calls", offer.encode(), headers)
            call_id = location.rpartition("/")[2]
            return answer

        is_microphone = self._random.random() < 0.5
        async with dial(self._runner, owner, signal, is_microphone=is_microphone) as peer:
            async with asyncio.timeout(_LIMIT_S):
                await owner.connected.wait()
            self.counts["webrtc.opened"] += 1
            async with self._listeners(call_id):
                until = time.monotonic() + life_s
                while time.monotonic() < until and not self._stop.is_set() and not owner.closed.is_set():
                    peer.play(PART, speech())
                    await self._pause(len(speech()) / 48_000 + _PAUSE_S)
            way = self._way()
            if way == "deleted":
                await self._delete(call_id)
                async with asyncio.timeout(_LIMIT_S):
                    await owner.closed.wait()
            elif way == "gone":
                peer.ice.send_datagram = lambda datagram: None  # type: ignore[method-assign]

    async def _websocket(self, life_s: float) -> None:
        created: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def take(text: bytes) -> None:
            if not created.done():
                created.set_result(text)

        socket = await self._open("/v1/realtime?model=any", take)
        try:
            async with asyncio.timeout(_LIMIT_S):
                call_id = json.loads(await created)["session"]["id"]
            socket.on_text = None
            self.counts["websocket.opened"] += 1
            async with self._listeners(call_id):
                at, due, until = 0, time.monotonic(), time.monotonic() + life_s
                while time.monotonic() < until and not self._stop.is_set() and not socket.is_lost:
                    socket.transport.write(self._appends[at % len(self._appends)])
                    at += 1
                    due += _CHUNK_S
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
            way = self._way()
            if way == "deleted":
                await self._delete(call_id)
            elif way == "closed":
                socket.transport.write(client_frame(b"\x03\xe8", opcode=8))
                await self._pause(0.5)
        finally:
            socket.transport.abort()

    async def _twilio(self, life_s: float) -> None:
        name = secrets.token_hex(8)
        dialling = Dialling(
            carrier="twilio", url=self._url, secret=TWILIO_TOKEN, public_url=PUBLIC_URL, parameters={"soak": name}
        )
        async with dial_phone(dialling) as phone:
            speaking = asyncio.ensure_future(self._speak(phone))
            try:
                await self._pause(1.0)
                call_id = await self._find(name)
                self.counts["twilio.opened"] += 1
                async with self._listeners(call_id):
                    until = time.monotonic() + life_s
                    while time.monotonic() < until and not self._stop.is_set() and not phone.ended.is_set():
                        await self._pause(1.0)
                way = self._way()
                if way == "deleted":
                    await self._delete(call_id)
                elif way == "gone":
                    phone.wire.cut()
            finally:
                speaking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await speaking

    async def _speak(self, phone: Phone) -> None:
        due, at = time.monotonic(), 0
        while not phone.ended.is_set():
            due += _FRAME_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await phone.tick(self._frames[at % len(self._frames)])
            at += 1

    def _way(self) -> str:
        """How this call ends."""
        way = self._random.choices(("closed", "deleted", "gone"), (5, 3, 2))[0]
        self.counts[f"calls.{way}"] += 1
        return way

    # Listeners

    @contextlib.asynccontextmanager
    async def _listeners(self, call_id: str) -> AsyncIterator[None]:
        """Two of them beside a call, each one after the other."""
        async with asyncio.TaskGroup() as tasks:
            listening = [tasks.create_task(self._listen(call_id)) for _ in range(_LISTENERS)]
            try:
                yield
            finally:
                for task in listening:
                    task.cancel()

    async def _listen(self, call_id: str) -> None:
        while True:
            choice = self._random.choices(tuple(_CHOICES), tuple(_CHOICES.values()))[0]
            act = self._random.choices(("leaves", "breaks off", "comes back", "stalls"), (4, 2, 3, 2))[0]
            try:
                await self._listen_once(f"/v1/realtime?call_id={call_id}&{choice}", act)
                self.counts[f"listeners.{act}"] += 1
            except Exception as error:  # the call may have ended
                self.counts[f"listeners.failed: {type(error).__name__}"] += 1
                await asyncio.sleep(_AGAIN_S)

    async def _listen_once(self, path: str, act: str) -> None:
        last = b""

        def take(text: bytes) -> None:
            nonlocal last
            last = text

        socket = await self._open(path, take)
        try:
            await self._stay(socket)
            if act == "comes back" and last:
                event_id = json.loads(last)["event_id"]
                socket.transport.abort()
                await asyncio.sleep(self._random.uniform(0.0, 3.0))
                socket = await self._open(f"{path}&after={event_id}", take)
                await self._stay(socket)
            elif act == "stalls":
                socket.transport.pause_reading()
                await asyncio.sleep(self._random.uniform(5.0, 40.0))
                if not socket.is_lost:
                    socket.transport.resume_reading()
                await self._stay(socket)
            elif act == "leaves":
                socket.transport.write(client_frame(b"\x03\xe8", opcode=8))
                await asyncio.sleep(0.2)
        finally:
            self.counts["listeners.events"] += socket.events
            socket.transport.abort()

    async def _open(self, path: str, on_text: Callable[[bytes], None]) -> FrameCounter:
        """A WebSocket whose first message is seen, too."""

        def new() -> FrameCounter:
            socket = FrameCounter(f"{self._host}:{self._port}", path)
            socket.on_text = on_text
            return socket

        _, socket = await asyncio.get_running_loop().create_connection(new, self._host, int(self._port))
        try:
            async with asyncio.timeout(_LIMIT_S):  # wait_for of Python 3.11 may swallow a cancellation
                await socket.opened.wait()
        except BaseException:
            socket.transport.abort()
            raise
        return socket

    async def _stay(self, socket: FrameCounter) -> None:
        until = time.monotonic() + self._random.uniform(3.0, 30.0)
        while time.monotonic() < until and not socket.is_lost:  # noqa: ASYNC110 (for a while, as a person stays)
            await asyncio.sleep(0.5)

    # HTTP

    async def _find(self, name: str) -> str:
        """The id of the call with this mark."""
        listed: Any = json.loads(await asyncio.to_thread(self._request, "GET", "v1/calls"))
        found = [call["id"] for call in listed["data"] if call["metadata"].get("soak") == name]
        if not found:
            raise RuntimeError("the call is not listed")
        return str(found[0])

    async def _delete(self, call_id: str) -> None:
        await asyncio.to_thread(self._request, "DELETE", f"v1/realtime/calls/{call_id}")

    def _request(self, method: str, path: str) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(f"{self._url}{path}", method=method), timeout=20) as got:
            return bytes(got.read())

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, str]:
        with urllib.request.urlopen(urllib.request.Request(f"{self._url}{path}", body, headers), timeout=20) as got:
            return got.read(), got.headers["Location"]

    async def _pause(self, seconds: float) -> None:
        """So long, or until all callers go."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
