"""Sends spans by OpenTelemetry's SDK: a bounded queue, and a thread that sends batches by OTLP over HTTP.

The event loop makes spans and never waits for them. A span that the collector does not take, or that finds the queue
full, is lost and counted. Only this module imports OpenTelemetry, and it is imported only if tracing is on.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from threading import Thread

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from prometheus_client.core import Metric

from bridge import __version__
from bridge.context import TraceContext
from bridge.log import Tally, get_logger
from bridge.observe.tracing import Attributes, SpanTaker, TracedSpan, families_of

__all__ = ["OtlpSpans"]

_log = get_logger("observe")

_SERVICE = "bridge"
_PATH = "/v1/traces"
_QUEUED = 4096
_BATCH = 512
_CLOSE_S = 3.0
_MAX_VALUE_CHARS = 8192
_NS = 1_000_000_000

for _name in ("opentelemetry.exporter.otlp", "opentelemetry.sdk.trace.export", "opentelemetry.sdk._shared_internal"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # the bridge counts what is lost, and logs a line of its own


class _Ids(RandomIdGenerator):
    """Makes random ids, except for a span whose ids are known already."""

    given: TraceContext | None = None

    def generate_span_id(self) -> int:
        """Returns the id of the next span."""
        return int(self.given.span_id, 16) if self.given is not None else super().generate_span_id()

    def generate_trace_id(self) -> int:
        """Returns the id of the next trace."""
        return int(self.given.trace_id, 16) if self.given is not None else super().generate_trace_id()


class _Counted(SpanExporter):
    """Counts what ``inner`` has sent and what it has not. Only the thread of the batches writes these counts."""

    def __init__(self, inner: SpanExporter) -> None:
        self.exported = self.lost = 0
        self._inner = inner
        self._tally = Tally()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends a batch of spans, and counts them; see ``SpanExporter``."""
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.exported += len(spans)
            else:
                self.lost += len(spans)
                _tell_lost(self._tally, len(spans))
        return result

    def shutdown(self) -> None:
        """Ends the exporter; see ``SpanExporter``."""
        self._inner.shutdown()


class _Bounded(SpanProcessor):
    """A queue of at most ``limit`` spans before the batches.

    The event loop drops and counts spans that find it full.
    """

    def __init__(self, counted: _Counted, limit: int) -> None:
        self.dropped = 0
        self._taken = 0
        self._counted = counted
        self._limit = limit
        self._tally = Tally()
        self._batches = BatchSpanProcessor(counted, max_queue_size=limit, max_export_batch_size=min(_BATCH, limit))

    @property
    def waiting(self) -> int:
        """The number of spans that were taken, and are neither sent nor lost."""
        return self._taken - self._counted.exported - self._counted.lost

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span that has ended; see ``SpanProcessor``."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self.waiting >= self._limit:
            self.dropped += 1
            _tell_lost(self._tally, 1)
            return
        self._taken += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        """Sends what waits, and ends; see ``SpanProcessor``."""
        self._batches.shutdown()  # type: ignore[no-untyped-call]


def _tell_lost(tally: Tally, spans: int) -> None:
    if (count := tally.count_repeat("lost", time.monotonic())) is not None:
        _log.warning("trace.lost", spans=spans, count=count)


class _Span:
    """A ``TracedSpan`` of OpenTelemetry."""

    def __init__(self, spans: "OtlpSpans", span: Span) -> None:
        self._spans = spans
        self._span = span

    def begin_child(
        self, name: str, *, at_s: float, attributes: Attributes | None = None, is_client: bool = False
    ) -> TracedSpan:
        """Begins a span below this one; see ``TracedSpan``."""
        return self._spans.begin_under(set_span_in_context(self._span), name, at_s, attributes or {}, is_client)

    def set(self, attributes: Attributes) -> None:
        """Sets attributes; see ``TracedSpan``."""
        self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def note(self, name: str, *, at_s: float, attributes: Attributes | None = None) -> None:
        """Notes something that happened at one moment; see ``TracedSpan``."""
        said = {key: value for key, value in (attributes or {}).items() if value is not None}
        self._span.add_event(name, said, timestamp=int(at_s * _NS))

    def end(self, *, at_s: float, error: str | None = None) -> None:
        """Ends the span; see ``TracedSpan``."""
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(int(at_s * _NS))


class OtlpSpans(SpanTaker):
    """Takes spans and sends them to a collector. ``aclose`` ends its thread.

    OpenTelemetry's own variables set everything that ``endpoint`` does not.
    """

    def __init__(self, endpoint: str, *, queued: int = _QUEUED) -> None:
        """Reads files and starts a thread, so this is not for the event loop."""
        self._counted = _Counted(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + _PATH))
        self._queue = _Bounded(self._counted, queued)
        self._ids = _Ids()
        resource = Resource.create({"service.version": __version__})  # the environment's own attributes win
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": _SERVICE}))
        self._provider = TracerProvider(
            resource=resource,
            id_generator=self._ids,
            span_limits=SpanLimits(max_span_attribute_length=_MAX_VALUE_CHARS),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self._queue)
        self._tracer = self._provider.get_tracer("bridge", __version__)

    async def aclose(self) -> None:
        """Sends what waits, for a short while, and ends the thread."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop did not wait, and is closed
                loop.call_soon_threadsafe(done.set)

        Thread(target=shut_down, name="traces", daemon=True).start()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await done.wait()
        except TimeoutError:
            _log.warning("trace.lost", spans=self._queue.waiting, count=1)

    def new_context(self, asked: TraceContext | None) -> TraceContext:
        """Returns a new call's place in a trace; see ``SpanTaker``."""
        trace_id = self._ids.generate_trace_id() if asked is None else int(asked.trace_id, 16)
        result = self._provider.sampler.should_sample(_context_of(asked), trace_id, "call", SpanKind.SERVER)
        return TraceContext(
            f"{trace_id:032x}",
            f"{self._ids.generate_span_id():016x}",
            result.decision is not Decision.DROP,
            "" if asked is None else asked.state,
            "" if asked is None else asked.span_id,
        )

    def begin_span(self, trace: TraceContext, name: str, *, at_s: float, attributes: Attributes) -> TracedSpan | None:
        """Begins the span that ``trace`` names; see ``SpanTaker``."""
        if not trace.is_sampled:
            return None
        parent: TraceContext | None = None
        if trace.parent_id:
            parent = TraceContext(trace.trace_id, trace.parent_id, trace.is_sampled, trace.state)
        self._ids.given = trace
        try:
            return self.begin_under(_context_of(parent) or Context(), name, at_s, attributes, kind=SpanKind.SERVER)
        finally:
            self._ids.given = None

    def begin_under(
        self,
        context: Context,
        name: str,
        at_s: float,
        attributes: Attributes,
        is_client: bool = False,
        kind: SpanKind | None = None,
    ) -> TracedSpan:
        """Begins a span below the one that ``context`` holds."""
        span = self._tracer.start_span(
            name,
            context,
            kind or (SpanKind.CLIENT if is_client else SpanKind.INTERNAL),
            {key: value for key, value in attributes.items() if value is not None},
            start_time=int(at_s * _NS),
        )
        return _Span(self, span)  # type: ignore[arg-type]

    def families(self) -> Iterator[Metric]:
        """Yields the counts of spans, for ``Metrics``."""
        return families_of(self._counted.exported, self._counted.lost + self._queue.dropped)


def _context_of(trace: TraceContext | None) -> Context | None:
    """Returns OpenTelemetry's form of a span that another process has begun."""
    if trace is None:
        return None
    state: Mapping[str, str] = TraceState.from_header([trace.state]) if trace.state else TraceState()
    flags = TraceFlags(TraceFlags.SAMPLED if trace.is_sampled else TraceFlags.DEFAULT)
    span = SpanContext(int(trace.trace_id, 16), int(trace.span_id, 16), True, flags, state)  # type: ignore[arg-type]
    return set_span_in_context(NonRecordingSpan(span), Context())
