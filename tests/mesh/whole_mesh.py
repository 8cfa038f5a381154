"""The data plane in one process, on the twins, at the mercy of whoever drives it.

Real runtimes, real handlers, real kernels; only the log, the store and the clock are twins. A process is a slot of a
stage; it dies where it is told to, is started again on its next turn, and meets whatever its predecessor left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from services.decisions.checkpoint import Restorer
from services.decisions.desk import PolicyDesk
from services.decisions.handler import DecisionsHandler
from services.decisions.policy import load_policy
from services.features.definitions import FeatureSet, load_feature_set
from services.features.handler import FeaturesHandler
from services.features.settings import FeaturesSettings
from services.features.views import adapter_of
from services.ingestion.event_clock import ClockRules
from services.ingestion.handler import IngestionHandler
from services.ingestion.settings import IngestionSettings
from services.mesh.adapters.memory import (
    Crash,
    ManualClock,
    MemoryBroker,
    MemoryJournal,
    MemoryLog,
    MemoryRedis,
    MemoryStore,
)
from services.mesh.codec import Codec, schema
from services.mesh.errors import Transient
from services.mesh.feature_set import FeatureSetPin, pinned_feature_set
from services.mesh.headers import LANE, WEIR, Hop, pack_hop
from services.mesh.pace import AT_ONCE
from services.mesh.ports import CommittedOffset, InRecord, OutRecord
from services.mesh.runtime import StageRuntime
from services.mesh.stage import Handler
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DECISIONS, EVENTS, EVENTS_RAW, MODELS, POLICIES, UPDATES_TERMINAL
from services.mesh.topology import EVENT_CHAIN, Stage
from services.mesh.watermark import Marks
from services.scoring.bootstrap import declared_bootstrap
from services.scoring.desk import ModelDesk
from services.scoring.handler import ScoringHandler
from services.scoring.settings import ScoringSettings

NOW_MS = 1_800_000_000_000
FEATURES_TEXT = files("schemas").joinpath("payments/features.yaml").read_text()
POLICY_TEXT = files("schemas").joinpath("payments/policy.yaml").read_text()
VIEWS = {"features-customer": "customer", "features-terminal": "terminal"}
_LABEL_LANE = 1


@cache
def feature_set(exact_events_max: int, memory: str = "1G") -> FeatureSet:
    """The declared features, but for how much is kept one by one, of an entity and of all: little, so that tiles come
    up."""
    text = FEATURES_TEXT.replace("exact_events_max: 4096", f"exact_events_max: {exact_events_max}")
    text = text.replace("memory: 1G", f"memory: {memory}")
    return load_feature_set(text, "features.yaml")


@cache
def pinned(features: FeatureSet) -> FeatureSetPin:
    return replace(pinned_feature_set(), content_hash=features.content_hash)


@cache
def _telemetry(stage: str, clock: ManualClock) -> StageTelemetry:
    return StageTelemetry(stage, clock)


class Faults:
    """What goes wrong in one process: the point, and what happens there, once."""

    def __init__(self) -> None:
        self.armed: dict[str, BaseException] = {}
        self.struck = 0

    def __call__(self, point: str) -> None:
        error = self.armed.pop(point, None)
        if error is not None:
            self.struck += 1
            raise error


class MeshLog(MemoryLog):
    """A log whose commit may also tear: outputs become visible, the offsets do not move (KIP-890 describes how)."""

    def __init__(self, mesh: Mesh, stage: Stage, slot: str, faults: Faults) -> None:
        super().__init__(mesh.broker, stage.name, [topic.name for topic in stage.inputs], slot, faults)
        self._mesh = mesh
        self._faults = faults

    def commit(self, outputs: Sequence[OutRecord], offsets: Any) -> None:
        try:
            self._faults("torn")
        except Transient:
            self._broker.commit(self._group, outputs, {})
            raise
        super().commit(outputs, offsets)


class Process:
    """One slot of one stage; ``turn`` restarts it when it has died."""

    def __init__(self, mesh: Mesh, stage: Stage, slot: str) -> None:
        self.mesh = mesh
        self.stage = stage
        self.slot = slot
        self.faults = Faults()
        self._runtime: StageRuntime | None = None
        self._session = False

    def turn(self, records_max: int = 500) -> int:
        """One turn of the loop, with whatever is armed; records that it took."""
        runtime = self._runtime or self._start()
        runtime._pace = runtime._pace._replace(batch_records_max=records_max)
        try:
            if not self._session:
                self._session = True
                runtime.begin()
            return runtime.turn()
        except Transient:
            runtime.end()
            self._session = False
            self.mesh.let_go(self)
        except Crash:
            self._runtime, self._session = None, False
            self.mesh.let_go(self)
        return 1

    def leave(self) -> None:
        """End gracefully and for good."""
        if self._session and self._runtime is not None:
            self._runtime.end()
        self._runtime, self._session = None, False
        self.mesh.let_go(self)
        self.expire()

    def expire(self) -> None:
        """Its session at the broker ends; it may not know, and go on for a while."""
        group = self.mesh.broker.groups.get(self.stage.name)
        if group is not None and group.members.pop(self.slot, None) is not None:
            group.generation += 1

    def _start(self) -> StageRuntime:
        mesh = self.mesh
        log = mesh.make_log(mesh, self.stage, self.slot, self.faults)
        telemetry = _telemetry(self.stage.name, mesh.clock)
        make = mesh.handlers(self.stage, log, telemetry, self.faults)
        self._runtime = mesh.make_runtime(
            self.stage, log, make, mesh.clock, telemetry, pace=AT_ONCE._replace(batch_wait_ms=1)
        )
        return self._runtime


class Mesh:
    """Everything that outlives a process, and the processes."""

    make_log: type[MeshLog] = MeshLog
    make_runtime: type[StageRuntime] = StageRuntime
    make_features: type[FeaturesHandler] = FeaturesHandler
    make_store: type[MemoryStore] = MemoryStore
    stages: tuple[Stage, ...] = EVENT_CHAIN

    def __init__(
        self,
        partitions: int = 3,
        feature_wait_ms_max: int = 20,
        entities_max: int = 6,
        exact_events_max: int = 4_096,
        memory: str = "1G",
    ) -> None:
        self.feature_set = feature_set(exact_events_max, memory)
        self._pinned = pinned(self.feature_set)
        self.clock = ManualClock(NOW_MS)
        self.broker = MemoryBroker(partitions, self.clock)
        self.redis = {name: MemoryRedis() for name in ("ingestion", "customer", "terminal")}
        self.partitions = partitions
        self.processes: dict[str, list[Process]] = {}
        self._wait_ms_max = feature_wait_ms_max
        self._entities_max = entities_max
        self._update = Codec("terminal_update.v1.avsc")
        self._labels = 0
        self._publish_policy()
        for stage in self.stages:
            self.scale(stage.name, 1)

    def scale(self, stage_name: str, slots: int) -> None:
        """Run ``slots`` processes of a stage."""
        stage = next(stage for stage in self.stages if stage.name == stage_name)
        running = self.processes.setdefault(stage_name, [])
        while len(running) > slots:
            running.pop().leave()
        while len(running) < slots:
            running.append(Process(self, stage, str(len(running))))

    def send(self, event: dict[str, Any]) -> None:
        """An event, as an outside producer would send it."""
        self.broker.produce(EVENTS_RAW.name, event["customer_id"].encode(), orjson.dumps(event))

    def label(self, update: dict[str, Any]) -> None:
        """A label, as the feedback service will send it: from a lane of its own."""
        hop = Hop(0, 0, _LABEL_LANE * LANE, self._labels, 0)
        self._labels += 1
        key = update["terminal_id"].encode()
        value = self._update.encode({"update": ("weir.LabelUpdate", update)})
        self.broker.produce(UPDATES_TERMINAL.name, key, value, None, [(WEIR, pack_hop(hop))])

    def let_go(self, process: Process) -> None:
        """A process's session has ended: what the operating system would take back from it."""

    def settle(self) -> None:
        """Nothing goes wrong any more: turn until nothing moves, and every quiet partition has looked at its store."""
        for redis in self.redis.values():
            redis.reachable = True
        quiet = 0
        for _ in range(2_000):
            moved = 0
            for running in self.processes.values():
                for process in running:
                    process.faults.armed.clear()
                    moved += process.turn()
            self.clock.advance_ms(1_000)
            quiet = 0 if moved else quiet + 1
            if quiet >= 12:  # a store that was away is asked again after 5 s
                return
        raise AssertionError("the mesh does not come to rest")

    def handlers(
        self, stage: Stage, log: MemoryLog, telemetry: StageTelemetry, faults: Faults
    ) -> Callable[[], Handler]:
        if stage.name == "ingestion":
            return lambda: self._ingestion(log, telemetry, faults)
        if stage.name in VIEWS:
            return lambda: self.features(stage.name, log, telemetry, faults)
        if stage.name == "scoring":
            desk = ModelDesk(
                MemoryJournal(self.broker, MODELS.name),
                [],
                self._pinned,
                declared_bootstrap(self._pinned),
                self.clock,
                telemetry,
            )
            desk.open()
            settings = ScoringSettings(public_key_files=(), explain_score_min=0.05, explain_rows_max=25, reasons_max=5)
            return lambda: ScoringHandler(desk, self._pinned, settings, telemetry)
        policies = PolicyDesk(MemoryJournal(self.broker, POLICIES.name), self._pinned, telemetry)
        policies.open()
        decided = Restorer(_Reader(self.broker, DECISIONS.name), policies.library.get)
        return lambda: DecisionsHandler(policies, self._pinned, telemetry, "0", decided, self.partitions)

    def replay(self, stage: str, ends: dict[int, CommittedOffset]) -> MemoryRedis:
        """What a replay of the whole log leaves in an empty store."""
        telemetry = _telemetry(stage, self.clock)
        topic = next(known.consumes.name for known in EVENT_CHAIN if known.name == stage)
        empty = MemoryRedis()
        live, self.redis[VIEWS[stage]] = self.redis[VIEWS[stage]], empty
        handler = self.features(stage, MemoryLog(self.broker, "replay", topic), telemetry, Faults())
        self.redis[VIEWS[stage]] = live
        for partition, committed in ends.items():
            handler.assign(partition, committed, Marks())
        while any(owned.phase != "ready" for owned in handler._owned.values()):
            handler.idle()
        return empty

    def features(self, stage: str, log: MemoryLog, telemetry: StageTelemetry, faults: Faults) -> FeaturesHandler:
        view = VIEWS[stage]
        settings = FeaturesSettings(
            view=view,
            redis="",
            entities_max=self._entities_max,
            feature_wait_ms_max=self._wait_ms_max,
            partitions_expected=self.partitions,
        )
        return self.make_features(
            stage,
            adapter_of(view, self.feature_set),
            self.make_store(self.redis[view], self.clock, faults),
            log.read,
            self.clock,
            telemetry,
            settings,
        )

    def _ingestion(self, log: MemoryLog, telemetry: StageTelemetry, faults: Faults) -> IngestionHandler:
        raw = schema("payments/event_raw.v1.avsc")
        return IngestionHandler(
            IngestionSettings(
                rules=ClockRules(),
                redis="",
                partitions=self.partitions,
                seen_memory_bytes=512 << 20,
                schema_registry="",
            ),
            store=MemoryStore(self.redis["ingestion"], self.clock, faults),
            read_raw=log.read,
            accepted=_Reader(self.broker, EVENTS.name),
            writer_schemas={raw.id: raw.raw},
            clock=self.clock,
            metrics=telemetry.metrics,
        )

    def _publish_policy(self) -> None:
        version = load_policy(POLICY_TEXT, "policy.yaml", self._pinned.names).version
        release = {"policy_version": version, "author": "test", "why": "first", "policy": POLICY_TEXT}
        value = Codec("policy_release.v1.avsc").encode(release)
        self.broker.produce(POLICIES.name, version.encode(), value, 0)


class _Reader:
    """Committed records of a topic, as a stage that writes it reads them on the twin."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    def ends(self, partition: int) -> tuple[int, int]:
        records = self._broker.records.get((self._topic, partition), [])
        return (records[0].offset, records[-1].offset + 1) if records else (0, 0)

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        found = [r for r in self._broker.after(self._topic, partition, start, 1 << 60) if r.offset < end]
        if found:
            yield found


def committed_of(mesh: Mesh, stage: str) -> dict[int, CommittedOffset]:
    """Where a stage's group stands."""
    return dict(mesh.broker.groups[stage].offsets)
