"""What a running mesh says about itself: lag a stage, rates, latencies, versions in force. Read-only."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from prometheus_client.parser import text_string_to_metric_families

from services.mesh.errors import Transient
from services.mesh.topology import STAGES, Stage
from services.platform.ports import HOST
from services.platform.stages import health_port

_WAIT_S = 5.0
_HEALTH_WAIT_S = 1.0
GAUGES = frozenset({"weir_seen_identities", "weir_state_entities", "weir_state_unreachable"})


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


class Observer:
    """Asks the broker for lags and the stages for their numbers."""

    def __init__(self, bootstrap: str, run_dir: Path) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._run_dir = run_dir
        self._before: dict[str, tuple[float, int]] = {}

    def lags(self) -> dict[str, int]:
        """Uncommitted records of each stage's input. Raises Transient when the broker does not answer."""
        try:
            ends = self._ends()
            return {stage.name: self._lag(stage, ends) for stage in STAGES}
        except (KafkaException, TimeoutError) as error:
            raise Transient(f"lags: {error}") from error

    def committed(self) -> dict[str, dict[int, int]]:
        """For each stage's input topic, by partition, the offset that its group has committed."""
        return {stage.consumes.name: self._committed(stage) for stage in STAGES}

    def stages(self) -> list[StageStatus]:
        """Every stage's numbers; an instance that does not answer counts as not ready."""
        lags = self.lags()
        return [self._status(stage, lags[stage.name]) for stage in STAGES]

    def _ends(self) -> dict[tuple[str, int], int]:
        topics = self._admin.list_topics(timeout=_WAIT_S).topics
        asked = {
            TopicPartition(stage.consumes.name, partition): OffsetSpec.latest()
            for stage in STAGES
            for partition in topics[stage.consumes.name].partitions
        }
        found = self._admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED)
        return {(tp.topic, tp.partition): future.result(_WAIT_S).offset for tp, future in found.items()}

    def _lag(self, stage: Stage, ends: dict[tuple[str, int], int]) -> int:
        done = self._committed(stage)
        lag = 0
        for (topic, partition), end in ends.items():
            if topic == stage.consumes.name:
                lag += max(0, end - done.get(partition, 0) - _markers_behind(stage))
        return lag

    def _committed(self, stage: Stage) -> dict[int, int]:
        group = ConsumerGroupTopicPartitions(stage.name)
        listed = self._admin.list_consumer_group_offsets([group])[stage.name].result(_WAIT_S)
        found = listed.topic_partitions or ()
        return {tp.partition: max(tp.offset, 0) for tp in found if tp.topic == stage.consumes.name}

    def _status(self, stage: Stage, lag: int) -> StageStatus:
        status = StageStatus(stage=stage.name, lag=lag)
        steps_s, records_total = 0.0, 0
        for file in sorted(self._run_dir.glob(f"{stage.name}-*.json")):
            status.instances += 1
            progress = _get(file, "/health/progress")
            metrics = _get(file, "/metrics")
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


def _markers_behind(stage: Stage) -> int:
    """A commit marker takes the last offset of a partition that a transaction wrote to; nobody ever commits past it."""
    return 1 if stage.marked else 0


def _get(file: Path, path: str) -> str | None:
    port = health_port(file)
    if port is None:
        return None
    connection = http.client.HTTPConnection(HOST, port, timeout=_HEALTH_WAIT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


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
