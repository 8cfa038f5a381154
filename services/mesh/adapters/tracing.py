"""One OpenTelemetry span for each event and hop, when an exporter is set (``OTEL_EXPORTER_OTLP_ENDPOINT``).

A span runs from the broker's append of the input to the commit of the output, and belongs to the trace that the event's
``traceparent`` names. Without an exporter nothing here runs, nor is it imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from services.mesh.headers import TRACEPARENT, WEIR, find, unpack_hop
from services.mesh.ports import OutRecord

_NANOS = 1_000_000
Record = Callable[[Sequence[OutRecord], int, int], None]


def otlp_exporter() -> SpanExporter:
    """The exporter that OpenTelemetry's own variables describe."""
    return OTLPSpanExporter()


class SpanRecorder:
    """Turns a committed batch into spans."""

    def __init__(self, stage: str, exporter: SpanExporter) -> None:
        self._stage = stage
        self._provider = TracerProvider(resource=Resource.create({"service.name": f"weir.{stage}"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("weir")

    def record(self, outputs: Sequence[OutRecord], started_ms: int, ended_ms: int) -> None:
        """One span for each output that names its trace."""
        for out in outputs:
            parent, hop = find(out.headers, TRACEPARENT), find(out.headers, WEIR)
            context = None if parent is None else _context_of(parent.decode("ascii", errors="replace"))
            if context is None or hop is None:
                continue
            where = unpack_hop(hop)
            span = self._tracer.start_span(
                f"{self._stage} {out.topic}",
                context=trace.set_span_in_context(trace.NonRecordingSpan(context)),
                start_time=started_ms * _NANOS,
                attributes={
                    "messaging.system": "kafka",
                    "messaging.destination.name": out.topic,
                    "weir.source_partition": where.origin_partition,
                    "weir.source_offset": where.origin_offset,
                },
            )
            span.end(ended_ms * _NANOS)

    def close(self) -> None:
        """Send what is buffered."""
        self._provider.shutdown()


def _context_of(traceparent: str) -> trace.SpanContext | None:
    """The remote span that ``traceparent`` names, taken as sampled: whoever set an exporter wants its spans."""
    parts = traceparent.split("-")
    if len(parts) != 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    try:
        trace_id, span_id = int(parts[1], 16), int(parts[2], 16)
    except ValueError:
        return None
    if not trace_id or not span_id:
        return None
    return trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))
