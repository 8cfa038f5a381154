"""Ingestion on the in-memory twins: a broker, a store, and processes that may die between any two effects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import orjson

from services.ingestion.event_clock import ClockRules
from services.ingestion.handler import IngestionHandler
from services.ingestion.intake import EVENT_INTAKE, Intake
from services.ingestion.settings import IngestionSettings
from services.mesh.adapters.memory import Crash, ManualClock, MemoryBroker, MemoryLog, MemoryRedis, MemoryStore
from services.mesh.codec import Codec, schema
from services.mesh.pace import AT_ONCE
from services.mesh.partitioner import Partitioner
from services.mesh.ports import InRecord
from services.mesh.records import Event
from services.mesh.runtime import StageRuntime
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DEAD_LETTERS

NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WRITER_SCHEMAS = {schema("payments/event_raw.v1.avsc").id: schema("payments/event_raw.v1.avsc").raw}


def payment(event_id: str = "e-1", customer_id: str = "c-1", **fields: Any) -> dict[str, Any]:
    """A valid event."""
    return {
        "event_id": event_id,
        "customer_id": customer_id,
        "terminal_id": "t-1",
        "event_time_ms": NOW_MS,
        "amount_minor": 1_250,
        **fields,
    }


def settings(partitions: int, rules: ClockRules | None = None) -> IngestionSettings:
    return IngestionSettings(
        rules=rules or ClockRules(), redis="", partitions=partitions, seen_memory_bytes=512 << 20, schema_registry=""
    )


class MemoryReader:
    """``AcceptedLog`` on a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self.looked_at = 0

    def ends(self, partition: int) -> tuple[int, int]:
        records = self._broker.records.get((self._topic, partition), [])
        return (records[0].offset, records[-1].offset + 1) if records else (0, 0)

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        records = self._broker.records.get((self._topic, partition), [])
        found = [record for record in records if start <= record.offset < end]
        self.looked_at += len(found)
        if found:
            yield found


class _DrainingLog(MemoryLog):
    """Stops its runtime once two polls in a row find nothing."""

    runtime: StageRuntime
    empty = 0

    def poll(self, records_max: int, wait_ms: int) -> list[InRecord]:
        batch = super().poll(records_max, wait_ms)
        self.empty = 0 if batch else self.empty + 1
        if self.empty >= 4:
            self.runtime.stop.set()
        return batch


class World:
    """What outlives a process."""

    def __init__(self, partitions: int = 2, rules: ClockRules | None = None, intake: Intake = EVENT_INTAKE) -> None:
        self.intake = intake
        self.clock = ManualClock(NOW_MS)
        self.broker = MemoryBroker(partitions, self.clock)
        self.redis = MemoryRedis()
        self.accepted_log = MemoryReader(self.broker, intake.accepted.name)
        self.settings = settings(partitions, rules)
        self.telemetry = StageTelemetry(intake.stage.name, self.clock)
        self.crashes = 0

    def send(self, event: dict[str, Any] | bytes | None, **record: Any) -> InRecord:
        """Produce ``event`` as a sender would, keyed by its customer unless told otherwise."""
        value = orjson.dumps(event) if isinstance(event, dict) else event
        if isinstance(event, dict):
            record.setdefault("key", str(event["customer_id"]).encode())
        record.setdefault("key", None)
        return self.broker.produce(self.intake.raw.name, value=value, **record)

    def handler(self, crash: Callable[[str], None] | None = None, log: MemoryLog | None = None) -> IngestionHandler:
        log = log or MemoryLog(self.broker, self.intake.stage.name, self.intake.raw.name)
        return IngestionHandler(
            self.settings,
            store=MemoryStore(self.redis, self.clock, crash),
            read_raw=log.read,
            accepted=self.accepted_log,
            writer_schemas={schema(file).id: schema(file).raw for file in self.intake.raw.schemas},
            clock=self.clock,
            metrics=self.telemetry.metrics,
            intake=self.intake,
        )

    def drain(self, crash: Callable[[str], None] | None = None, batch_records_max: int = 500, slot: str = "0") -> bool:
        """Run one process until its input is used up or ``crash`` kills it; whether it lived."""
        log = _DrainingLog(self.broker, self.intake.stage.name, self.intake.raw.name, slot, crash)
        runtime = log.runtime = StageRuntime(
            self.intake.stage,
            log,
            lambda: self.handler(crash, log),
            self.clock,
            self.telemetry,
            pace=AT_ONCE._replace(batch_records_max=batch_records_max),
        )
        try:
            runtime.run()
        except Crash:
            self.crashes += 1
            return False
        return True

    def events(self) -> list[Event]:
        """The accepted topic, decoded."""
        codec = Codec(self.intake.schema_file)
        found = self.broker.all_records(self.intake.accepted.name)
        return [codec.decode(record.value) for record in found]  # type: ignore[misc]

    def accepted(self) -> list[tuple[int, int]]:
        """(partition, offset) in the raw topic of every accepted event."""
        return [(event["source_partition"], event["source_offset"]) for event in self.events()]

    def rejects(self) -> list[tuple[int, int, str]]:
        """(partition, offset, code) of every dead letter."""
        found = []
        for record in self.broker.all_records(DEAD_LETTERS.name):
            headers = dict(record.headers)
            place = (int(headers["origin_partition"] or b""), int(headers["origin_offset"] or b""))
            found.append((*place, (headers["error_code"] or b"").decode()))
        return found

    def codes(self) -> list[str]:
        return [code for _, _, code in self.rejects()]


def customers_of(partition: int, partitions: int, count: int) -> list[str]:
    """Ids of customers whom ``partition`` owns."""
    partitioner = Partitioner(partitions)
    names = (f"c-{n}" for n in range(100_000))
    return list(islice((name for name in names if partitioner.partition_of(name.encode()) == partition), count))
