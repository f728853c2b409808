"""One telephone call to the bridge: it says something, waits for the answer, and knows how it went.

Over a telephone line there are no events. The answer is the sound after the last word, and it is over if nothing has
been heard for a while.
"""

import asyncio
from dataclasses import dataclass, field

from bridge.client.address import CallFailed
from bridge.client.call import Summary, Watcher
from bridge.client.carriers.contract import FRAME_MS, silence_of
from bridge.client.carriers.dialling import Dialling
from bridge.client.phone import Phone, dial
from bridge.client.sound import BYTES_PER_MS, is_silent, sounding_end
from bridge.media.convert import SoundDecoder, SoundEncoder

__all__ = ["PhoneCall", "PhonePlan"]

_PATIENCE_S = 30.0
_SILENCE_S = 1.5
_KEY_EVERY_TICKS = 10


@dataclass(frozen=True, slots=True)
class PhonePlan:
    """What a telephone call is to do."""

    dialling: Dialling
    pcm: bytes = field(default=b"", repr=False)
    """The sound that is spoken, PCM16 24 kHz mono."""
    keys: str = ""
    """The keys that are pressed at the beginning."""
    timeout_s: float | None = None

    @property
    def sound_s(self) -> float:
        """How long it takes to speak the sound, in seconds."""
        return len(self.pcm) / BYTES_PER_MS / 1000


class PhoneCall:
    """One telephone call. ``run`` makes it, once.

    The sound is in ``answer``. ``summary`` is there also after a failure.
    """

    def __init__(self, plan: PhonePlan, watcher: Watcher | None = None) -> None:
        self.plan = plan
        self.answer = b""
        """The answer as PCM16 24 kHz mono, without the silence around it."""
        self._watcher = watcher
        self._phone: Phone | None = None
        self._heard = bytearray()
        self._connect_ms: int | None = None
        self._first_audio_ms: int | None = None
        self._spoken_s = 0.0
        self._failure = ""
        self._began = 0.0

    async def run(self) -> Summary:
        """Makes the call, from the first request to the end of the answer; raises ``CallFailed`` if there is none."""
        self._began = self._now()
        limit_s = self.plan.timeout_s
        if limit_s is None:
            limit_s = self.plan.sound_s + _PATIENCE_S
        try:
            async with asyncio.timeout(limit_s):
                await self._make()
        except CallFailed as failure:
            self._failure = failure.message
        except TimeoutError:
            self._failure = f"There was no complete answer within {limit_s:g} s."
        if self._failure:
            raise CallFailed(self._failure)
        return self.summary()

    def summary(self) -> Summary:
        """Returns how the call went, as far as it went."""
        phone = self._phone
        return Summary(
            result="answered" if self.answer and not self._failure else "failed",
            transport=self.plan.dialling.carrier,
            call_id=None,
            connect_ms=self._connect_ms,
            first_audio_ms=self._first_audio_ms,
            spoken_s=round(self._spoken_s, 2),
            answer_s=round(len(self.answer) / BYTES_PER_MS / 1000, 2),
            text="",
            function_calls=[],
            events=phone.messages if phone is not None else 0,
            packets=None,
            lost=phone.carrier.late_frames if phone is not None else None,
            jitter_ms=None,
            sent=None,
            listener=None,
            error=self._failure or "; ".join(phone.carrier.complaints[:3] if phone is not None else ()) or None,
        )

    async def _make(self) -> None:
        async with dial(self.plan.dialling) as self._phone:
            self._connect_ms = round(1000 * (self._now() - self._began))
            self._note(f"connected as {self.plan.dialling.carrier}")
            await self._talk(self._phone)
        if not self.answer:
            self._failure = "The bridge hung up." if self._phone.ended.is_set() else "Nothing was heard."

    async def _talk(self, phone: Phone) -> None:
        """Plays the sound in real time, and then silence, until the answer has been heard."""
        audio_format = phone.carrier.audio_format
        end = sounding_end(self.plan.pcm)
        encoder, decoder = SoundEncoder(audio_format), SoundDecoder(phone.carrier.answer_format)
        spoken = encoder.push(self.plan.pcm[:end]) + encoder.flush()
        silence = silence_of(audio_format)
        keys = list(self.plan.keys)
        due = spoken_at = loud_at = self._now()
        start: int | None = None
        for tick in range(1_000_000):
            due += FRAME_MS / 1000
            await asyncio.sleep(due - self._now())
            if keys and tick % _KEY_EVERY_TICKS == 0:
                await phone.press(keys.pop(0))
            at = tick * len(silence)
            frame = spoken[at : at + len(silence)]
            heard = decoder.push(await phone.tick(frame + silence[len(frame) :]))
            self._heard += heard
            if frame:
                spoken_at = self._now()
                self._progress(audio_format.ms_of(min(at + len(silence), len(spoken))) / 1000)
            else:
                self._spoken_s = self.plan.sound_s
                if not is_silent(heard):
                    loud_at = self._now()
                    if start is None:
                        start = len(self._heard) - len(heard)
                        self._first_audio_ms = round(1000 * (loud_at - spoken_at))
            if phone.ended.is_set() or (start is not None and self._now() - loud_at > _SILENCE_S):
                break
        if start is not None:
            sound = bytes(self._heard[start:])
            self.answer = sound[: sounding_end(sound)]

    def _progress(self, spoken_s: float) -> None:
        self._spoken_s = spoken_s
        if self._watcher is not None:
            self._watcher.progress("speaking", spoken_s, self.plan.sound_s)

    def _note(self, text: str) -> None:
        if self._watcher is not None:
            self._watcher.note(self._now() - self._began, text)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
