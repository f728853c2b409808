"""The command ``bridge listen``: an observer that shows a running call, its words as text and both sides as sound.

The caller is the left channel, the answer the right one, each at the time at which it was heard.
"""

import argparse
import asyncio
import json
import sys
import wave
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from bridge.client.address import CallFailed, parse_address
from bridge.client.flags import check_out
from bridge.client.lines import open_socket
from bridge.client.operators.players import PlayerProcess, playing
from bridge.client.screen import BOLD, DIM, RED, painter, printable
from bridge.client.where import add_where_flags, key_of, url_of
from bridge.media.stereo import StereoTimeline
from bridge.wire.audio import SESSION_HZ
from bridge.wire.binary import unpack_sound

__all__ = ["LISTEN", "add_listen_flags", "run_listen"]

LISTEN = """\
Listens to a running call as an observer, unnoticed by the caller and the upstream. It prints what is said, if the call
has a transcript. --play plays the sound and --save saves it: the caller on the left, the answer on the right.

It ends with the call, or on Ctrl-C.
"""
_TICK_S = 0.1
_NOT_FOUND = "call_id_not_found"


def add_listen_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``bridge listen``."""
    parser.usage = "bridge listen CALL_ID [URL] [FLAGS]"
    parser.add_argument("call_id", metavar="CALL_ID", help="as `bridge calls` shows it")
    add_where_flags(parser)
    add = parser.add_argument
    add("--play", action="store_true", help="play the sound with pw-cat, paplay, aplay, ffplay or play")
    add(
        "--player",
        metavar="COMMAND",
        help="play it with this program, which gets stereo PCM16 at 24 kHz on standard input",
    )
    add("--save", metavar="FILE", help="WAV file for the sound of both sides")
    add("--events", action="store_true", help="show every event, as JSON")


def run_listen(
    arguments: argparse.Namespace, environ: Mapping[str, str], new_runner: Callable[[], asyncio.Runner]
) -> int:
    """Listens until the call ends, and returns the exit code: 0 if the call could be heard."""
    try:
        check_out(arguments.save)
        listener = _Listener(arguments, url_of(arguments, environ), key_of(arguments, environ))
        with new_runner() as runner:
            runner.run(listener.run())
    except CallFailed as failure:
        sys.stderr.write(f"bridge listen: {printable(failure.message)}\n")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


class _Listener:
    """A listener of one call, for as long as the call runs."""

    def __init__(self, arguments: argparse.Namespace, url: str, api_key: str | None) -> None:
        self._call_id: str = arguments.call_id
        self._url = parse_address(url).listener(self._call_id, role="observer", framing="binary")
        self._api_key = api_key
        self._save: str | None = arguments.save
        self._player: str | None = arguments.player
        self._plays: bool = arguments.play or arguments.player is not None
        self._transcript = _Transcript(shows_all=arguments.events)
        self._timeline = StereoTimeline(SESSION_HZ)
        self._began = 0.0

    async def run(self) -> None:
        """Listens until the call ends, or this task is cancelled. What was heard until then is saved."""
        async with AsyncExitStack() as stack:
            socket = await self._open()
            stack.push_async_callback(socket.close)
            sinks = _Sinks(
                player=await stack.enter_async_context(playing(self._player)) if self._plays else None,
                file=stack.enter_context(_new_wave(self._save)) if self._save else None,
            )
            self._began = self._now()
            try:
                async with asyncio.TaskGroup() as tasks:
                    handing_on = tasks.create_task(self._hand_on(sinks))
                    await self._read(socket)
                    handing_on.cancel()
            finally:
                await self._finish(sinks)

    async def _open(self) -> ClientConnection:
        try:
            return await open_socket(self._url, self._api_key)
        except CallFailed as failure:
            if failure.code != _NOT_FOUND:
                raise
            words = f"No call {self._call_id} is running: `bridge calls` lists running calls."
            raise CallFailed(words, code=failure.code) from None

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for message in socket:
                self._take(message)
        except ConnectionClosed as closed:
            reason = closed.rcvd.reason if closed.rcvd is not None else "the connection broke"
            raise CallFailed(f"This listener was cut off: {reason}.", code="lost") from None

    def _take(self, message: str | bytes) -> None:
        now = self._now() - self._began
        try:
            if isinstance(message, str):
                event = json.loads(message)
                if event["type"] == "output_audio_buffer.cleared":
                    self._timeline.cut(now)
                self._transcript.show_event(event, now)
            else:
                sound = unpack_sound(message)
                lay = self._timeline.add_caller_sound if sound.track == "input" else self._timeline.add_answer_sound
                lay(sound.sound, sound.timestamp, now)
        except (ValueError, KeyError, TypeError):
            pass  # a newer bridge may send events that are not known here

    async def _hand_on(self, sinks: "_Sinks") -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            await sinks.write(*self._timeline.take_final(self._now() - self._began))

    async def _finish(self, sinks: "_Sinks") -> None:
        for sides in self._timeline.finish(self._now() - self._began):
            await sinks.write(*sides)
        if sinks.player is not None and sinks.player.is_gone:
            sys.stderr.write(f"bridge listen: {sinks.player.name} ended, or accepted no more sound.\n")
        if self._save and sinks.seconds:
            sys.stdout.write(
                f"{sinks.seconds:.1f} s saved as {self._save}: the caller on the left, the answer on the right.\n"
            )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class _Sinks:
    """Everything that the sound goes to."""

    def __init__(self, *, player: PlayerProcess | None, file: wave.Wave_write | None) -> None:
        self.player = player
        self.seconds = 0.0
        self._file = file

    async def write(self, left: bytes, right: bytes) -> None:
        """Writes both sides of the same time."""
        if not left:
            return
        stereo = np.stack([np.frombuffer(side, "<i2") for side in (left, right)], axis=1).tobytes()
        self.seconds += len(left) / 2 / SESSION_HZ
        if self._file is not None:
            try:
                self._file.writeframesraw(stereo)
            except OSError as error:
                raise CallFailed(f"The sound can no longer be saved: {error.strerror}.") from None
        if self.player is not None:
            await self.player.write(stereo)


def _new_wave(path: str) -> wave.Wave_write:
    try:
        file = wave.open(path, "wb")
    except OSError as error:
        raise CallFailed(f"{path} cannot be written: {error.strerror}.") from None
    file.setparams((2, 2, SESSION_HZ, 0, "NONE", ""))
    file.writeframes(b"")
    return file


class _Transcript:
    """Shows what is said, with a line for each turn."""

    def __init__(self, *, shows_all: bool) -> None:
        self._shows_all = shows_all
        self._paint = painter(sys.stdout)

    def show_event(self, event: dict[str, Any], now: float) -> None:
        """Shows an event that says something."""
        if self._shows_all:
            self._line(now, "event", json.dumps(event, ensure_ascii=False))
            return
        match event:
            case {"type": "session.created", "session": {"audio": {"input": {"transcription": None}}}}:
                self._line(now, "note", "the caller's words are not shown: this session has no transcription", DIM)
            case {"type": "conversation.item.input_audio_transcription.completed", "transcript": str(words)}:
                self._line(now, "caller", f'"{words.strip()}"', BOLD)
            case {"type": "response.output_audio_transcript.done", "transcript": str(words)}:
                self._line(now, "answer", f'"{words.strip()}"', BOLD)
            case {"type": "response.output_text.done", "text": str(words)}:
                self._line(now, "answer", f'"{words.strip()}" (text)', BOLD)
            case {"type": "response.function_call_arguments.done", "arguments": str(words)}:
                self._line(now, "answer", f"{event.get('name') or 'a function'}({words})")
            case {"type": "input_audio_buffer.dtmf_event_received", "event": str(key)}:
                self._line(now, "caller", f"presses {key}")
            case {"type": "input_audio_buffer.speech_started"}:
                self._line(now, "caller", "speaks", DIM)
            case {"type": "output_audio_buffer.started"}:
                self._line(now, "answer", "is heard", DIM)
            case {"type": "output_audio_buffer.cleared"}:
                self._line(now, "answer", "is interrupted", DIM)
            case {"type": "bridge.call.lost", "seconds": seconds}:
                self._line(now, "call", f"the caller's connection broke; {seconds:g} s to come back", RED)
            case {"type": "bridge.call.resumed"}:
                self._line(now, "call", "the caller is back")
            case {"type": "bridge.listener.dropped", "audio_ms": ms}:
                self._line(now, "note", f"this listener was too slow: {ms} ms of sound are missing", RED)
            case {"type": "bridge.call.closed", "result": result, "reason": reason}:
                self._line(now, "call", f"over: {result}, {reason}", BOLD)
            case {"type": "error", "error": {"message": str(words)}}:
                self._line(now, "error", words, RED)

    def _line(self, now: float, who: str, words: str, style: str = "") -> None:
        sys.stdout.write(f"{self._paint(DIM, f'{now:8.2f}')} {who:<6} {self._paint(style, printable(words))}\n")
        sys.stdout.flush()
