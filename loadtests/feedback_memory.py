"""Millions of decisions pending: what feedback's process holds of them, and how fast outcomes find theirs.

    python -m loadtests.feedback_memory [--decisions 5000000] [--outcomes 100000]

Runs the handler's own step and commit on real files, without a broker, in one process. Decisions are those of a month
(nothing matures), 40,000 customers, of the size that the mesh writes. Outcomes are taken in the order of their events,
as chargebacks come, and in no order at all. Resident memory is the process's; the files' pages are the kernel's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import psutil

from services.feedback.handler import FeedbackHandler
from services.feedback.settings import FeedbackSettings, JoinRules
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.codec import HEADER_BYTES, Codec
from services.mesh.partitioner import Partitioner
from services.mesh.ports import LANE, CommittedOffset, InRecord
from services.mesh.stage import Emit
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DAY_MS, DECISIONS, OUTCOMES
from services.mesh.topology import FEEDBACK
from services.mesh.watermark import Marks

BATCH = 500
PARTITIONS = 8
CUSTOMERS = 40_000
SPAN_MS = 29 * DAY_MS
START_MS = 1_700_000_000_000
# What a process may grow by while it keeps them: eight page caches of 4 MB and their fragments.
GROWTH_MIB_MAX = 128
_MIB = 1 << 20


class _Nothing:
    """Topics that feedback writes, with nothing in them; and inputs that are not read again."""

    def ends(self, partition: int) -> tuple[int, int]:
        return 0, 0

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        return iter(())


class Bench:
    """A handler on files of its own."""

    def __init__(self, directory: Path, decisions: int) -> None:
        nothing, clock = _Nothing(), SystemClock()
        settings = FeedbackSettings(directory=directory, rules=JoinRules(), cache_bytes=4 << 20)
        self.handler = FeedbackHandler(
            settings, log="bench", read=nothing.read, labels=nothing, orphans=nothing, clock=clock,
            telemetry=StageTelemetry(FEEDBACK.name, clock),
        )  # fmt: skip
        for partition in range(PARTITIONS):
            self.handler.assign(partition, CommittedOffset(None, ""), Marks())
            self.handler.assign(LANE + partition, CommittedOffset(None, ""), Marks())
        self._partitioner = Partitioner(PARTITIONS)
        self._ends = [0] * (2 * PARTITIONS)
        self._gap_ms = SPAN_MS // decisions
        self._head, self._tail = _around()
        self._outcome = Codec("payments/outcome.v1.avsc")

    def decision(self, number: int) -> InRecord:
        event, customer = _ids(number)
        partition = self._partitioner.partition_of(customer.encode())
        offset = self._ends[partition]
        self._ends[partition] += 1
        time_ms = START_MS + number * self._gap_ms
        value = b"".join((self._head, _text(event), _text(customer), _text("t-00001"), _long(time_ms), self._tail))
        return InRecord(DECISIONS.name, partition, offset, time_ms, customer.encode(), value, [])

    def outcome(self, number: int) -> InRecord:
        event, customer = _ids(number)
        partition = self._partitioner.partition_of(customer.encode())
        offset = self._ends[PARTITIONS + partition]
        self._ends[PARTITIONS + partition] += 1
        said = {
            "outcome_id": f"o-{event}", "event_id": event, "customer_id": customer, "label": "fraud",
            "source": "chargeback", "observed_time_ms": START_MS + SPAN_MS, "revises": None,
            "source_partition": partition, "source_offset": number, "raw_append_time_ms": START_MS,
        }  # fmt: skip
        value = self._outcome.encode(said)
        return InRecord(OUTCOMES.name, LANE + partition, offset, START_MS, customer.encode(), value, [])

    def take(self, batch: Sequence[InRecord]) -> list[Emit]:
        emits = self.handler.step(batch)
        self.handler.committed({r.partition: CommittedOffset(r.offset + 1, "") for r in batch})
        return emits


def _ids(number: int) -> tuple[str, str]:
    return f"e-{number:09d}", f"c-{number * 7919 % CUSTOMERS:05d}"


def _around() -> tuple[bytes, bytes]:
    """An ordinary decision of the examples, with a whole vector: what is before and behind its ids and its time."""
    text = (Path(__file__).resolve().parents[1] / "schemas/examples/decision.v1/ordinary.json").read_text()
    example = {**json.loads(text), "vector": b"\x00\x00\x80?" * 25}
    value = Codec("decision.v1.avsc").encode(example)
    ids = b"".join(_text(example[name]) for name in ("event_id", "customer_id", "terminal_id"))
    begin, end = HEADER_BYTES, HEADER_BYTES + len(ids) + len(_long(example["event_time_ms"]))
    assert value[begin:end] == ids + _long(example["event_time_ms"])
    return value[:begin], value[end:]


def _text(text: str) -> bytes:
    return _long(len(text)) + text.encode()


def _long(number: int) -> bytes:
    """A zigzag varint of a number that is not negative."""
    number, out = number << 1, bytearray()
    while number > 0x7F:
        out.append(0x80 | number & 0x7F)
        number >>= 7
    out.append(number)
    return bytes(out)


def resident_mib() -> float:
    return float(psutil.Process().memory_info().rss) / _MIB


def rate_of(bench: Bench, records: Sequence[InRecord], wanted_each: int) -> float:
    """Records a second of this process's own time; each must have led to so many."""
    began_s, emits = time.process_time(), 0
    for start in range(0, len(records), BATCH):
        emits += len(bench.take(records[start : start + BATCH]))
    assert emits == wanted_each * len(records), f"{emits} records came of {len(records)}"
    return len(records) / (time.process_time() - began_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 unless memory grows beyond its bound."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.feedback_memory", description=__doc__)
    parser.add_argument("--decisions", type=int, default=5_000_000)
    parser.add_argument("--outcomes", type=int, default=100_000)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        bench = Bench(directory, given.decisions)
        sample = Random(1).sample(range(given.decisions), min(2 * given.outcomes, given.decisions))
        random, ordered = sample[: len(sample) // 2], sorted(sample[len(sample) // 2 :])
        start_mib = resident_mib()
        feeding_s, began_s, batch = 0.0, time.process_time(), []
        for number in range(given.decisions):
            batch.append(bench.decision(number))
            if len(batch) == BATCH or number == given.decisions - 1:
                step_s = time.process_time()
                bench.take(batch)
                feeding_s += time.process_time() - step_s
                batch = []
            if (number + 1) % max(1, given.decisions // 5) == 0:
                print(f"{number + 1:>10,} decisions pending  {resident_mib():6.0f} MiB resident", flush=True)
        print(f"{given.decisions / feeding_s:>10,.0f} decisions/s kept, {time.process_time() - began_s:.0f} s in all")
        grown_mib = resident_mib() - start_mib
        for kind, numbers in (("in order", ordered), ("in no order", random)):
            records = [bench.outcome(number) for number in numbers]
            print(f"{rate_of(bench, records, 2):>10,.0f} outcomes/s joined {kind}")
        size = sum(path.stat().st_size for path in directory.iterdir())
        print(f"{size / given.decisions:>10,.0f} bytes a decision on disk; memory grew by {grown_mib:.0f} MiB")
        bench.handler.close()
    return 0 if grown_mib <= GROWTH_MIB_MAX else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
