"""A server of chat completions over a real socket: it is as strict as OpenAI's, and answers as the test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.fakes import JsonEvent
from tests.machine import scaled

__all__ = ["ChatService", "Reply", "call_function", "refuse", "say"]

_LIMIT_S = scaled(8.0)
_USAGE = {
    "prompt_tokens": 40,
    "completion_tokens": 7,
    "total_tokens": 47,
    "prompt_tokens_details": {"cached_tokens": 8},
}


class Reply:
    """The means to answer one request."""

    def __init__(self, request: JsonEvent, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.gone = asyncio.Event()
        """The client has hung up."""
        self._writer = writer
        self._is_begun = False

    async def send(self, status: int, body: bytes, *headers: str) -> None:
        """A whole answer."""
        head = f"HTTP/1.1 {status} Answer\r\nContent-Length: {len(body)}\r\n" + "".join(f"{one}\r\n" for one in headers)
        self._writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await self._writer.drain()

    async def stream(self, text: bytes) -> None:
        """A piece of a stream of events."""
        if not self._is_begun:
            self._is_begun = True
            self._writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
        self._writer.write(b"%x\r\n%b\r\n" % (len(text), text))
        await self._writer.drain()

    def end_stream(self) -> None:
        """The end of the stream, in order for HTTP, whatever was left out of the answer."""
        self._writer.write(b"0\r\n\r\n")

    async def delta(self, finish: str | None = None, **delta: Any) -> None:
        """A chunk of the answer."""
        await self.chunk(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])

    async def chunk(self, **fields: Any) -> None:
        """Any chunk."""
        body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": self.request["model"], **fields}
        await self.stream(b"data: " + json.dumps(body).encode() + b"\n\n")

    async def end(self, finish: str = "stop") -> None:
        """Why it ends, what it cost, and that it has ended."""
        await self.delta(finish)
        if self.request.get("stream_options", {}).get("include_usage"):
            await self.chunk(choices=[], usage=_USAGE)
        await self.stream(b"data: [DONE]\n\n")
        self._writer.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """The cable is gone."""
        self._writer.transport.abort()


Script = Callable[[Reply], Awaitable[None]]


def say(*words: str, finish: str = "stop") -> Script:
    """An answer in words, piece by piece."""

    async def script(reply: Reply) -> None:
        for piece in words:
            await reply.delta(content=piece)
        await reply.end(finish)

    return script


def call_function(*calls: tuple[str, str, str], words: str = "") -> Script:
    """Calls by id, name and arguments, in pieces, as servers stream them."""

    async def script(reply: Reply) -> None:
        if words:
            await reply.delta(content=words)
        for index, (call_id, name, arguments) in enumerate(calls):
            function = {"name": name, "arguments": ""}
            await reply.delta(tool_calls=[{"index": index, "id": call_id, "type": "function", "function": function}])
            for part in (arguments[:3], arguments[3:]):
                await reply.delta(tool_calls=[{"index": index, "function": {"arguments": part}}])
        await reply.end("tool_calls")

    return script


def refuse(status: int, *headers: str, **error: Any) -> Script:
    """An error."""

    async def script(reply: Reply) -> None:
        await reply.send(status, json.dumps({"error": error}).encode(), "Content-Type: application/json", *headers)

    return script


class ChatService:
    """``requests`` holds the bodies that came; each is answered by the next script, the last one by the last."""

    def __init__(self, scripts: list[Script]) -> None:
        self.requests: list[JsonEvent] = []
        self.keys: list[str] = []
        self.replies: list[Reply] = []
        self.url = ""
        self._scripts = scripts
        self._news = asyncio.Event()
        self._handling: set[asyncio.Task[Any] | None] = set()

    def answer_by(self, script: Script) -> None:
        """From now on every request is answered by this script."""
        self._scripts = [script]

    @classmethod
    @asynccontextmanager
    async def serving(cls, *scripts: Script) -> AsyncIterator["ChatService"]:
        service = cls(list(scripts))
        server = await asyncio.start_server(service._handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        service.url = f"http://127.0.0.1:{port}/v1"
        try:
            yield service
        finally:
            server.close()
            for task in tuple(service._handling):
                if task is not None:
                    task.cancel()
            await server.wait_closed()

    async def until_asked(self, count: int) -> Reply:
        """The means to answer the ``count``th request, once it is there."""
        async with asyncio.timeout(_LIMIT_S):
            while len(self.replies) < count:
                self._news.clear()
                await self._news.wait()
        return self.replies[count - 1]

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._handling.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                assert head.startswith("post /v1/chat/completions "), head
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.keys.append(headers.get("authorization", ""))
                await self._answer(body, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._handling.discard(task)
            writer.close()

    async def _answer(self, body: JsonEvent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(len(self.requests), len(self._scripts) - 1)]
        self.requests.append(body)
        reply = Reply(body, writer)
        self.replies.append(reply)
        self._news.set()
        complaint = _complaint(body)
        if complaint is not None:
            await refuse(400, type="invalid_request_error", message=complaint)(reply)
            return
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(reader, reply))
            try:
                await script(reply)
            finally:
                watching.cancel()


async def _watch(reader: asyncio.StreamReader, reply: Reply) -> None:
    """One request at a time: what comes meanwhile is the client's goodbye."""
    with suppress(OSError):
        await reader.read(1)
    reply.gone.set()


def _complaint(body: JsonEvent) -> str | None:
    """What OpenAI's server refuses."""
    if not body.get("messages"):
        return "[] is too short - 'messages'"
    called: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in called:
                return "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            called.remove(message["tool_call_id"])
            continue
        if called:
            return "An assistant message with 'tool_calls' must be followed by tool messages."
        called = [call["id"] for call in message.get("tool_calls", ())]
        if not message.get("content") and not called:
            return "'content' is required."
    if called:
        return "An assistant message with 'tool_calls' must be followed by tool messages."
    if "tools" not in body and ("tool_choice" in body or "parallel_tool_calls" in body):
        return "'tool_choice' is only allowed when 'tools' are specified."
    return None
