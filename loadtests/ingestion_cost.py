"""What one event costs ingestion, piece by piece, beside its budget; and what one remembered identity weighs.

    python -m loadtests.ingestion_cost [--events 20000]

Runs the handler's own step on in-memory twins: no broker, no Redis, one process. Input is generated.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Sequence
from io import BytesIO

import fastavro
import orjson

from services.ingestion.admission import Candidate
from services.ingestion.avro_event import AvroEvents
from services.ingestion.capacity import ROW_BYTES_MAX, capacity_line
from services.ingestion.event_clock import ClockRules
from services.ingestion.handler import IngestionHandler
from services.ingestion.reading import read_event
from services.ingestion.seen import SeenIdentities
from services.ingestion.settings import IngestionSettings
from services.mesh.adapters.memory import ManualClock, MemoryBroker, MemoryLog, MemoryRedis, MemoryStore
from services.mesh.codec import Codec, schema
from services.mesh.event_fields import valid_event
from services.mesh.json_fields import json_fields
from services.mesh.metrics import Metrics
from services.mesh.partitioner import Partitioner
from services.mesh.ports import CommittedOffset, InRecord
from services.mesh.topics import EVENTS_RAW
from services.mesh.watermark import Marks

BUDGET_JSON_US = 25.0
BATCH = 500
PARTITIONS = 8
START_MS = 1_700_000_000_000


class _NothingAccepted:
    def ends(self, partition: int) -> tuple[int, int]:
        return 0, 0

    def read(self, partition: int, start: int, end: int) -> list[list[InRecord]]:
        return []


def records(count: int, gap_ms: int, avro: bool) -> list[InRecord]:
    """``count`` valid events of 5,000 customers, ``gap_ms`` of event time apart."""
    raw = schema("payments/event_raw.v1.avsc")
    partitioner = Partitioner(PARTITIONS)
    made = []
    offsets = [0] * PARTITIONS
    for n in range(count):
        customer = f"c-{n * 7919 % 5_000:05d}"
        event = {
            "event_id": f"e-{n:09d}",
            "customer_id": customer,
            "terminal_id": f"t-{n % 997:05d}",
            "event_time_ms": START_MS + n * gap_ms,
            "amount_minor": n % 90_000,
            "currency": "EUR",
            "channel": "pos",
            "country": "DE",
        }
        if avro:
            out = BytesIO()
            out.write(raw.header)
            fastavro.schemaless_writer(out, raw.parsed, event)
            value = out.getvalue()
        else:
            value = orjson.dumps(event)
        partition = partitioner.partition_of(customer.encode())
        record = InRecord(
            EVENTS_RAW.name, partition, offsets[partition], START_MS + count * gap_ms, customer.encode(), value, ()
        )
        offsets[partition] += 1
        made.append(record)
    return made


def handler() -> IngestionHandler:
    """A handler that owns everything, on twins."""
    clock = ManualClock()
    log = MemoryLog(MemoryBroker(PARTITIONS, clock), "ingestion", EVENTS_RAW.name)
    made = IngestionHandler(
        IngestionSettings(
            rules=ClockRules(), redis="", partitions=PARTITIONS, seen_memory_bytes=512 << 20, schema_registry=""
        ),
        store=MemoryStore(MemoryRedis(), clock),
        read_raw=log.read,
        accepted=_NothingAccepted(),  # type: ignore[arg-type]
        writer_schemas={schema("payments/event_raw.v1.avsc").id: schema("payments/event_raw.v1.avsc").raw},
        clock=clock,
        metrics=Metrics("ingestion"),
    )
    for partition in range(PARTITIONS):
        made.assign(partition, CommittedOffset(None, ""), Marks())
    return made


def step_us(made: Sequence[InRecord]) -> tuple[float, float]:
    """Microseconds an event in ``step`` and in ``committed`` + ``idle``."""
    ingestion = handler()
    step_s = save_s = 0.0
    for at in range(0, len(made), BATCH):
        batch = made[at : at + BATCH]
        started_s = time.perf_counter()
        emits = ingestion.step(batch)
        stepped_s = time.perf_counter()
        ingestion.committed({r.partition: CommittedOffset(r.offset + 1, "") for r in batch})
        ingestion.idle()
        saved_s = time.perf_counter()
        assert len(emits) == len(batch)
        step_s += stepped_s - started_s
        save_s += saved_s - stepped_s
    return step_s / len(made) * 1e6, save_s / len(made) * 1e6


def piece_us(name: str, act: Callable[[InRecord], object], made: Sequence[InRecord]) -> None:
    """Print what ``act`` costs."""
    best = float("inf")
    for _ in range(3):
        started_s = time.perf_counter()
        for record in made:
            act(record)
        best = min(best, time.perf_counter() - started_s)
    print(f"    {name:<44}{best / len(made) * 1e6:8.2f} us")


def row_bytes(rows: int) -> tuple[float, float]:
    """Bytes a remembered identity, held and at the worst moment of merging."""
    tracemalloc.start()
    seen = SeenIdentities()
    for n in range(rows):
        seen.add((n * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "little") * 2, n, n * 7 // rows)
        if n % BATCH == 0:
            seen.settle(0)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / rows, peak / rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    count = parser.parse_args().events
    avro = AvroEvents({schema("payments/event_raw.v1.avsc").id: schema("payments/event_raw.v1.avsc").raw})
    json_records, avro_records = records(count, 9_000, avro=False), records(count, 9_000, avro=True)
    dense_records = records(count, 1, avro=False)
    codec = Codec("payments/event.v1.avsc")
    for name, made in (("JSON", json_records), ("JSON, all in one hour", dense_records), ("Avro", avro_records)):
        step, save = min(step_us(made) for _ in range(3))
        verdict = (
            ""
            if name == "Avro"
            else f" (budget {BUDGET_JSON_US:.0f}: {'kept' if step <= BUDGET_JSON_US else 'BROKEN'})"
        )
        print(f"{name:<24} step {step:6.2f} us an event{verdict}, save {save:5.2f} us")
    print("  of which, JSON:")
    piece_us("json_fields", lambda r: json_fields(r.value or b""), json_records)
    piece_us("read_event (with validation)", lambda r: read_event(r.value, avro), json_records)
    events = [(r, read_event(r.value, avro)) for r in json_records]
    lookup = {id(r): e for r, e in events}
    piece_us("identity and body hash", lambda r: Candidate.of(lookup[id(r)], b"c"), json_records)
    full = {id(r): {**e, "source_partition": 1, "source_offset": 9, "raw_append_time_ms": START_MS} for r, e in events}
    piece_us("encode", lambda r: codec.encode(full[id(r)]), json_records)
    print("  of which, Avro:")
    piece_us("AvroEvents.fields", lambda r: avro.fields(r.value or b""), avro_records)
    piece_us("validation", lambda r: valid_event(lookup[id(r)]), json_records)
    for rows in (100_000, 400_000):
        held, peak = row_bytes(rows)
        weight = f"{held:.1f} bytes held, {peak:.1f} at the peak (bound {ROW_BYTES_MAX})"
        print(f"one identity of {rows:,} in a partition: {weight}")
    print(capacity_line(512 << 20, ClockRules().lateness_ms, PARTITIONS))


if __name__ == "__main__":
    main()
