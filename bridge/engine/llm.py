"""A language model behind any OpenAI-compatible chat-completions URL: it is asked, and its answer streams in.

A request that brings nothing is tried again, as an upstream is. What has begun to come is not: the answer ends there,
with an error that says so.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import msgspec
from structlog.typing import FilteringBoundLogger

from bridge.engine.lines import Lines
from bridge.engine.mind import Thought, ThoughtCall
from bridge.engine.pieces import Pieces
from bridge.errors import BridgeError, UpstreamError
from bridge.outgoing import HTTPError, new_client, refusal, tried_again
from bridge.wire import items
from bridge.wire.ids import new_id

__all__ = ["ChatServer", "ChatThought"]

_MAX_LINE_BYTES = 1024 * 1024
_MAX_ANSWER_BYTES = 4 * 1024 * 1024  # of a stream in all
_MAX_CALLS = 128
_DONE = b"[DONE]"
_COMPLETIONS = "/chat/completions"
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_PROTOCOL = "upstream_protocol"

Body = dict[str, Any]


class ChatServer:
    """A client of one server; ``async with`` owns its connections and requests."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        timeout_s: float = 30.0,
        tries: int = 3,
        longest_s: float = 1800.0,
    ) -> None:
        """``model`` is asked for instead of a session's own.

        Each step of an answer may take ``timeout_s``, and the whole ``longest_s``, if that is longer.
        """
        self._url = url if url.rstrip("/").endswith(_COMPLETIONS) else url.rstrip("/") + _COMPLETIONS
        self._model = model
        self._temperature = temperature
        self._tries = tries
        self._longest_s = max(longest_s, timeout_s)
        self._client = new_client(timeout_s, {} if key is None else {"Authorization": f"Bearer {key}"})
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> "ChatServer":
        await self._client.__aenter__()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.__aexit__(None, None, None)
        await self._client.__aexit__(kind, error, trace)

    def think(self, request: Body, *, model: str, log: FilteringBoundLogger) -> "ChatThought":
        """Asks for an answer to ``request``, which has at least ``messages``; its words follow."""
        body: Body = {"model": self._model or model, "stream": True, "stream_options": {"include_usage": True}}
        if self._temperature is not None:
            body["temperature"] = self._temperature
        return ChatThought(
            lambda: self._stream({**body, **request}, log),
            spawn=self._tasks.create_task,
            longest_s=self._longest_s,
            log=log,
        )

    def _stream(self, body: Body, log: FilteringBoundLogger) -> AsyncIterator[Body]:
        """The chunks of an answer; raises ``UpstreamError``."""

        def told(error: UpstreamError, delay_s: float) -> None:
            log.info("engine.llm_retry", code=error.code, message=error.message, in_s=round(delay_s, 2))

        return tried_again(lambda: self._request(body), self._tries, told)

    async def _request(self, body: Body) -> AsyncIterator[Body]:
        try:
            async with self._client.stream(
                "POST", self._url, content=msgspec.json.encode(body), headers={"Content-Type": "application/json"}
            ) as response:
                if response.status_code != 200:
                    raise refusal(response.status_code, await _whole(response), response.headers.get("Retry-After"))
                if response.headers.get("Content-Type", "").startswith("application/json"):  # it does not stream
                    yield _read(await _whole(response))
                    return
                async for chunk in _events(response):
                    yield chunk
        except HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UpstreamError(f"The language model cannot be reached: {reason}", code="llm_unreachable") from error


async def _whole(response: Any) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _MAX_ANSWER_BYTES:
            raise UpstreamError("The language model's answer is too long.", code=_PROTOCOL, is_transient=False)
    return bytes(body)


async def _events(response: Any) -> AsyncIterator[Body]:
    """Server-sent events; raises ``UpstreamError`` for what is none, and if the stream ends before it says so."""
    lines, total = Lines(), 0
    async for piece in response.aiter_bytes():
        total += len(piece)
        ended = lines.add(piece)
        if lines.rest_bytes > _MAX_LINE_BYTES or total > _MAX_ANSWER_BYTES:
            raise UpstreamError("The language model's answer is too long.", code=_PROTOCOL, is_transient=False)
        for line in ended:
            name, _, value = line.strip().partition(b":")
            if name != b"data":
                continue
            if value.strip() == _DONE:
                return
            yield _read(value)
    raise UpstreamError("The language model stopped in the middle of its answer.", code="llm_broke_off")


def _read(text: bytes) -> Body:
    try:
        chunk = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError("The language model sent a message that is not JSON.", code=_PROTOCOL) from None
    if not isinstance(chunk, dict):
        raise UpstreamError("The language model sent a message that is not an answer.", code=_PROTOCOL)
    error = chunk.get("error")
    if error:
        detail = error if isinstance(error, dict) else {"message": str(error)}
        raise UpstreamError(
            str(detail.get("message") or "The language model failed."),
            code=str(detail.get("code") or "llm_failed"),
            type=str(detail.get("type") or "server_error"),
            is_transient=False,
        )
    return chunk


@dataclass(slots=True)
class _Call:
    """The part of a function call that has come."""

    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class ChatThought(Thought):
    """An answer that streams in."""

    def __init__(
        self,
        stream: Callable[[], AsyncIterator[Body]],
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
        longest_s: float,
        log: FilteringBoundLogger,
    ) -> None:
        self._stream = stream
        self._longest_s = longest_s
        self._log = log
        self._calls: dict[int, _Call] = {}
        self._words: Pieces[str] = Pieces()
        """The words so far; they are bounded, because the whole stream is."""
        self._words.task = spawn(self._run())

    @property
    def words(self) -> Pieces[str]:
        """See ``Thought``; closing it cancels the request."""
        return self._words

    @property
    def calls(self) -> Sequence[ThoughtCall]:
        """See ``Thought``."""
        return [
            ThoughtCall(call.call_id or new_id("call"), call.name, "".join(call.arguments) or "{}")
            for _, call in sorted(self._calls.items())
            if call.name
        ]

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self._longest_s):
                async for chunk in self._stream():
                    self._take(chunk)
        except TimeoutError:
            self._words.end(UpstreamError("The language model is taking too long.", code="upstream_timeout"))
        except BridgeError as error:
            self._words.end(error)
        except Exception as error:
            self._log.error("engine.answer_failed", exc_info=error)
            self._words.end(UpstreamError("The engine could not parse the language model's answer."))
        else:
            self._words.end()

    def _take(self, chunk: Body) -> None:
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = _usage(usage)
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        said = choice.get("delta") or choice.get("message")
        if isinstance(said, dict):
            words = said.get("content") or said.get("refusal")
            if isinstance(words, str) and words:
                self._words.put(words)
            for at, call in enumerate(said.get("tool_calls") or ()):
                if isinstance(call, dict):
                    self._take_call(at, call)
        self.incomplete_reason = _INCOMPLETE.get(str(choice.get("finish_reason")), self.incomplete_reason)

    def _take_call(self, at: int, body: Body) -> None:
        index = body.get("index")
        index = index if isinstance(index, int) else at
        if index not in self._calls and len(self._calls) >= _MAX_CALLS:
            return
        call = self._calls.setdefault(index, _Call())
        call.call_id = call.call_id or str(body.get("id") or "")
        function = body.get("function")
        if isinstance(function, dict):
            call.name = call.name or str(function.get("name") or "")
            call.arguments.append(str(function.get("arguments") or ""))


def _usage(body: Body) -> items.Usage:
    """The usage by the server's own figures; what it does not say is 0."""

    def count(name: str, of: Any = body) -> int:
        value = of.get(name) if isinstance(of, dict) else None
        return value if isinstance(value, int) and value >= 0 else 0

    usage = items.Usage.of(input_text=count("prompt_tokens"), output_text=count("completion_tokens"))
    usage.input_token_details.cached_tokens = count("cached_tokens", body.get("prompt_tokens_details"))
    return usage
