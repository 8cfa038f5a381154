"""The stage's thinking: one matrix a batch, one prediction, reasons for what may be stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.mesh.codec import HEADER_BYTES, Extension, schema
from services.mesh.currency import EXPONENTS
from services.mesh.errors import Poison, RejectCode
from services.mesh.excerpt import Excerpt
from services.mesh.feature_set import FeatureSetPin
from services.mesh.ports import CommittedOffset, InRecord, OutRecord
from services.mesh.profile import ProfileWriter, ScoredCounts
from services.mesh.stage import Emit, Stateless, dead_letter
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import SCORES
from services.mesh.topology import SCORING
from services.mesh.watermark import Marks
from services.scoring.champion import BUCKETS, Share, model_for, split_bucket
from services.scoring.desk import ModelDesk
from services.scoring.model import BOOTSTRAP_VERSION, Scores
from services.scoring.reasons import choose, explain
from services.scoring.settings import ScoringSettings

_BUCKETS_CACHED_MAX = 200_000
_EXACT = frozenset({"ok", "saturated"})
_READS = (
    "customer_id",
    "event_time_ms",
    "amount_minor",
    "currency",
    "channel",
    "feature_set",
    "feature_status",
    "vector",
)
Rows = npt.NDArray[np.float32]


class ScoringHandler(Stateless):
    """Handler of the stage ``scoring``; counts what it scores into ``profiles.v1``."""

    def __init__(
        self,
        desk: ModelDesk,
        features: FeatureSetPin,
        settings: ScoringSettings,
        telemetry: StageTelemetry,
        slot: str = "0",
    ) -> None:
        self._desk = desk
        self._features = features
        self._settings = settings
        self._telemetry = telemetry
        source, target = schema("features.v1.avsc"), schema("score.v1.avsc")
        self._vector_bytes = 4 * len(features.names)
        self._event = Excerpt(source, _READS, sizes={"vector": self._vector_bytes})
        self._own = Extension(source, source.fields, target, target.fields)
        self._buckets: dict[str, int] = {}
        self._counts = ScoredCounts()
        self._profile = ProfileWriter(SCORING.name, slot, self._counts.take, self._counts.__len__)

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
        places: list[int] = []
        events: list[dict[str, Any]] = []
        emits: list[Emit] = []
        for source, record in enumerate(batch):
            try:
                events.append(self._decoded(record))
            except Poison as poison:
                emits.append(dead_letter(record, source, "scoring", poison))
                continue
            places.append(source)
        if events:
            emits += self._score(batch, places, events)
        return emits

    def idle(self) -> None:
        """See ``Handler``: between two batches is where models change."""
        self._desk.turn()

    def _decoded(self, record: InRecord) -> dict[str, Any]:
        event = self._event.record(record.value)
        if event["feature_set"] != self._features.content_hash:
            raise Poison(
                RejectCode.UNDECODABLE,
                f"feature_set={event['feature_set']}: this scorer knows {self._features.content_hash}; deploy features "
                "and scoring of one version, then requeue",
                "feature_set",
            )
        if len(event["vector"]) != self._vector_bytes:
            # Rows are cut from the joined vectors: one of another length would shift all behind it.
            raise Poison(
                RejectCode.UNDECODABLE,
                f"vector of {len(event['vector'])} bytes where {self._vector_bytes} belong",
                "vector",
            )
        return event

    def _score(self, batch: Sequence[InRecord], places: list[int], events: list[dict[str, Any]]) -> list[Emit]:
        models: list[Scores] = [self._desk.champion, *self._desk.challengers]
        rows = np.frombuffer(b"".join([e["vector"] for e in events]), dtype=np.float32).reshape(len(events), -1)
        fallback = np.array([e["feature_status"] == "fallback" for e in events])
        buckets = [self._bucket(event["customer_id"]) for event in events]
        said = [(model.version, model.score(rows, fallback).tolist()) for model in models]
        serving = self._serving(buckets, [version for version, _ in said])
        scores = [said[model][1][i] for i, model in enumerate(serving)]
        statuses, contributions = self._explained(rows, fallback, scores, events, models, serving)
        emits = []
        for i, source in enumerate(places):
            record = batch[source]
            assert record.value is not None
            own = {
                "features_append_time_ms": record.append_time_ms,
                "score": scores[i],
                "model_version": said[serving[i]][0],
                "split_bucket": buckets[i],
                "challenger_scores": [
                    {"model_version": v, "score": s[i]} for n, (v, s) in enumerate(said) if n != serving[i]
                ],
                "explanation_status": statuses.get(i, "none"),
                "contributions": contributions.get(i, ()),
            }
            value = self._own.extend(record.value[HEADER_BYTES:], own)
            emits.append(Emit(SCORES.name, record.key, value, record.partition, source))
        self._count(models[0].version, fallback, statuses, len(events))
        self._tally(models, [said[model][0] for model in serving], np.array(scores), rows, events)
        return emits

    def _tally(
        self, models: list[Scores], served: list[str], scores: npt.NDArray[np.float64], rows: Rows, events: Any
    ) -> None:
        """Into the profile: a stale or fallback vector is not one that the model's reference speaks of."""
        for model in models:
            self._counts.model(model.version, model.reference_bins)
        self._counts.add(
            served,
            scores,
            [event["event_time_ms"] for event in events],
            [event["channel"] for event in events],
            rows=rows,
            exact=[event["feature_status"] in _EXACT for event in events],
        )

    def _serving(self, buckets: list[int], versions: list[str]) -> list[int]:
        """For each event the place in ``versions`` of the model that serves it: the champion's, 0, or the canary's."""
        canary = self._desk.canary
        if canary is None:
            return [0] * len(buckets)
        share = [Share(model_version=canary.model_version, buckets=canary.percent * BUCKETS // 100)]
        return [versions.index(model_for(bucket, versions[0], share)) for bucket in buckets]

    def _explained(
        self,
        rows: Rows,
        fallback: npt.NDArray[np.bool_],
        scores: list[float],
        events: list[dict[str, Any]],
        models: list[Scores],
        serving: list[int],
    ) -> tuple[dict[int, str], dict[int, list[dict[str, Any]]]]:
        if models[0].version == BOOTSTRAP_VERSION:
            return {}, {}
        amounts = np.array([e["amount_minor"] / 10 ** EXPONENTS[e["currency"]] for e in events])
        chosen = choose(np.array(scores), amounts, self._settings.explain_score_min, self._settings.explain_rows_max)
        statuses = {int(i): "partial" for i in chosen.partial}
        contributions: dict[int, list[dict[str, Any]]] = {}
        for place, model in enumerate(models):
            own = np.array([i for i in chosen.rows if serving[i] == place], dtype=np.intp)
            if not len(own):
                continue
            found = explain(model, rows[own], fallback[own], self._settings.reasons_max)
            for i, reasons in zip(own.tolist(), found, strict=True):
                statuses[i] = "full"
                contributions[i] = [
                    {"feature": r.feature, "value": r.value, "contribution": r.contribution} for r in reasons
                ]
        return statuses, contributions

    def _bucket(self, customer_id: str) -> int:
        bucket = self._buckets.get(customer_id)
        if bucket is None:
            if len(self._buckets) >= _BUCKETS_CACHED_MAX:
                self._buckets.clear()
            bucket = self._buckets[customer_id] = split_bucket(customer_id)
        return bucket

    def _count(self, version: str, fallback: npt.NDArray[np.bool_], statuses: dict[int, str], events: int) -> None:
        fallbacks = int(fallback.sum())
        kind = "bootstrap" if version == BOOTSTRAP_VERSION else "model"
        counts = {kind: events - fallbacks, "fallback": fallbacks}
        self._telemetry.metrics.add_all("weir_scored", {k: n for k, n in counts.items() if n})
        self._telemetry.metrics.add_all("weir_explained", Counter(statuses.values()))
