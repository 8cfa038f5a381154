"""One span for each output that names its trace."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.mesh.adapters.process import spans_of
from services.mesh.adapters.tracing import SpanRecorder
from services.mesh.headers import Hop, pack_hop, traceparent_of
from services.mesh.identity import identity_of
from services.mesh.ports import OutRecord

IDENTITY = identity_of("c1", "e1")
HOP = ("weir", pack_hop(Hop(3, 77, 3, 80, 0)))


def test_a_span_belongs_to_its_events_trace_and_lasts_from_append_to_commit() -> None:
    exporter = InMemorySpanExporter()
    recorder = SpanRecorder("scoring", exporter)
    recorder.record([OutRecord("scores.v1", b"k", b"v", 3, [("traceparent", traceparent_of(IDENTITY)), HOP])], 10, 25)
    recorder.close()
    (span,) = exporter.get_finished_spans()
    assert span.name == "scoring scores.v1"
    assert span.context is not None
    assert span.context.trace_id == int(IDENTITY.hex(), 16)
    assert span.parent is not None
    assert span.parent.is_remote
    assert (span.start_time, span.end_time) == (10_000_000, 25_000_000)
    assert span.attributes is not None
    assert (span.attributes["weir.source_partition"], span.attributes["weir.source_offset"]) == (3, 77)
    assert span.resource.attributes["service.name"] == "weir.scoring"


@pytest.mark.parametrize(
    "parent",
    [None, b"", b"junk", b"00-zz-yy-00", b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-00", b"\xff" * 55],
)
def test_an_output_without_a_trace_has_no_span(parent: bytes | None) -> None:
    exporter = InMemorySpanExporter()
    recorder = SpanRecorder("scoring", exporter)
    recorder.record([OutRecord("scores.v1", b"k", b"v", 3, [("traceparent", parent), HOP])], 10, 25)
    recorder.record([OutRecord("dead-letters.v1", b"k", b"v", 3, [])], 10, 25)
    recorder.close()
    assert exporter.get_finished_spans() == ()


def test_without_an_endpoint_nothing_is_exported_nor_imported() -> None:
    code = (
        "import sys; from services.mesh.adapters.process import spans_of; assert spans_of('scoring') is None;"
        "print([name for name in sys.modules if name.startswith('opentelemetry.exporter')])"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_with_an_endpoint_spans_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    recorder = spans_of("scoring")
    assert recorder is not None
    recorder.close()
