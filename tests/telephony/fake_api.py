"""A carrier's HTTP API that keeps what it is asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["FakeApi"]


class FakeApi:
    """Answers each request with the next status, and a token to whoever asks for one; the last status stays."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        """Each one's first line, headers by names in lower case, and body."""
        self.tokens = 0
        """That it has given."""
        self.token_status = 200
        self.url = ""
        self._statuses = list(statuses)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeApi"]:
        """On a port of its own."""
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        if head[0].startswith("POST /oauth2/token"):
            self.tokens += 1
            status, answer = self.token_status, b'{"access_token":"T","token_type":"Bearer","expires_in":3600}'
        else:
            self.requests.append((head[0], fields, body))
            status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
            answer = b"" if status == 204 else b"{}"
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + answer
        )
        writer.close()
        await writer.wait_closed()
