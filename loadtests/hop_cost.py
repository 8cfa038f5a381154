"""What thinking costs each hop, in one process, without broker and Redis: ``python -m loadtests.hop_cost --help``.

Payments of the simulated world go through the five real handlers in the real runtime, batch by batch; the log hands
over records that are already in memory and the store is a dict. What is missing beside ``loadtests.mesh`` is what the
client libraries take: reading, producing, the transaction, the round trip to Redis. Figures are CPU time per event.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files

from loadtests.payloads import payments
from services.decisions.desk import PolicyDesk
from services.decisions.handler import DecisionsHandler
from services.decisions.policy import load_policy
from services.features.definitions import load_feature_set
from services.features.handler import FeaturesHandler
from services.features.settings import FeaturesSettings
from services.features.views import adapter_of
from services.ingestion.handler import IngestionHandler
from services.ingestion.settings import IngestionSettings
from services.mesh.adapters.memory import (
    ManualClock,
    MemoryBroker,
    MemoryJournal,
    MemoryRedis,
    MemoryStore,
)
from services.mesh.codec import Codec, schema
from services.mesh.feature_set import pinned_feature_set
from services.mesh.partitioner import Partitioner
from services.mesh.ports import Assignment, CommittedOffset, InRecord, OutRecord
from services.mesh.runtime import StageRuntime
from services.mesh.settings import Environment
from services.mesh.stage import Handler
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DATA_PARTITIONS_DEFAULT, EVENTS_RAW, MODELS, POLICIES
from services.mesh.topology import (
    DECIDING,
    EVENT_CHAIN,
    FEATURES_CUSTOMER,
    INGESTION,
    SCORING,
    Stage,
)
from services.scoring.bootstrap import declared_bootstrap
from services.scoring.desk import ModelDesk
from services.scoring.handler import ScoringHandler
from services.scoring.settings import ScoringSettings

NOW_MS = 1_900_000_000_000
HOPS = EVENT_CHAIN
_DEFINITIONS = "payments/features.yaml"


class Tape:
    """A log that plays prepared batches and keeps what is committed."""

    def __init__(self, partitions: int, batches: Sequence[list[InRecord]]) -> None:
        self._batches = iter(batches)
        self._assignment: Assignment | None = Assignment(
            {partition: CommittedOffset(None, "") for partition in range(partitions)}, ()
        )
        self.outputs: list[OutRecord] = []

    def open(self) -> None:
        """See the port."""

    def close(self) -> None:
        """See the port."""

    def poll(self, records_max: int, wait_ms: int) -> list[InRecord]:
        """The next prepared batch; empty when there is none."""
        return next(self._batches, [])

    def take_assignment(self) -> Assignment | None:
        """Every partition, once."""
        change, self._assignment = self._assignment, None
        return change

    def commit(self, outputs: Sequence[OutRecord], offsets: Mapping[int, CommittedOffset]) -> None:
        """Keep the outputs."""
        self.outputs += outputs

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        """There is no past."""
        return iter(())

    def ends(self, partition: int) -> tuple[int, int]:
        """Nothing was accepted before."""
        return 0, 0

    def pause(self, partitions: Sequence[int]) -> None:
        """See the port."""


class World:
    """What the handlers need beside their log."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.clock = ManualClock(NOW_MS)
        self.broker = MemoryBroker(partitions, self.clock)
        policy = files("schemas").joinpath("payments/policy.yaml").read_text(encoding="utf-8")
        version = load_policy(policy, "policy.yaml", pinned_feature_set().names).version
        release = {"policy_version": version, "author": "loadtests", "why": "hop cost", "policy": policy}
        self.broker.produce(POLICIES.name, b"policy", Codec(POLICIES.schemas[0]).encode(release), 0)
        definitions = files("schemas").joinpath(_DEFINITIONS).read_text(encoding="utf-8")
        self.features = load_feature_set(definitions, f"schemas/{_DEFINITIONS}")
        self.environment = Environment({"WEIR_PARTITIONS": str(partitions)})

    def handler_of(self, stage: Stage, telemetry: StageTelemetry) -> Callable[[], Handler]:
        """The real handler of ``stage`` on twins."""
        store = MemoryStore(MemoryRedis(), self.clock)
        pin, empty = pinned_feature_set(), Tape(self.partitions, ())
        if stage is INGESTION:
            pinned = schema(EVENTS_RAW.schemas[0])
            return lambda: IngestionHandler(
                IngestionSettings.read(self.environment),
                store=store,
                read_raw=empty.read,
                accepted=empty,
                writer_schemas={pinned.id: pinned.raw},
                clock=self.clock,
                metrics=telemetry.metrics,
            )
        if stage is SCORING:
            models = MemoryJournal(self.broker, MODELS.name)
            desk = ModelDesk(models, (), pin, declared_bootstrap(pin), self.clock, telemetry)
            desk.open()
            return lambda: ScoringHandler(desk, pin, ScoringSettings.read(self.environment), telemetry)
        if stage is DECIDING:
            policies = PolicyDesk(MemoryJournal(self.broker, POLICIES.name), pin, telemetry)
            policies.open()
            return lambda: DecisionsHandler(policies, pin, telemetry)
        adapter = adapter_of("customer" if stage is FEATURES_CUSTOMER else "terminal", self.features)
        settings = FeaturesSettings.read(self.environment)
        return lambda: FeaturesHandler(stage.name, adapter, store, empty.read, self.clock, telemetry, settings)


def batched(records: Sequence[InRecord], size: int) -> list[list[InRecord]]:
    """In arrival order, each batch grouped by partition, as a poll hands it over."""
    groups = [records[start : start + size] for start in range(0, len(records), size)]
    return [sorted(group, key=lambda record: record.partition) for group in groups]


def appended(outputs: Sequence[OutRecord], partitioner: Partitioner) -> list[InRecord]:
    """``outputs`` as the next hop reads them."""
    offsets: dict[int, int] = {}
    records = []
    for topic, key, value, chosen, headers in outputs:
        partition = partitioner.partition_of(key or b"") if chosen is None else chosen
        offset = offsets[partition] = offsets.get(partition, -1) + 1
        records.append(InRecord(topic, partition, offset, NOW_MS, key, value, headers))
    return records


def cost_us(stage: Stage, world: World, records: Sequence[InRecord], size: int, warm: int) -> tuple[float, Tape]:
    """CPU microseconds an event of ``stage`` after the first ``warm`` records, and the tape with its outputs."""
    tape = Tape(world.partitions, batched(records, size))
    telemetry = StageTelemetry(stage.name, world.clock)
    runtime = StageRuntime(stage, tape, world.handler_of(stage, telemetry), world.clock, telemetry)
    runtime.begin()
    taken = 0
    while taken < warm:
        taken += runtime.turn()
    gc.collect()
    began_s, counted = time.process_time(), 0
    while batch := runtime.turn():
        counted += batch
    spent_s = time.process_time() - began_s
    runtime.end()
    return 1e6 * spent_s / counted, tape


def raw_records(events: int, partitions: int, seed: int) -> list[InRecord]:
    """``events`` payments as they lie in ``events.raw.v1``."""
    load = payments("h", events, (0, 0), seed)
    sent = [OutRecord(EVENTS_RAW.name, key, value, None, []) for key, value in zip(load.keys, load.values, strict=True)]
    return appended(sent, Partitioner(partitions))


def main(arguments: list[str] | None = None) -> int:
    """Print the table; status 1 when a hop lost something on the way."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.hop_cost", description=__doc__)
    add = parser.add_argument
    add("--events", type=int, default=40_000, help="of which half warm the state (default: 40000)")
    add("--batch", type=int, default=100, help="records of a batch (default: 100)")
    add("--partitions", type=int, default=DATA_PARTITIONS_DEFAULT)
    add("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    world, partitioner = World(given.partitions), Partitioner(given.partitions)
    records = raw_records(given.events, given.partitions, given.seed)
    total_us, is_whole = 0.0, True
    for stage in HOPS:
        gc.freeze()
        spent_us, tape = cost_us(stage, world, records, given.batch, given.events // 2)
        total_us += spent_us
        records = appended([out for out in tape.outputs if out.topic == stage.produces[0].name], partitioner)
        is_whole = is_whole and len(records) == given.events
        print(f"{stage.name:20} {spent_us:6.1f} us an event, {len(records):,} records on")
    print(f"{'all hops':20} {total_us:6.1f} us an event, batches of {given.batch}")
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
