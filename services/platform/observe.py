"""What a running mesh says about itself: lag a stage, rates, latencies, versions in force. Read-only."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from prometheus_client.parser import text_string_to_metric_families

from services.mesh.errors import Transient
from services.mesh.topics import Topic
from services.mesh.topology import STAGES, Stage
from services.platform.probes import health_answer
from services.platform.scan import committed_records

_WAIT_S = 10.0
# For a look at lags, which is asked again in a second: whoever looks also restarts a broker that is gone.
_LOOK_WAIT_S = 2.0
_STILL_S = 0.5  # a stage that has work commits ten times as often
_COUNTED_OFFSETS_MAX = 2_000  # a killed process leaves one batch at most; beyond, the difference is small
GAUGES = frozenset({"weir_seen_identities", "weir_state_entities", "weir_state_unreachable", "weir_outcomes_waiting"})


@dataclass(slots=True, kw_only=True)
class StageStatus:
    """One stage over all its instances."""

    stage: str
    lag: int = 0  # records of its input that it has not committed
    records: int = 0  # processed by the running processes
    rate_per_s: float = 0.0  # since the observation before
    ready: int = 0
    instances: int = 0
    halted: str = ""
    input_age_ms: float = 0.0  # of the newest record of the latest batch, when it was committed
    step_us: float = 0.0  # thinking time a record
    rejects: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    gauges: dict[str, int] = field(default_factory=dict)  # those in GAUGES, summed over instances
    versions: dict[str, str] = field(default_factory=dict)


class Stretch(NamedTuple):
    """Part of a partition that a stage has not committed."""

    stage: Stage
    topic: Topic
    partition: int
    done: int
    end: int

    @property
    def offsets(self) -> int:
        """How many, but for the commit marker that takes the last offset behind a transaction."""
        return self.end - self.done - (1 if self.stage.marked else 0)


class Observer:
    """Asks the broker for lags and the stages for their numbers."""

    def __init__(self, bootstrap: str, run_dir: Path, stages: Sequence[Stage] = STAGES) -> None:
        """``stages``: those that run in this mesh."""
        self._bootstrap, self._stages = bootstrap, stages
        self._admin = AdminClient(_quiet(bootstrap))
        self._groups: dict[str, Any] = {}  # stage -> a consumer that asks for its group's offsets
        self._run_dir = run_dir
        self._before: dict[str, tuple[float, int]] = {}
        self._suspects: dict[Stretch, float] = {}  # stretches that nobody moves on from, since when
        self._counted: dict[Stretch, int] = {}  # records that are really there

    def lags(self) -> dict[str, int]:
        """Uncommitted records of each stage's input. Raises Transient when the broker does not answer."""
        try:
            partitions = self._partitions(_LOOK_WAIT_S)
            ends = self._ends(partitions)
            return {stage.name: self._lag(stage, partitions, ends) for stage in self._stages}
        except (KafkaException, TimeoutError) as error:
            raise Transient(f"lags: {error}") from error

    def committed(self) -> dict[str, dict[int, int]]:
        """For each stage's input topics, by partition, the offset that its group has committed. Raises Transient.

        Of a topic with several readers, that of the last one in the topology: feedback's of ``decisions.v1``.
        """
        try:
            partitions = self._partitions(_WAIT_S)
            return {
                topic.name: self._committed(stage, topic, partitions[topic.name], _WAIT_S)
                for stage in self._stages
                for topic in stage.inputs
            }
        except (KafkaException, TimeoutError) as error:
            raise Transient(f"committed offsets: {error}") from error

    def taken(self, stage: Stage, topic: Topic) -> dict[int, int]:
        """By partition, the offset of ``topic`` that ``stage`` has committed. Raises Transient."""
        try:
            return self._committed(stage, topic, self._partitions(_WAIT_S)[topic.name], _WAIT_S)
        except (KafkaException, TimeoutError) as error:
            raise Transient(f"committed offsets: {error}") from error

    def close(self) -> None:
        """Drop the connections."""
        for consumer in self._groups.values():
            consumer.close()
        self._groups.clear()

    def stages(self) -> list[StageStatus]:
        """Every stage's numbers; an instance that does not answer counts as not ready."""
        lags = self.lags()
        return [self._status(stage, lags[stage.name]) for stage in self._stages]

    def _partitions(self, wait_s: float) -> dict[str, list[int]]:
        """Of every stage's input; none of a topic that is not there."""
        topics = self._admin.list_topics(timeout=wait_s).topics
        names = {topic.name for stage in self._stages for topic in stage.inputs}
        return {name: list(topics[name].partitions) if name in topics else [] for name in names}

    def _ends(self, partitions: Mapping[str, Sequence[int]]) -> dict[tuple[str, int], int]:
        asked = {TopicPartition(topic, p): OffsetSpec.latest() for topic, found in partitions.items() for p in found}
        if not asked:
            return {}
        found = self._admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED)
        return {(tp.topic, tp.partition): future.result(_LOOK_WAIT_S).offset for tp, future in found.items()}

    def _lag(self, stage: Stage, partitions: Mapping[str, Sequence[int]], ends: Mapping[tuple[str, int], int]) -> int:
        """Offsets between committed and end; in a stretch that stands still, records.

        The two differ by commit markers, and by what a process that was killed had written and never committed.
        """
        stretches: list[Stretch] = []
        for topic in stage.inputs:
            done = self._committed(stage, topic, partitions[topic.name], _LOOK_WAIT_S)
            stretches += [Stretch(stage, topic, p, done[p], ends[topic.name, p]) for p in partitions[topic.name]]
        now_s = time.monotonic()
        lagging = [stretch for stretch in stretches if stretch.offsets > 0]
        for old in [stretch for stretch in self._suspects if stretch.stage is stage and stretch not in lagging]:
            del self._suspects[old]
            self._counted.pop(old, None)
        since = {stretch: self._suspects.setdefault(stretch, now_s) for stretch in lagging}
        for topic in stage.inputs:
            self._count(
                topic,
                [
                    stretch
                    for stretch in lagging
                    if stretch.topic is topic
                    and stretch.offsets <= _COUNTED_OFFSETS_MAX
                    and now_s - since[stretch] >= _STILL_S
                    and stretch not in self._counted
                ],
            )
        return sum(self._counted.get(stretch, stretch.offsets) for stretch in lagging)

    def _count(self, topic: Topic, stretches: list[Stretch]) -> None:
        if not stretches:
            return
        starts = {stretch.partition: stretch.done for stretch in stretches}
        records = committed_records(self._bootstrap, topic, starts, time.monotonic() + _WAIT_S)
        found = Counter(message.partition() for message in records)
        self._counted |= {stretch: found[stretch.partition] for stretch in stretches}

    def _committed(self, stage: Stage, topic: Topic, partitions: Sequence[int], wait_s: float) -> dict[int, int]:
        if not partitions:
            return {}
        # Not the admin client's call: while a coordinator loads, it ends the process with a segmentation fault
        # (librdkafka issue 5040). A consumer that never subscribes asks the same, and joins nothing.
        consumer = self._groups.get(stage.name)
        if consumer is None:
            consumer = Consumer(_quiet(self._bootstrap) | {"group.id": stage.name})
            self._groups[stage.name] = consumer
        asked = [TopicPartition(topic.name, partition) for partition in partitions]
        return {tp.partition: max(tp.offset, 0) for tp in consumer.committed(asked, timeout=wait_s)}

    def _status(self, stage: Stage, lag: int) -> StageStatus:
        status = StageStatus(stage=stage.name, lag=lag)
        steps_s, records_total = 0.0, 0
        for file in sorted(self._run_dir.glob(f"{stage.name}-[0-9]*.json")):
            status.instances += 1
            progress = health_answer(file, "/health/progress")
            metrics = health_answer(file, "/metrics")
            if progress is None or metrics is None:
                continue
            health = json.loads(progress)
            status.ready += health["ready"]
            status.halted = status.halted or health["halted"]
            status.records += health["records"]
            status.versions |= health["versions"]
            step_s = _collect(status, metrics)
            steps_s, records_total = steps_s + step_s, records_total + health["records"]
        status.step_us = 1e6 * steps_s / records_total if records_total else 0.0
        now_s = time.monotonic()
        before_s, before = self._before.get(stage.name, (now_s, status.records))
        self._before[stage.name] = (now_s, status.records)
        if now_s > before_s:
            status.rate_per_s = max(0.0, (status.records - before) / (now_s - before_s))
        return status


def _quiet(bootstrap: str) -> dict[str, Any]:
    """A broker that is stopping is no news for whoever watches the terminal; calls say by themselves what failed."""
    return {"bootstrap.servers": bootstrap, "log_level": 0}


def _collect(status: StageStatus, text: str) -> float:
    """Add one instance's metrics to ``status``; returns its thinking time in seconds."""
    by_label: dict[str, tuple[dict[str, int], str]] = {
        "weir_rejects_total": (status.rejects, "code"),
        "weir_feature_status_total": (status.statuses, "status"),
        "weir_actions_total": (status.actions, "action"),
    }
    step_s = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            value: Any = sample.value
            if sample.name in by_label:
                counts, label = by_label[sample.name]
                counts[sample.labels[label]] = counts.get(sample.labels[label], 0) + int(value)
            elif sample.name == "weir_step_seconds_sum":
                step_s += value
            elif sample.name == "weir_input_age_seconds":
                status.input_age_ms = max(status.input_age_ms, 1000 * value)
            elif sample.name == "weir_duplicates_total":
                status.duplicates += int(value)
            elif sample.name in GAUGES:
                status.gauges[sample.name] = status.gauges.get(sample.name, 0) + int(value)
    return step_s
