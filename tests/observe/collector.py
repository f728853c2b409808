"""A receiver of OTLP over HTTP, over a real socket: it decodes what comes by OpenTelemetry's own messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.machine import scaled

__all__ = ["Collector", "Received"]

_LIMIT_S = scaled(15.0)


@dataclass(frozen=True, slots=True)
class Received:
    """One span."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began_s: float
    ended_s: float
    kind: int
    is_error: bool
    attributes: dict[str, Any]
    notes: list[str]
    resource: dict[str, Any] = field(repr=False)


class Collector:
    """``spans`` are those that it has got, in their order; ``status`` is its answer."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Received] = []
        self.requests = 0
        self.status = 200
        self.is_silent = False
        """It takes what comes, and never answers."""
        self._news = asyncio.Event()
        self._over = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def collecting(cls) -> AsyncIterator["Collector"]:
        """One on a port of loopback."""
        collector = cls()
        async with await asyncio.start_server(collector._serve, "127.0.0.1", 0) as server:
            collector.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield collector
            collector._over.set()
            await asyncio.sleep(0)  # who waited closes its connection

    async def until(self, name: str, number: int = 1) -> list[Received]:
        """The spans of this name, once there are so many."""
        async with asyncio.timeout(_LIMIT_S):
            while len(found := [span for span in self.spans if span.name == name]) < number:
                self._news.clear()
                await self._news.wait()
        return found

    async def until_asked(self) -> None:
        """Returns when a request has come."""
        async with asyncio.timeout(_LIMIT_S):
            while not self.requests:
                self._news.clear()
                await self._news.wait()

    def below(self, parent: Received) -> list[Received]:
        """Its children, in the order in which they began."""
        found = [span for span in self.spans if span.parent_id == parent.span_id]
        return sorted(found, key=lambda span: span.began_s)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(fields["content-length"]))
        except asyncio.IncompleteReadError:
            writer.close()
            return
        self.requests += 1
        self._news.set()
        if self.is_silent:
            await self._over.wait()
            writer.close()
            return
        if self.status == 200:
            assert (head[0], fields["content-type"]) == ("POST /v1/traces HTTP/1.1", "application/x-protobuf")
            self._take(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        writer.write(
            f"HTTP/1.1 {self.status} X\r\nContent-Type: application/x-protobuf\r\nConnection: close\r\n"
            f"Content-Length: {len(answer)}\r\n\r\n".encode()
            + answer
        )
        await writer.drain()
        writer.close()

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for group in request.resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Received(
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.start_time_unix_nano / 1e9,
                            span.end_time_unix_nano / 1e9,
                            span.kind,
                            span.status.code == 2,
                            _values(span.attributes),
                            [event.name for event in span.events],
                            resource,
                        )
                    )
        self._news.set()


def _values(attributes: Any) -> dict[str, Any]:
    found = {}
    for one in attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        found[one.key] = [each.string_value for each in value.values] if kind == "array_value" else value
    return found
