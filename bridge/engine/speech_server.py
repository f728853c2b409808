"""Ears and a voice behind URLs: servers of OpenAI's ``/audio/transcriptions`` and ``/audio/speech``, each on its own.

A request that brings nothing is tried again, as an upstream is.
"""

import asyncio
import io
import re
import wave
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import msgspec
from structlog.typing import FilteringBoundLogger

from bridge.engine.hearing import HeardTurn, StreamedTurn
from bridge.engine.lines import Lines
from bridge.engine.pieces import Pieces
from bridge.errors import BridgeError, OverLimit, UpstreamError
from bridge.log import get_logger
from bridge.outgoing import HTTPError, new_client, refusal, tried_again
from bridge.wire.audio import SESSION_HZ

__all__ = ["HearingServer", "VoiceServer"]

_log = get_logger("engine")

_MAX_REQUESTS = 200  # of all sessions together
_MAX_SPEECH_BYTES = 2 * SESSION_HZ * 300  # of one sentence: five minutes are no sentence
_MAX_TEXT_BYTES = 1024 * 1024  # of a whole transcript, as JSON or as a stream
_MAX_REFUSAL_BYTES = 64 * 1024
_HEAD_BYTES = 64  # they say whether it is a stream
_STREAM = re.compile(r"\bstream\b")
_RIFF = b"RIFF"
_PROTOCOL = "upstream_protocol"
_TITLES = {"hearing": "speech recognition", "voice": "speech synthesis"}


class _Server:
    """The common part of both; ``async with`` owns the connections and the requests."""

    def __init__(self, what: str, url: str, *, key: str | None, timeout_s: float, tries: int, longest_s: float) -> None:
        self._what = what
        self._url = url
        self._tries = tries
        self._longest_s = max(longest_s, timeout_s)
        self._client = new_client(timeout_s, {} if key is None else {"Authorization": f"Bearer {key}"})
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.__aexit__(None, None, None)
        await self._client.__aexit__(kind, error, trace)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _require_room(self) -> None:
        if len(self._running) >= _MAX_REQUESTS:
            raise OverLimit(f"The engine is busy: {_MAX_REQUESTS} requests are waiting for {_TITLES[self._what]}.")

    @asynccontextmanager
    async def _limit(self) -> AsyncIterator[None]:
        """Raises ``UpstreamError`` in place of what goes on for too long, however often a piece of it comes."""
        try:
            async with asyncio.timeout(self._longest_s):
                yield
        except TimeoutError:
            message = f"The {_TITLES[self._what]} server is taking too long."
            raise UpstreamError(message, code="upstream_timeout", is_transient=False) from None

    def _answer(self, log: FilteringBoundLogger, **request: Any) -> AsyncIterator[bytes]:
        """The body of the answer, piece by piece; raises ``UpstreamError``."""

        def told(error: UpstreamError, delay_s: float) -> None:
            log.info("engine.speech_retry", what=self._what, code=error.code, message=error.message,
                     in_s=round(delay_s, 2))  # fmt: skip

        return tried_again(lambda: self._request(request), self._tries, told)

    async def _request(self, request: dict[str, Any]) -> AsyncIterator[bytes]:
        try:
            async with self._client.stream("POST", self._url, **request) as response:
                if response.status_code != 200:
                    body = b""
                    async for piece in response.aiter_bytes():
                        body += piece
                        if len(body) > _MAX_REFUSAL_BYTES:  # its beginning says why, if anything does
                            break
                    raise refusal(response.status_code, body, response.headers.get("Retry-After"))
                async for piece in response.aiter_bytes():
                    yield piece
        except HTTPError as error:
            reason = str(error) or type(error).__name__
            message = f"The {_TITLES[self._what]} server cannot be reached: {reason}"
            raise UpstreamError(message, code=f"{self._what}_unreachable") from error


class VoiceServer(_Server):
    """A ``Voice``: ``/audio/speech``, whose PCM is played as it comes."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str = "tts-1",
        voice: str | None = None,
        timeout_s: float = 30.0,
        tries: int = 3,
        longest_s: float = 600.0,
    ) -> None:
        """If ``voice`` is set, it is used whatever a session asks for.

        Each step of an answer may take ``timeout_s``, and the whole ``longest_s``, if that is longer.
        """
        super().__init__(
            "voice",
            f"{url.rstrip('/')}/audio/speech",
            key=key,
            timeout_s=timeout_s,
            tries=tries,
            longest_s=longest_s,
        )
        self._model = model
        self._voice = voice

    def can_speak(self, text: str) -> bool:
        """Always True, because only the server knows what it cannot speak."""
        return bool(text.strip())

    def speak_sentence(self, sentence: str, *, speed: float, voice: object, log: FilteringBoundLogger) -> Pieces[bytes]:
        """Speaks one sentence; raises ``OverLimit`` if too many wait."""
        self._require_room()
        sound: Pieces[bytes] = Pieces()
        named = voice.get("id") if isinstance(voice, dict) else voice
        chosen = self._voice or (named if isinstance(named, str) and named else "alloy")
        body: dict[str, Any] = {"model": self._model, "input": sentence, "voice": chosen, "response_format": "pcm"}
        if speed != 1.0:
            body["speed"] = speed
        sound.task = self._spawn(self._speak(sound, body, log))
        return sound

    async def voices(self) -> list[str]:
        """The names of the server's voices, by ``/audio/voices``; empty if it does not list them."""
        try:
            response = await self._client.get(f"{self._url.removesuffix('/speech')}/voices")
            listed = msgspec.json.decode(response.content) if response.status_code == 200 else None
        except (HTTPError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []
        if isinstance(listed, dict):
            listed = listed.get("voices", listed.get("data"))
        names = [
            one.get("id") or one.get("name") if isinstance(one, dict) else one
            for one in (listed if isinstance(listed, list) else [])
        ]
        return [name for name in names if isinstance(name, str) and name]

    async def _speak(self, sound: Pieces[bytes], body: dict[str, Any], log: FilteringBoundLogger) -> None:
        rest, total = b"", 0
        try:
            async with self._limit():
                async for piece in self._answer(log, json=body):
                    if not total and piece.startswith(_RIFF):
                        raise UpstreamError(
                            "The speech synthesis server sent a WAV file instead of PCM.", code=_PROTOCOL
                        )
                    total += len(piece)
                    if total > _MAX_SPEECH_BYTES:
                        raise UpstreamError("The speech synthesis server sent too much sound.", code=_PROTOCOL)
                    piece = rest + piece
                    whole = len(piece) // 2 * 2  # a sample is cut wherever a packet ends
                    sound.put(piece[:whole])
                    rest = piece[whole:]
        except BridgeError as error:
            sound.end(error)
        except Exception as error:
            log.error("engine.answer_failed", exc_info=error)
            sound.end(UpstreamError("The engine failed to speak."))
        else:
            sound.end()


class HearingServer(_Server):
    """``Ears``: ``/audio/transcriptions``, to which each stretch of speech goes as a WAV file."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str = "whisper-1",
        timeout_s: float = 30.0,
        tries: int = 3,
        longest_s: float = 300.0,
    ) -> None:
        """Each step of an answer may take ``timeout_s``, and the whole ``longest_s``, if that is longer."""
        super().__init__(
            "hearing",
            f"{url.rstrip('/')}/audio/transcriptions",
            key=key,
            timeout_s=timeout_s,
            tries=tries,
            longest_s=longest_s,
        )
        self._model = model
        self._streams = True
        """Whether the server is asked for a stream; one that refuses it is not asked again."""

    def listen(self, pcm: bytes, *, language: str | None = None) -> "asyncio.Future[HeardTurn]":
        """Recognises the words in one stretch of PCM16 24 kHz mono; raises ``OverLimit`` if too many wait."""
        self._require_room()
        heard = StreamedTurn()
        task = self._spawn(self._listen(heard, pcm, language))
        heard.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        return heard

    def begin_recognition(self, *, language: str | None = None) -> None:
        """Returns None, because a request takes a whole stretch."""
        return

    async def _listen(self, heard: StreamedTurn, pcm: bytes, language: str | None) -> None:
        try:
            async with self._limit():
                words = await self._words(pcm, language, heard.say)
            if not heard.done():
                heard.set_result(HeardTurn(words, is_speech=bool(words)))
        except Exception as error:
            if not heard.done():
                heard.set_exception(error)
        finally:
            heard.cancel()

    async def _words(self, pcm: bytes, language: str | None, say: Callable[[str], None]) -> str:
        fields = {"model": self._model, "response_format": "json"} | ({"language": language} if language else {})
        if not self._streams:
            return await self._transcript(pcm, fields, say)
        try:
            return await self._transcript(pcm, {**fields, "stream": "true"}, say)
        except UpstreamError as error:
            if _STREAM.search(error.message) is None:
                raise
            self._streams = False
        return await self._transcript(pcm, fields, say)

    async def _transcript(self, pcm: bytes, fields: dict[str, str], say: Callable[[str], None]) -> str:
        body, lines, deltas, done = bytearray(), Lines(), list[str](), None
        is_stream = False
        async for piece in self._answer(_log, data=fields, files={"file": ("speech.wav", _wav(pcm), "audio/wav")}):
            body += piece
            if len(body) > _MAX_TEXT_BYTES:
                raise UpstreamError("The transcript is too long.", code=_PROTOCOL)
            if not is_stream:
                is_stream = bytes(body[:_HEAD_BYTES]).lstrip().startswith((b"data:", b"event"))
                if not is_stream:
                    continue
                piece = bytes(body)
            for line in lines.add(piece):
                event = _event(line)
                if event.get("type") == "transcript.text.delta":
                    deltas.append(str(event.get("delta", "")))
                    say(deltas[-1])
                elif event.get("type") == "transcript.text.done":
                    done = str(event.get("text", "".join(deltas)))
        if is_stream:
            if done is None:
                raise UpstreamError(
                    "The speech recognition server stopped in the middle of its answer.", code="hearing_broke_off"
                )
            return done.strip()
        text = _decoded(bytes(body)).get("text")
        if not isinstance(text, str):
            raise _no_transcript()
        return text.strip()


def _event(line: bytes) -> dict[str, Any]:
    """The server-sent event in a line; empty if the line has none. Raises ``UpstreamError`` if it is an error."""
    name, _, value = line.strip().partition(b":")
    if name != b"data" or value.strip() == b"[DONE]":
        return {}
    event = _decoded(value)
    error = event.get("error")
    if error:
        detail = error if isinstance(error, dict) else {"message": str(error)}
        raise UpstreamError(
            str(detail.get("message") or "The speech recognition server failed."),
            code=str(detail.get("code") or "hearing_failed"),
            is_transient=False,
        )
    return event


def _decoded(text: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _no_transcript() from None
    if not isinstance(decoded, dict):
        raise _no_transcript()
    return decoded


def _no_transcript() -> UpstreamError:
    return UpstreamError("The speech recognition server sent no transcript.", code=_PROTOCOL)


def _wav(pcm: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SESSION_HZ)
        writer.writeframes(pcm)
    return file.getvalue()
