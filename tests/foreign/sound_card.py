"""A sound card for programs that need one: PulseAudio, its microphone fed by the test, its loudspeaker recorded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.end_to_end.sound import Samples, samples_of
from tests.machine import scaled
from tests.processes import clean_environ, ran, started

__all__ = ["SoundCard"]

_LIMIT_S = scaled(10.0)
_RATE_HZ = 24_000
_RAW = ("--raw", f"--rate={_RATE_HZ}", "--channels=1", "--format=s16le")
_CARD = (
    "load-module module-native-protocol-unix socket={socket} auth-anonymous=1\n"
    "load-module module-null-sink sink_name=mouth rate=48000 channels=1\n"
    "load-module module-null-sink sink_name=ear rate=48000 channels=1\n"
    "set-default-sink ear\n"
    "set-default-source mouth.monitor\n"
)


class SoundCard:
    """``environ`` leads a program to it: the microphone is its default source, the loudspeaker its default sink."""

    def __init__(self, folder: Path) -> None:
        socket = folder / "pulse.socket"
        self.environ = {"PULSE_SERVER": f"unix:{socket}", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        self._recording = folder / "heard.pcm"
        self._script = folder / "card.pa"
        self._script.write_text(_CARD.format(socket=socket))

    @classmethod
    @asynccontextmanager
    async def plugged_in(cls, folder: Path) -> AsyncIterator["SoundCard"]:
        """Its files are in ``folder``; what the loudspeaker plays is recorded from the beginning."""
        card = cls(folder)
        environ = clean_environ(**card.environ)
        server = (
            "pulseaudio",
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--resample-method=speex-float-5",
            f"--file={card._script}",
        )
        async with started(*server, environ=environ, stdout=None, stderr=asyncio.subprocess.DEVNULL):
            async with asyncio.timeout(_LIMIT_S):
                while (await ran("pactl", "info", environ=environ))[0]:
                    pass
            with card._recording.open("wb") as heard:
                recorder = ("parec", "--device=ear.monitor", "--latency-msec=200", *_RAW)
                async with started(*recorder, environ=environ, stdout=heard, stderr=None):
                    yield card

    async def speak(self, pcm: bytes) -> None:
        """Plays PCM16 24 kHz mono into the microphone, in real time."""
        command = ("pacat", "--playback", "--device=mouth", "--latency-msec=500", *_RAW)
        async with started(*command, environ=clean_environ(**self.environ), stdin=asyncio.subprocess.PIPE) as player:
            async with asyncio.timeout(_LIMIT_S):
                _, complaint = await player.communicate(pcm)
        assert player.returncode == 0, complaint.decode()

    @property
    def heard(self) -> Samples:
        """What the loudspeaker has played until now, at 24 kHz."""
        sound = self._recording.read_bytes()
        return samples_of(sound[: len(sound) // 2 * 2])
