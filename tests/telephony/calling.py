"""Somebody on a telephone: what they say goes in as they speak, what they hear is kept with its time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from msgspec import to_builtins

from bridge.calls.keys import Grant, KeyPurpose
from bridge.client.carriers.contract import silence_of
from bridge.client.carriers.dialling import Dialling
from bridge.client.phone import Phone, dial
from bridge.daemon import Daemon
from bridge.session.session import Session
from bridge.wire.audio import AudioFormat
from bridge.wire.ids import new_id
from tests.end_to_end.sound import Samples, decode, encode, resample, samples_of, stretched_likeness
from tests.end_to_end.web import request
from tests.machine import scaled
from tests.telephony.rows import ROWS, SETTINGS

_FRAME_S = 0.02
_LIMIT_S = scaled(15.0)


def dialling(daemon: Daemon, carrier: str, **choices: Any) -> Dialling:
    """What opens that endpoint of the daemon: its secret, or else a telephone's key that is good once."""
    secret = ROWS[carrier].secret or new_token(daemon, choices.get("call"))
    port = daemon.telephony.ports.get(carrier)
    url = daemon.url if port is None else f"127.0.0.1:{port}"
    return Dialling(
        **{"carrier": carrier, "url": url, "secret": secret, "public_url": SETTINGS["public_url"], **choices}
    )


def new_token(daemon: Daemon, call: str | None = None) -> str:
    """A telephone's key, as ``POST /v1/realtime/client_secrets`` mints it, for one call: this one, if it is named."""
    grant = Grant(key_id=new_id("key"), purpose=KeyPurpose.TELEPHONE, is_single_use=True, carrier_call_id=call)
    minting = daemon.telephony.calls._keys.mint(grant, ttl_s=60)
    try:
        minting.send(None)
    except StopIteration as minted:  # keys of the process itself are made without a wait
        return str(minted.value)
    raise AssertionError("a daemon's own keys are waited for")


def to_telephone(pcm: bytes, audio_format: AudioFormat) -> bytes:
    """PCM16 24 kHz as the carrier has it."""
    if audio_format.bytes_per_sample == 1:
        return encode(pcm, audio_format.name)
    return resample(samples_of(pcm), 24_000, audio_format.rate_hz).round().clip(-32768, 32767).astype("<i2").tobytes()


def from_telephone(sound: bytes, audio_format: AudioFormat) -> Samples:
    """As numbers, at the carrier's rate."""
    return decode(sound, audio_format.name) if audio_format.bytes_per_sample == 1 else samples_of(sound)


class Caller:
    """On a phone; ``say`` what is to be said."""

    def __init__(self, phone: Phone) -> None:
        self.phone = phone
        self.audio_format = phone.carrier.audio_format
        self.answer_format = phone.carrier.answer_format
        self.said = bytearray()
        """All that went in, silence included."""
        self.frames: list[tuple[float, bytes]] = []
        """All that was heard."""
        self.delays_s: list[float] = []
        """How late this process was at each of these frames. The bridge runs in it too, and was as late."""
        self._to_say = bytearray()
        self._silence = silence_of(self.audio_format)
        self._silent = silence_of(self.answer_format)
        self._news = asyncio.Event()

    async def live(self) -> None:
        """Until the call ends."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self.phone.ended.is_set():
            due += _FRAME_S
            await asyncio.sleep(due - loop.time())
            self.delays_s.append(loop.time() - due)
            frame = bytes(self._to_say[: len(self._silence)])
            del self._to_say[: len(frame)]
            frame += self._silence[len(frame) :]
            self.said += frame
            self.frames.append((loop.time(), await self.phone.tick(frame)))
            self._news.set()
        self._news.set()

    def say(self, pcm: bytes) -> None:
        """PCM16 24 kHz, from the next frame on."""
        self._to_say += to_telephone(pcm, self.audio_format)

    @property
    def is_speaking(self) -> bool:
        """There is more to say."""
        return bool(self._to_say)

    @property
    def sounding(self) -> list[tuple[float, bytes]]:
        """What was heard and was not the line's own silence."""
        return [(at, frame) for at, frame in self.frames if frame != self._silent]

    @property
    def heard(self) -> Samples:
        """All of it as numbers."""
        return from_telephone(b"".join(frame for _, frame in self.frames), self.answer_format)

    def likeness(self, pcm: bytes) -> float:
        """How alike what came is to PCM16 at 24 kHz, whatever the pauses between the frames.

        A caller without a buffer hears silence wherever the machine has not given the bridge its turn in time.
        """
        came = from_telephone(b"".join(frame for _, frame in self.sounding), self.answer_format)
        return stretched_likeness(resample(came, self.answer_format.rate_hz, 24_000), samples_of(pcm))

    async def wait(self, is_so: Callable[[], bool], what: str) -> None:
        """Returns as soon as ``is_so``; asked again at every frame, and for the last time when the call ends."""
        phone = self.phone
        try:
            async with asyncio.timeout(_LIMIT_S):
                while not is_so():
                    assert not phone.ended.is_set(), f"no {what}: the call is over ({phone.carrier.complaints})"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {what} within {_LIMIT_S:g} s") from None

    async def hear_answer(self) -> None:
        """Until something was heard and half a second of nothing."""
        quiet = [self._silent] * 25
        await self.wait(lambda: bool(self.sounding), "sound")
        await self.wait(lambda: [frame for _, frame in self.frames[-25:]] == quiet, "end of the answer")


@asynccontextmanager
async def calling(where: Dialling) -> AsyncIterator[Caller]:
    """A caller, connected, and hung up at the end."""
    async with dial(where) as phone, asyncio.TaskGroup() as tasks:
        caller = Caller(phone)
        living = tasks.create_task(caller.live())
        try:
            yield caller
        finally:
            living.cancel()


async def session_of(daemon: Daemon, caller: Caller, number: int = 1) -> Session:
    """The one session of the daemon, as soon as it is there."""
    await caller.wait(lambda: len(daemon.registry.sessions) >= number, "session")
    return daemon.registry.sessions[-1]


async def until(daemon: Daemon, is_so: Callable[[], bool], what: str) -> None:
    """Returns as soon as ``is_so``; the daemon is asked meanwhile, so that time passes for it."""
    try:
        async with asyncio.timeout(_LIMIT_S):
            while not is_so():
                await request("GET", f"{daemon.url}healthz")
    except TimeoutError:
        raise AssertionError(f"no {what} within {_LIMIT_S:g} s") from None


async def opened(daemon: Daemon) -> Session:
    """The daemon's one session, as soon as it is there."""
    await until(daemon, lambda: bool(daemon.registry.sessions), "session")
    return daemon.registry.sessions[-1]


async def gone(daemon: Daemon) -> None:
    """Returns when the daemon has no session any more."""
    await until(daemon, lambda: not daemon.registry.sessions, "end of the session")


def figures(session: Session) -> Any:
    """Of the session's leg."""
    return to_builtins(session.stats())["peer"]
