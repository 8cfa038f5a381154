"""The stage's thinking: the whole batch through one compiled policy, one decision for each scored event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from services.decisions.columns import columns_of, fields_of
from services.decisions.desk import PolicyDesk
from services.decisions.policy import Policy
from services.mesh.codec import HEADER_BYTES, Extension, schema
from services.mesh.errors import Poison, RejectCode
from services.mesh.excerpt import Excerpt
from services.mesh.feature_set import FeatureSetPin
from services.mesh.ports import CommittedOffset, InRecord, OutRecord
from services.mesh.profile import ProfileWriter, ScoredCounts
from services.mesh.stage import Emit, Stateless, dead_letter
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DECISIONS
from services.mesh.topology import DECIDING
from services.mesh.watermark import Marks

_COUNTED = ("event_time_ms", "channel", "score", "model_version")  # what a profile needs to know


class DecisionsHandler(Stateless):
    """Handler of the stage ``decisions``; counts actions by score into ``profiles.v1``."""

    def __init__(self, desk: PolicyDesk, features: FeatureSetPin, telemetry: StageTelemetry, slot: str = "0") -> None:
        self._desk = desk
        self._features = features
        self._telemetry = telemetry
        self._source, target = schema("score.v1.avsc"), schema("decision.v1.avsc")
        self._own = Extension(self._source, self._source.fields, target, target.fields)
        self._events: dict[frozenset[str], Excerpt] = {}
        self._counts = ScoredCounts()
        self._profile = ProfileWriter(DECIDING.name, slot, self._counts.take, self._counts.__len__)

    def assign(self, partition: int, committed: CommittedOffset, marks: Marks) -> None:
        """See ``Handler``."""
        self._profile.assign(partition, committed.offset or 0)

    def revoke(self, partition: int) -> None:
        """See ``Handler``."""
        self._profile.revoke(partition)

    def report(self, now_s: float, ends: Mapping[int, int], *, last: bool) -> list[OutRecord]:
        """See ``Reporter``."""
        return self._profile.report(now_s, ends, last=last)

    def step(self, batch: Sequence[InRecord]) -> list[Emit]:
        """See ``Handler``."""
        policy = self._desk.policy
        excerpt = self._excerpt(policy.reads)
        places: list[int] = []
        events: list[dict[str, Any]] = []
        emits: list[Emit] = []
        for source, record in enumerate(batch):
            try:
                events.append(self._decoded(excerpt, record))
            except Poison as poison:
                emits.append(dead_letter(record, source, "decisions", poison))
                continue
            places.append(source)
        if events:
            emits += self._decide(policy, batch, places, events)
        return emits

    def idle(self) -> None:
        """See ``Handler``: between two batches is where policies change."""
        self._desk.turn()

    def _excerpt(self, reads: frozenset[str]) -> Excerpt:
        """What the policy reads of a record; written out once a policy."""
        if reads not in self._events:
            wanted = fields_of(reads, self._features.names) | {"feature_set", "vector", *_COUNTED}
            names = [field["name"] for field in self._source.fields if field["name"] in wanted]
            self._events = {reads: Excerpt(self._source, names, sizes={"vector": 4 * len(self._features.names)})}
        return self._events[reads]

    def _decoded(self, excerpt: Excerpt, record: InRecord) -> dict[str, Any]:
        event = excerpt.record(record.value)
        columns = self._features
        if event["feature_set"] != columns.content_hash or len(event["vector"]) != 4 * len(columns.names):
            # Rules read columns by name: another set's would be other numbers under the same names.
            raise Poison(
                RejectCode.UNDECODABLE,
                f"feature_set={event['feature_set']} with {len(event['vector'])} bytes: rules here read "
                f"{columns.content_hash} with {4 * len(columns.names)}; deploy all stages of one version, then requeue",
                "feature_set",
            )
        return event

    def _decide(
        self, policy: Policy, batch: Sequence[InRecord], places: list[int], events: list[dict[str, Any]]
    ) -> list[Emit]:
        verdicts = policy.decide(columns_of(events, policy.reads, self._features.names))
        emits = []
        for source, verdict in zip(places, verdicts, strict=True):
            record = batch[source]
            assert record.value is not None
            own = {
                "score_append_time_ms": record.append_time_ms,
                "action": verdict.action,
                "reasons": [{"code": code, "text": text} for code, text in verdict.reasons],
                "rule_hits": verdict.rule_hits,
                "policy_version": policy.version,
                "propensity": verdict.propensity,
            }
            value = self._own.extend(record.value[HEADER_BYTES:], own)
            emits.append(Emit(DECISIONS.name, record.key, value, record.partition, source))
        self._telemetry.metrics.add_all("weir_actions", Counter(verdict.action for verdict in verdicts))
        self._counts.add(
            [event["model_version"] for event in events],
            np.array([event["score"] for event in events]),
            [event["event_time_ms"] for event in events],
            [event["channel"] for event in events],
            actions=[verdict.action for verdict in verdicts],
        )
        return emits
