"""Ears behind a Realtime service's transcription sessions, over WebSocket: this bridge, OpenAI, Speaches.

A connection hears one stretch of speech at a time, and is kept for the next one; a few of them wait ready.
Sound goes out while it is spoken. If the connection breaks meanwhile, all of the stretch goes out again at its end.
"""

import asyncio
from binascii import b2a_base64
from typing import Any, cast
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.protocol import State

from bridge.engine.hearing import HeardTurn, OpenStretch
from bridge.errors import OverLimit, UpstreamError
from bridge.names import until_answered
from bridge.outgoing import TLS, refusal
from bridge.outgoing_sockets import WebSocketConnect, close_in_time, send_in_time
from bridge.sliced import SlicedConnection
from bridge.wire.audio import SESSION_HZ

__all__ = ["RealtimeHearing"]


_MAX_REQUESTS = 200  # of all sessions together
_MAX_OPEN = 200  # stretches that are still spoken; each has a connection, and what comes on top is sent at its end
_MAX_IDLE = 8
_MAX_MESSAGE_BYTES = 1024 * 1024
_MAX_EVENTS = 10_000  # for one stretch of speech
_MAX_WORDS_CHARS = 100_000  # in the pieces of one stretch
_CLOSE_S = 1.0
_PIECE_BYTES = 2 * SESSION_HZ  # one second an event
_TRANSCRIPTION = "conversation.item.input_audio_transcription."
_PROTOCOL = "upstream_protocol"

Body = dict[str, Any]


class RealtimeHearing:
    """``Ears``; ``async with`` owns the connections and the requests."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str = "whisper-1",
        timeout_s: float = 30.0,
        tries: int = 2,
        longest_s: float = 300.0,
    ) -> None:
        """Each event of the service may take ``timeout_s``, and a recognition ``longest_s``, if that is longer.

        A connection that has broken meanwhile is replaced.
        """
        parts = urlsplit(url)
        query = parts.query if "intent=" in parts.query else "&".join(
            filter(None, (parts.query, urlencode({"intent": "transcription"})))
        )  # fmt: skip
        self._url = urlunsplit(parts._replace(query=query))
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "wss" else 80)
        self._is_secure = parts.scheme == "wss"
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._model = model
        self._timeout_s = timeout_s
        self._longest_s = max(longest_s, timeout_s)
        self._tries = tries
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.Future[HeardTurn]] = set()
        self._idle: list[tuple[SlicedConnection, str | None]] = []

    async def __aenter__(self) -> "RealtimeHearing":
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._tasks.__aexit__(None, None, None)
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            await _close(connection)

    def listen(self, pcm: bytes, *, language: str | None = None) -> "asyncio.Future[HeardTurn]":
        """Recognises the words in one stretch of PCM16 24 kHz mono; raises ``OverLimit`` if too many wait."""
        if len(self._running) - len(self._open) >= _MAX_REQUESTS:
            raise OverLimit(f"The engine is busy: {_MAX_REQUESTS} requests are waiting for speech recognition.")
        heard = OpenStretch()
        heard.push(pcm)
        heard.end()
        self._spawn(heard, language)
        return heard

    def begin_recognition(self, *, language: str | None = None) -> OpenStretch | None:
        """Begins to recognise a stretch while it is spoken; None if too many are."""
        if len(self._open) >= _MAX_OPEN:
            return None
        heard = OpenStretch()
        self._open.add(heard)
        heard.add_done_callback(self._open.discard)
        self._spawn(heard, language)
        return heard

    def _spawn(self, heard: OpenStretch, language: str | None) -> None:
        task = self._tasks.create_task(self._listen(heard, language))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        heard.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)

    async def _listen(self, heard: OpenStretch, language: str | None) -> None:
        try:
            async with asyncio.timeout(None) as limit:
                heard.when_ended(lambda: limit.reschedule(asyncio.get_running_loop().time() + self._longest_s))
                words = await self._tried(heard, language)
            if not heard.done():
                heard.set_result(HeardTurn(words, is_speech=bool(words)))
        except TimeoutError:
            message = "The speech recognition server is taking too long."
            if not heard.done():
                heard.set_exception(UpstreamError(message, code="upstream_timeout"))
        except Exception as error:
            if not heard.done():
                heard.set_exception(error)
        finally:
            heard.cancel()

    async def _tried(self, heard: OpenStretch, language: str | None) -> str:
        tries = 0
        while True:
            is_last = heard.has_ended and tries + 1 >= self._tries
            try:
                return await self._words(heard, language, is_fresh=is_last)
            except UpstreamError as error:
                if heard.has_ended:
                    tries += 1
                    if tries >= self._tries or not error.is_transient:
                        raise
                else:
                    heard.on_break(error)
                    while not heard.has_ended:
                        await heard.more()
            heard.start_again()

    async def _words(self, heard: OpenStretch, language: str | None, *, is_fresh: bool) -> str:
        connection: SlicedConnection | None = None
        try:
            connection, known = await self._connected(is_fresh=is_fresh)
            if known != (language or ""):
                await self._send(connection, msgspec.json.encode(self._update(language)).decode())
            words = await self._exchange(connection, heard)
        except (OSError, TimeoutError, WebSocketException) as error:
            if connection is not None:
                await _close(connection)
            if isinstance(error, InvalidStatus):
                response = error.response
                raise refusal(
                    response.status_code, bytes(response.body or b""), response.headers.get("Retry-After")
                ) from None
            reason = str(error) or type(error).__name__
            message = f"The speech recognition server cannot be reached: {reason}"
            raise UpstreamError(
                message, code="hearing_unreachable", is_transient=not isinstance(error, InvalidHandshake)
            ) from None
        except BaseException:
            if connection is not None:  # whatever still comes on it belongs to this stretch
                await _close(connection)
            raise
        if len(self._idle) < _MAX_IDLE:
            self._idle.append((connection, language or ""))
        else:
            await _close(connection)
        return words

    async def _send(self, connection: SlicedConnection, text: str) -> None:
        await send_in_time(connection, text, self._timeout_s)

    async def _connected(self, *, is_fresh: bool) -> tuple[SlicedConnection, str | None]:
        """A connection, and the language that it is set to; None if it is set to nothing yet."""
        while self._idle and not is_fresh:
            connection, language = self._idle.pop()
            if connection.state is State.OPEN:
                return connection, language
        await until_answered(self._host, self._port, self._timeout_s)
        opened = await WebSocketConnect(
            self._url,
            create_connection=SlicedConnection,
            additional_headers=self._headers,
            open_timeout=self._timeout_s,
            close_timeout=_CLOSE_S,
            max_size=_MAX_MESSAGE_BYTES,
            compression=None,
            ssl=TLS if self._is_secure else None,
        )
        return cast(SlicedConnection, opened), None

    def _update(self, language: str | None) -> Body:
        transcription = {"model": self._model} | ({"language": language} if language else {})
        sound = {
            "format": {"type": "audio/pcm", "rate": SESSION_HZ},
            "transcription": transcription,
            "turn_detection": None,
        }
        return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": sound}}}

    async def _exchange(self, connection: SlicedConnection, heard: OpenStretch) -> str:
        """Sends the sound as it comes, and meanwhile takes the words as they come."""
        async with asyncio.timeout(None) as limit:  # until all is sent, nothing has to come
            sending = self._tasks.create_task(self._send_all(connection, heard, limit))
            try:
                words = await self._transcript(connection, heard, limit)
                await sending
                return words
            finally:
                connection.work.end()
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _send_all(self, connection: SlicedConnection, heard: OpenStretch, limit: asyncio.Timeout) -> None:
        sent = 0
        try:
            while sent < len(heard.sound) or not heard.has_ended:
                if sent == len(heard.sound):
                    await heard.more()
                    continue
                audio = b2a_base64(heard.sound[sent : sent + _PIECE_BYTES], newline=False).decode()
                sent = min(sent + _PIECE_BYTES, len(heard.sound))
                await self._send(connection, f'{{"type":"input_audio_buffer.append","audio":"{audio}"}}')
            self._open.discard(heard)
            await self._send(connection, '{"type":"input_audio_buffer.commit"}')
        except (OSError, TimeoutError, WebSocketException):
            return  # the connection is over, and whoever waits for words on it is told so
        finally:
            limit.reschedule(self._deadline())

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s

    async def _transcript(self, connection: SlicedConnection, heard: OpenStretch, limit: asyncio.Timeout) -> str:
        chars = 0
        for _ in range(_MAX_EVENTS):
            await connection.work.rest()  # a service that says very much waits for its turn
            text = await connection.recv()
            connection.work.begin()
            event = _decoded(text)
            if limit.when() is not None:
                limit.reschedule(self._deadline())
            kind = event.get("type")
            if kind == f"{_TRANSCRIPTION}delta":
                delta = str(event.get("delta", ""))
                chars += len(delta)
                if chars > _MAX_WORDS_CHARS:
                    raise UpstreamError("The transcript is too long.", code=_PROTOCOL)
                heard.say(delta)
            elif kind == f"{_TRANSCRIPTION}completed":
                if not heard.has_ended:  # a service that ends turns itself has not heard all
                    raise UpstreamError("The speech recognition server ended a turn by itself.", code=_PROTOCOL)
                return str(event.get("transcript", "")).strip()
            elif kind in ("error", f"{_TRANSCRIPTION}failed"):
                error = event.get("error")
                detail = error if isinstance(error, dict) else {}
                if detail.get("code") == "audio_unintelligible":
                    return ""
                raise UpstreamError(
                    str(detail.get("message") or "The speech recognition server failed."),
                    code=str(detail.get("code") or "hearing_failed"),
                    is_transient=False,
                )
        raise UpstreamError("The speech recognition server sent too many events.", code=_PROTOCOL)


def _decoded(text: str | bytes) -> Body:
    try:
        event = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise UpstreamError("The speech recognition server sent a message that is not an event.", code=_PROTOCOL)
    return event


async def _close(connection: SlicedConnection) -> None:
    await close_in_time(connection, _CLOSE_S)
