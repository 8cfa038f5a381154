"""The stage's thinking: the whole batch through compiled policies, one decision for each scored event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from services.decisions.checkpoint import EVERY, POLICY_STATE, Restorer, packed
from services.decisions.columns import columns_of, fields_of
from services.decisions.deciding import Batch, Decider
from services.decisions.desk import PolicyDesk
from services.decisions.flow import PartitionState
from services.decisions.tails import Tails
from services.mesh.codec import HEADER_BYTES, Extension, schema
from services.mesh.errors import Poison, RejectCode
from services.mesh.excerpt import Excerpt
from services.mesh.feature_set import FeatureSetPin
from services.mesh.headers import TRACEPARENT, find
from services.mesh.ports import CommittedOffset, Header, InRecord, OutRecord
from services.mesh.profile import ProfileWriter, ScoredCounts
from services.mesh.stage import Emit, Stateless, dead_letter
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DECISIONS
from services.mesh.topology import DECIDING
from services.mesh.watermark import Marks

_COUNTED = ("event_time_ms", "channel", "score", "model_version")  # what a profile needs to know
_ALWAYS = frozenset({"customer_id", "feature_set", "vector", *_COUNTED})


class DecisionsHandler(Stateless):
    """Handler of the stage ``decisions``; counts actions by score into ``profiles.v1``.

    ``restorer`` finds the state of partitions that were decided on before (None: there are none), and ``partitions``
    is how many of ``decisions.v1`` share a day's reviews.
    """

    def __init__(
        self,
        desk: PolicyDesk,
        features: FeatureSetPin,
        telemetry: StageTelemetry,
        slot: str = "0",
        restorer: Restorer | None = None,
        partitions: int = 1,
    ) -> None:
        self._desk = desk
        self._features = features
        self._telemetry = telemetry
        self._restorer = restorer
        self._states: dict[int, PartitionState] = {}
        self._since_checkpoint: dict[int, int] = {}
        self._decider = Decider(self._state_of, partitions)
        self._source, target = schema("score.v1.avsc"), schema("decision.v1.avsc")
        self._tails = Tails(target)
        self._head = Extension(self._source, self._source.fields, target, target.fields[: self._tails.first])
        self._events: dict[frozenset[str], Excerpt] = {}
        self._counts = ScoredCounts()
        self._profile = ProfileWriter(DECIDING.name, slot, self._counts.take, self._counts.__len__)

    def assign(self, partition: int, committed: CommittedOffset, marks: Marks) -> None:
        """See ``Handler``."""
        if self._restorer is not None and committed.offset is not None:
            self._states[partition] = self._restorer.state_of(partition)
        self._since_checkpoint[partition] = 0
        self._profile.assign(partition, committed.offset or 0)

    def revoke(self, partition: int) -> None:
        """See ``Handler``."""
        self._states.pop(partition, None)
        self._decider.blown = {place for place in self._decider.blown if place[0] != partition}
        self._profile.revoke(partition)

    def report(self, now_s: float, ends: Mapping[int, int], *, last: bool) -> list[OutRecord]:
        """See ``Reporter``."""
        return self._profile.report(now_s, ends, last=last)

    def step(self, batch: Sequence[InRecord]) -> list[Emit]:
        """See ``Handler``."""
        excerpt = self._excerpt(self._desk.panel.reads)
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
            emits += self._decide(places, [batch[source] for source in places], events)
        return emits

    def idle(self) -> None:
        """See ``Handler``: between two batches is where policies change."""
        self._desk.turn()

    def _state_of(self, partition: int) -> PartitionState:
        return self._states.setdefault(partition, PartitionState())

    def _excerpt(self, reads: frozenset[str]) -> Excerpt:
        """What the policies read of a record; written out once for them."""
        if reads not in self._events:
            wanted = fields_of(reads, self._features.names) | _ALWAYS
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
        self, places: Sequence[int], records: Sequence[InRecord], events: Sequence[dict[str, Any]]
    ) -> list[Emit]:
        panel = self._desk.panel
        batch = Batch(
            columns_of(events, panel.reads, self._features.names),
            [event["customer_id"] for event in events],
            np.array([record.partition for record in records], np.intp),
            np.array([event["event_time_ms"] for event in events], np.int64),
        )
        blown_before = self._decider.blown_times
        decided = self._decider.decide(batch, panel)
        tails, actions = self._tails.of(decided, len(events))
        states = self._checkpoints(records)
        emits = []
        for row, (source, record, tail) in enumerate(zip(places, records, tails, strict=True)):
            assert record.value is not None
            own = {"score_append_time_ms": record.append_time_ms}
            value = self._head.extend(record.value[HEADER_BYTES:], own) + tail
            headers: tuple[Header, ...] = ()
            if row in states:
                headers = ((TRACEPARENT, find(record.headers, TRACEPARENT)), (POLICY_STATE, states[row]))
            emits.append(Emit(DECISIONS.name, record.key, value, record.partition, source, headers))
        metrics = self._telemetry.metrics
        metrics.add_all("weir_actions", Counter(actions))
        metrics.add("weir_reviews_over_budget", decided.over_budget)
        metrics.add("weir_shadow_differs", sum(map(len, decided.shadows.values())))
        metrics.add("weir_fuses_blown", self._decider.blown_times - blown_before)
        metrics.set("weir_fuses_open", len(self._decider.blown))
        self._counts.add(
            [event["model_version"] for event in events],
            np.array([event["score"] for event in events]),
            [event["event_time_ms"] for event in events],
            [event["channel"] for event in events],
            actions=actions,
        )
        return emits

    def _checkpoints(self, records: Sequence[InRecord]) -> dict[int, bytes]:
        """Which rows carry their partition's state, as it is behind them."""
        last = {record.partition: row for row, record in enumerate(records)}
        due: dict[int, bytes] = {}
        for partition, count in Counter(record.partition for record in records).items():
            since = self._since_checkpoint.get(partition, 0) + count
            if since >= EVERY:
                due[last[partition]] = packed(self._state_of(partition), self._desk.library.get)
                since = 0
            self._since_checkpoint[partition] = since
        return due
