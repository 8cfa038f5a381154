"""Every topic: what it holds, by which key, for how long, and who owns it.

All data topics share one partition count and one partitioner (murmur2), so that one partition owns one customer on
every hop. Time stamps are the broker's (LogAppendTime): with the producer's, a replay of 2018 would be deleted on
arrival. ``weir up`` and the deploy step create topics from this page; services never do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# As many processes of a stage can share its work, and every transaction marks every partition: measured on two cores,
# 8 instead of 4 cost a third of the throughput and half as much latency again. Who means to grow asks for more at once.
DATA_PARTITIONS_DEFAULT = 4

RAW_BYTES_MAX = 1_048_576
# A dead letter keeps its record's bytes and adds headers: the limit leaves room for them.
DEAD_LETTER_BYTES_MAX = RAW_BYTES_MAX + 65_536
# A bundle is two boosters of some hundred kB; 8 MiB holds a thousand deep trees.
MODEL_BYTES_MAX = 8_388_608

DAY_MS = 86_400_000
# Features are rebuilt from the log: 37 days of windows + 1 day of lateness + a week in which somebody notices.
DATA_RETENTION_MS = 45 * DAY_MS
# Feedback joins outcomes with decisions of the last 120 days and is rebuilt from the log: those, and a week more.
LOOP_RETENTION_MS = 130 * DAY_MS
FOREVER_MS = -1

PartitionRule = Literal["data", "one"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic as data."""

    name: str
    holds: str  # what a record means, one line
    schemas: tuple[str, ...]  # files below schemas/; the first is what is written; empty: any bytes
    key: str  # the field that the record key repeats
    owner: str  # who answers for its contract
    partitions: PartitionRule = "data"
    retention_ms: int = DATA_RETENTION_MS
    bytes_max: int = RAW_BYTES_MAX

    def config(self) -> dict[str, str]:
        """Creation settings for the broker."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.bytes_max),
            "message.timestamp.type": "LogAppendTime",
        }

    def partition_count(self, data_partitions: int) -> int:
        """How many partitions it has in a mesh of ``data_partitions``."""
        return data_partitions if self.partitions == "data" else 1


EVENTS_RAW = Topic(
    name="events.raw.v1",
    holds="payments as producers send them, JSON or registry Avro",
    schemas=("payments/event_raw.v1.avsc",),
    key="customer_id",
    owner="producers",
)
OUTCOMES_RAW = Topic(
    name="outcomes.raw.v1",
    holds="what payments turned out to be, as their observers send it, JSON or registry Avro",
    schemas=("payments/outcome_raw.v1.avsc",),
    key="customer_id",
    owner="producers",
    retention_ms=LOOP_RETENTION_MS,
)
EVENTS = Topic(
    name="events.v1",
    holds="accepted payments, each identity once",
    schemas=("payments/event.v1.avsc",),
    key="customer_id",
    owner="ingestion",
)
UPDATES_TERMINAL = Topic(
    name="updates.terminal.v1",
    holds="the terminal view's own log: events with their customer's features, and labels",
    schemas=("terminal_update.v1.avsc",),
    key="terminal_id",
    owner="features",
)
FEATURES = Topic(
    name="features.v1",
    holds="events with their whole feature vector",
    schemas=("features.v1.avsc",),
    key="customer_id",
    owner="features",
)
SCORES = Topic(
    name="scores.v1",
    holds="events with their score",
    schemas=("score.v1.avsc",),
    key="customer_id",
    owner="scoring",
)
DECISIONS = Topic(
    name="decisions.v1",
    holds="one decision for every accepted event, with all that led to it",
    schemas=("decision.v1.avsc",),
    key="customer_id",
    owner="decisions",
    retention_ms=LOOP_RETENTION_MS,
)
OUTCOMES = Topic(
    name="outcomes.v1",
    holds="accepted outcomes, each identity once",
    schemas=("payments/outcome.v1.avsc",),
    key="customer_id",
    owner="ingestion",
    retention_ms=LOOP_RETENTION_MS,
)
LABELS = Topic(
    name="labels.v1",
    holds="decisions with what their event turned out to be, a new version with each outcome",
    schemas=("labelled.v1.avsc",),
    key="customer_id",
    owner="feedback",
    retention_ms=LOOP_RETENTION_MS,
)
OUTCOMES_ORPHAN = Topic(
    name="outcomes.orphan.v1",
    holds="outcomes that belong to no decision, with the reason",
    schemas=("outcome_orphan.v1.avsc",),
    key="customer_id",
    owner="feedback",
    retention_ms=LOOP_RETENTION_MS,
)
PROFILES = Topic(
    name="profiles.v1",
    holds="what scoring, decisions and ingestion counted, mergeable by adding",
    schemas=("profile.v1.avsc",),
    key="subject",
    owner="drift",
)
DRIFT_ALERTS = Topic(
    name="drift-alerts.v1",
    holds="what moved beyond chance, and when it ended",
    schemas=("drift_alert.v1.avsc",),
    key="subject",
    owner="drift",
)
REVIEWS = Topic(
    name="reviews.v1",
    holds="the life of each case that people look into: opened, judged, escalated, closed",
    schemas=("review.v1.avsc",),
    key="customer_id",
    owner="review",
    # As long as the decisions that cases are about: `weir status --verify` holds the two against each other.
    retention_ms=LOOP_RETENTION_MS,
)
DEAD_LETTERS = Topic(
    name="dead-letters.v1",
    holds="every refused record, its own bytes and headers, with the cause in added headers",
    schemas=(),
    key="the refused record's",
    owner="ingestion",
    bytes_max=DEAD_LETTER_BYTES_MAX,
)
MODELS = Topic(
    name="models.v1",
    holds="signed models and their moves, in order; read whole by every scorer",
    schemas=("model_release.v1.avsc",),
    key="model_version",
    owner="retraining",
    partitions="one",
    retention_ms=FOREVER_MS,
    bytes_max=MODEL_BYTES_MAX,
)
POLICIES = Topic(
    name="policies.v1",
    holds="policies put in force, in order; read whole by every decider",
    schemas=("policy_release.v1.avsc",),
    key="policy_version",
    owner="decisions",
    partitions="one",
    retention_ms=FOREVER_MS,
)
AUDIT = Topic(
    name="audit.v1",
    holds="who did what, when, why, and on which subject",
    schemas=("audit_entry.v1.avsc",),
    key="subject",
    owner="review",
    partitions="one",
    retention_ms=FOREVER_MS,
)

TOPICS: tuple[Topic, ...] = (
    EVENTS_RAW,
    OUTCOMES_RAW,
    EVENTS,
    UPDATES_TERMINAL,
    FEATURES,
    SCORES,
    DECISIONS,
    OUTCOMES,
    LABELS,
    OUTCOMES_ORPHAN,
    PROFILES,
    DRIFT_ALERTS,
    REVIEWS,
    DEAD_LETTERS,
    MODELS,
    POLICIES,
    AUDIT,
)


def topic_named(name: str) -> Topic:
    """The topic called ``name``; KeyError when the mesh has none."""
    return {topic.name: topic for topic in TOPICS}[name]
