"""The loop closed: outcomes come in at their own door, are joined, and change features; whatever happens meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from history import play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verdict import check
from whole_mesh import Faults, Mesh, Process, _Reader

from services.feedback.handler import FeedbackHandler
from services.feedback.settings import FeedbackSettings, JoinRules
from services.ingestion.handler import IngestionHandler
from services.ingestion.intake import OUTCOMES_INTAKE
from services.ingestion.settings import IngestionSettings
from services.mesh.adapters.memory import MemoryLog, MemoryRedis, MemoryStore
from services.mesh.codec import Codec, schema
from services.mesh.feature_set import pinned_feature_set
from services.mesh.prefix import prefix_of
from services.mesh.settings import Environment
from services.mesh.stage import Handler
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DECISIONS, LABELS, OUTCOMES, OUTCOMES_ORPHAN, OUTCOMES_RAW, UPDATES_TERMINAL, Topic
from services.mesh.topology import FEEDBACK, OUTCOME_INTAKE, REVIEW, STAGES, Stage
from services.platform.outcome_account import OutcomeLedger, settle_outcomes

DAY_MS = 86_400_000


class LoopMesh(Mesh):
    """All stages that make labels; a label is what comes of an outcome."""

    stages = tuple(stage for stage in STAGES if stage is not REVIEW)

    def __init__(self, directory: Path, partitions: int, feature_wait_ms_max: int = 20, entities_max: int = 6) -> None:
        self.directory = directory
        self._handlers: dict[Faults, FeedbackHandler] = {}
        self._told = 0
        super().__init__(partitions, feature_wait_ms_max, entities_max)
        self.redis["ingestion-outcomes"] = MemoryRedis()

    def label(self, update: dict[str, Any]) -> None:
        outcome = {
            "outcome_id": f"{update['event_id']}/{update['label_version']}",
            "event_id": update["event_id"],
            "customer_id": update["customer_id"],
            "label": update["label"],
            "source": "analyst",
            "observed_time_ms": update["observed_time_ms"],
        }
        self._told += 1
        if self._told % 5 == 0:
            outcome["event_id"] = f"nobody's {self._told}"
        self.broker.produce(OUTCOMES_RAW.name, update["customer_id"].encode(), orjson.dumps(outcome))

    def let_go(self, process: Process) -> None:
        handler = self._handlers.pop(process.faults, None)
        if handler is not None:
            handler.close()

    def close(self) -> None:
        for handler in self._handlers.values():
            handler.close()

    def handlers(
        self, stage: Stage, log: MemoryLog, telemetry: StageTelemetry, faults: Faults
    ) -> Callable[[], Handler]:
        if stage is OUTCOME_INTAKE:
            return lambda: self._outcome_intake(log, telemetry, faults)
        if stage is FEEDBACK:
            return lambda: self._feedback(log, telemetry, faults)
        return super().handlers(stage, log, telemetry, faults)

    def _outcome_intake(self, log: MemoryLog, telemetry: StageTelemetry, faults: Faults) -> IngestionHandler:
        raw = schema("payments/outcome_raw.v1.avsc")
        return IngestionHandler(
            IngestionSettings.read(Environment({"WEIR_INTAKE": "outcomes", "WEIR_PARTITIONS": str(self.partitions)})),
            store=MemoryStore(self.redis["ingestion-outcomes"], self.clock, faults),
            read_raw=log.read,
            accepted=_Reader(self.broker, OUTCOMES.name),
            writer_schemas={raw.id: raw.raw},
            clock=self.clock,
            metrics=telemetry.metrics,
            intake=OUTCOMES_INTAKE,
        )

    def _feedback(self, log: MemoryLog, telemetry: StageTelemetry, faults: Faults) -> FeedbackHandler:
        rules = JoinRules(patience_ms=DAY_MS, maturity_ms=20 * DAY_MS, memory_ms=400 * DAY_MS)
        self._handlers[faults] = FeedbackHandler(
            FeedbackSettings(directory=self.directory, rules=rules, cache_bytes=1 << 20),
            log="a-log",
            read=log.read,
            labels=_Reader(self.broker, LABELS.name),
            orphans=_Reader(self.broker, OUTCOMES_ORPHAN.name),
            clock=self.clock,
            telemetry=telemetry,
        )
        return self._handlers[faults]


def account(mesh: Mesh) -> OutcomeLedger:
    def read(topic: Topic, starts: Mapping[int, int] | None) -> Iterable[Any]:
        return [_Message(record.value, record.headers) for record in mesh.broker.all_records(topic.name)] * (not starts)

    decided = {prefix_of(record.value or b"") for record in mesh.broker.all_records(DECISIONS.name)}
    taken = {name: dict.fromkeys(range(9), 1 << 40) for name in (OUTCOMES.name, OUTCOMES_RAW.name, DECISIONS.name)}
    return settle_outcomes(read, taken, decided)


class _Message:
    def __init__(self, value: bytes | None, headers: Any) -> None:
        self._value, self._headers = value, headers

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Any:
        return self._headers

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0


def history(seed: int, steps: int, torn: bool = False) -> OutcomeLedger:
    random = Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        mesh = LoopMesh(Path(directory), random.randint(1, 3), random.choice((20, 3_000)))
        try:
            play(mesh, random, steps, torn)
            mesh.settle()
            check(mesh, torn)
            ledger = account(mesh)
        finally:
            mesh.close()
    assert ledger.is_good, ledger
    assert ledger.joined + sum(ledger.orphans.values()) + ledger.pending == ledger.accepted
    return ledger


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), steps=st.integers(20, 120), torn=st.booleans())
def test_each_outcome_is_in_one_place_and_features_equal_the_log(seed: int, steps: int, torn: bool) -> None:
    history(seed, steps, torn)


def test_the_histories_reach_every_place() -> None:
    ledgers = [history(seed, 120) for seed in range(3)]
    assert sum(ledger.joined for ledger in ledgers) > 10
    assert sum(ledger.matured for ledger in ledgers) > 10
    assert sum(sum(ledger.orphans.values()) + ledger.pending for ledger in ledgers) > 0


@pytest.mark.parametrize("label", ["fraud", "genuine"])
def test_an_outcome_changes_the_next_features_of_its_terminal(tmp_path: Path, label: str) -> None:
    mesh = LoopMesh(tmp_path, 2)
    start_ms = 1_790_000_000_000

    def pay(event_id: str, customer_id: str, days: float) -> None:
        mesh.send(
            {
                "event_id": event_id, "customer_id": customer_id, "terminal_id": "t-1",
                "event_time_ms": start_ms + int(days * DAY_MS), "amount_minor": 100,
            }
        )  # fmt: skip
        mesh.settle()

    pay("e-1", "c-1", 0)
    mesh.label(
        {"event_id": "e-1", "customer_id": "c-1", "label": label, "label_version": 1,
         "observed_time_ms": start_ms + DAY_MS}
    )  # fmt: skip
    mesh.settle()
    pay("e-2", "c-2", 0.5)
    updates = [Codec("terminal_update.v1.avsc").decode(r.value) for r in mesh.broker.all_records(UPDATES_TERMINAL.name)]
    assert sum("label" in update["update"] for update in updates) == 1
    vectors = {
        features["event_id"]: dict(zip(pinned_feature_set().names, _floats(features["vector"]), strict=True))
        for features in (Codec("features.v1.avsc").decode(r.value) for r in mesh.broker.all_records("features.v1"))
    }
    name = "terminal_known_labels_7d"
    assert (vectors["e-1"][name], vectors["e-2"][name]) == (0, 1)
    assert vectors["e-2"]["terminal_known_fraud_rate_7d"] == (label == "fraud")
    check(mesh)
    mesh.close()


def _floats(vector: bytes) -> list[float]:
    return [float(value) for value in memoryview(vector).cast("f")]
