"""Feedback on the in-memory twins and on real files: what outlives its processes, and inputs made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from services.feedback.handler import FeedbackHandler
from services.feedback.settings import FeedbackSettings, JoinRules
from services.mesh.adapters.memory import Crash, ManualClock, MemoryBroker, MemoryLog
from services.mesh.codec import Codec
from services.mesh.errors import Transient
from services.mesh.headers import WEIR, Hop, pack_hop
from services.mesh.pace import AT_ONCE
from services.mesh.ports import CommittedOffset, InRecord, OutRecord
from services.mesh.runtime import StageRuntime
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DECISIONS, LABELS, OUTCOMES, OUTCOMES_ORPHAN, UPDATES_TERMINAL
from services.mesh.topology import FEEDBACK

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_700_000_000_000
EXAMPLE = json.loads(
    (Path(__file__).parents[3] / "schemas/examples/decision.v1/ordinary.json").read_text(), parse_float=float
)
DECISION, OUTCOME = Codec("decision.v1.avsc"), Codec("payments/outcome.v1.avsc")
LABELLED, ORPHAN, UPDATE = (
    Codec(file) for file in ("labelled.v1.avsc", "outcome_orphan.v1.avsc", "terminal_update.v1.avsc")
)
RULES = JoinRules()


def at(days: float) -> int:
    """So many days after the start."""
    return START_MS + int(days * DAY_MS)


def decision(event_id: str, days: float = 0.0, customer_id: str = "c-1", **fields: Any) -> dict[str, Any]:
    return {
        **EXAMPLE,
        "vector": b"\1\2\3\4",
        "event_id": event_id,
        "customer_id": customer_id,
        "event_time_ms": at(days),
        **fields,
    }


def outcome(outcome_id: str, event_id: str, days: float, label: str = "fraud", **fields: Any) -> dict[str, Any]:
    return {
        "outcome_id": outcome_id,
        "event_id": event_id,
        "customer_id": "c-1",
        "label": label,
        "source": "chargeback",
        "observed_time_ms": at(days),
        "revises": None,
        "source_partition": 0,
        "source_offset": 7,
        "raw_append_time_ms": 1_900_000_000_000,
        **fields,
    }


class Torn(MemoryLog):
    """A log whose commit may tear: outputs become visible, the offsets do not move (KIP-890 describes how)."""

    faults: Callable[[str], None] = staticmethod(lambda point: None)

    def commit(self, outputs: Sequence[OutRecord], offsets: Any) -> None:
        try:
            self.faults("torn")
        except Transient:
            self._broker.commit(self._group, outputs, {})
            raise
        super().commit(outputs, offsets)


class Reader:
    """A topic as a reader outside any group sees it."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self.looked_at = 0

    def ends(self, partition: int) -> tuple[int, int]:
        records = self._broker.records.get((self._topic, partition), [])
        return (records[0].offset, records[-1].offset + 1) if records else (0, 0)

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        for record in self._broker.records.get((self._topic, partition), []):
            if start <= record.offset < end:
                self.looked_at += 1
                yield [record]


class World:
    """One broker, one directory, and one process at a time."""

    def __init__(self, directory: Path, partitions: int = 1, rules: JoinRules = RULES) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(partitions, self.clock)
        self.settings = FeedbackSettings(directory=directory, rules=rules, cache_bytes=1 << 20)
        self.telemetry = StageTelemetry(FEEDBACK.name, self.clock)
        self.labels_log = Reader(self.broker, LABELS.name)
        self.orphans_log = Reader(self.broker, OUTCOMES_ORPHAN.name)
        self.faults: Callable[[str], None] = lambda point: None
        self.handlers: list[FeedbackHandler] = []
        self._sent: dict[tuple[str, int], int] = {}
        self._runtime: StageRuntime | None = None

    def decide(self, *decisions: dict[str, Any]) -> None:
        for one in decisions:
            self._send(DECISIONS.name, one["customer_id"], DECISION.encode(one))

    def observe(self, *outcomes: dict[str, Any]) -> None:
        for one in outcomes:
            self._send(OUTCOMES.name, one["customer_id"], OUTCOME.encode(one))

    def repeat_latest_decision(self) -> None:
        """As a torn transaction of the hop before leaves it: the same record once more, under the same hop."""
        latest = self.broker.all_records(DECISIONS.name)[-1]
        self.broker.produce(DECISIONS.name, latest.key, latest.value, latest.partition, latest.headers)

    def turn(self, records_max: int = 500) -> int:
        """One turn of the process, started when there is none; an error opens it anew, a crash ends it."""
        runtime = self._runtime
        try:
            if runtime is None:
                runtime = self._runtime = self._started("0")
            runtime._pace = runtime._pace._replace(batch_records_max=records_max)
            return runtime.turn()
        except Transient:
            assert self._runtime is not None
            self._runtime.end()
            self._runtime = None
            return 1
        except Crash:
            self.kill()
            return 1

    def settle(self) -> None:
        """Turn until nothing moves."""
        quiet = 0
        while quiet < 3:
            quiet = 0 if self.turn() else quiet + 1

    def kill(self) -> None:
        """The process is gone, with whatever it had not committed."""
        self._runtime = None
        while self.handlers:
            self.handlers.pop().close()

    def lose_files(self) -> None:
        self.kill()
        for path in self.settings.directory.glob("*"):
            path.unlink()

    def started(self, slot: str = "0") -> StageRuntime:
        """A process of its own, to be driven by hand."""
        return self._started(slot)

    def labels(self) -> list[dict[str, Any]]:
        return [LABELLED.decode(record.value) for record in self.broker.all_records(LABELS.name)]

    def label_marks(self) -> list[tuple[str, str | None, str, int]]:
        """(event, outcome, label, version) of every label, in order."""
        return [(one["event_id"], one["outcome_id"], one["label"], one["label_version"]) for one in self.labels()]

    def orphans(self) -> list[tuple[str, str]]:
        """(outcome, reason) of every orphan, in order."""
        found = [ORPHAN.decode(record.value) for record in self.broker.all_records(OUTCOMES_ORPHAN.name)]
        return [(one["outcome_id"], one["orphan_reason"]) for one in found]

    def updates(self) -> list[tuple[str, str, int]]:
        """(event, label, version) of everything that terminals were told, in order."""
        found = [UPDATE.decode(record.value)["update"] for record in self.broker.all_records(UPDATES_TERMINAL.name)]
        return [(one["event_id"], one["label"], one["label_version"]) for one in found]

    def waiting(self) -> int:
        return sum(joiner.waiting for joiner in self.handlers[-1]._joiners.values())

    def handler(self, log: MemoryLog) -> FeedbackHandler:
        while self.handlers:
            self.handlers.pop().close()
        made = FeedbackHandler(
            self.settings,
            log="a-log",
            read=log.read,
            labels=self.labels_log,
            orphans=self.orphans_log,
            clock=self.clock,
            telemetry=self.telemetry,
        )
        self.handlers.append(made)
        return made

    def committed(self) -> dict[int, CommittedOffset]:
        return dict(self.broker.groups[FEEDBACK.name].offsets)

    def _started(self, slot: str) -> StageRuntime:
        log = Torn(
            self.broker, FEEDBACK.name, [t.name for t in FEEDBACK.inputs], slot, lambda point: self.faults(point)
        )
        log.faults = lambda point: self.faults(point)
        runtime = StageRuntime(
            FEEDBACK,
            log,
            lambda: self.handler(log),
            self.clock,
            self.telemetry,
            pace=AT_ONCE._replace(batch_wait_ms=1),
        )
        runtime.begin()
        return runtime

    def _send(self, topic: str, customer_id: str, value: bytes) -> None:
        key = customer_id.encode()
        partition = self.broker.partitioner.partition_of(key)
        offset = self._sent.get((topic, partition), 0)
        self._sent[topic, partition] = offset + 1
        hop = pack_hop(Hop(partition, offset, partition, offset, 0))
        self.broker.produce(topic, key, value, None, [("traceparent", b"00-t"), (WEIR, hop)])
