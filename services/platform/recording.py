"""What a run has recorded, read back from its log: every decision with its vector, every label, moves and alerts.

Whoever judges a run reads what it published, as any consumer could; nothing is asked of its processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from services.mesh.bundle_parts import Bundle
from services.mesh.codec import Codec, schema
from services.mesh.columns import Columns
from services.mesh.feature_set import pinned_feature_set
from services.mesh.manifest import parse
from services.mesh.model_registry import Registry, bundle_of
from services.mesh.records import DriftAlert, ModelRelease
from services.mesh.topics import DECISIONS, DRIFT_ALERTS, LABELS, MODELS, Topic
from services.platform.scan import committed_records
from services.retraining.labels import LabelReader, Labels
from services.scoring.model import Scorer

_CHUNK_RECORDS = 20_000
_EXACT = ("ok", "saturated")
_FIELDS = ("event_id", "customer_id", "event_time_ms", "amount_minor", "feature_status", "vector", "score",
           "model_version")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """All of ``decisions.v1``, n rows in no promised order."""

    event_id: NDArray[np.object_]
    customer_id: NDArray[np.object_]
    event_time_ms: NDArray[np.int64]
    amount_minor: NDArray[np.int64]
    exact: NDArray[np.bool_]  # False: the vector was stale or a fallback's
    fallback: NDArray[np.bool_]  # only the event was known, and the model for that answered
    score: NDArray[np.float64]
    model_version: NDArray[np.object_]
    rows: NDArray[np.float32]  # shape (n, f)

    def __len__(self) -> int:
        return len(self.score)


def read_decisions(kafka: str) -> Decisions:
    """Raises Transient."""
    contract = schema(DECISIONS.schemas[0])
    columns, features = Columns(contract, _FIELDS), len(pinned_feature_set().names)
    statuses = next(f["type"]["symbols"] for f in contract.fields if f["name"] == "feature_status")
    exact_symbols = [number for number, name in enumerate(statuses) if name in _EXACT]
    parts: list[dict[str, NDArray[Any]]] = []
    for values in _chunks(kafka, DECISIONS):
        table = columns.read(values)
        names, place = table.names(table.spans["model_version"])
        rows, fits = table.matrix(table.spans["vector"], features)
        sound = table.sound & fits
        parts.append(
            {
                "event_id": np.array(table.texts(table.spans["event_id"]), object)[sound],
                "customer_id": np.array(table.texts(table.spans["customer_id"]), object)[sound],
                "event_time_ms": table.numbers["event_time_ms"][sound],
                "amount_minor": table.numbers["amount_minor"][sound],
                "fallback": (table.numbers["feature_status"] == statuses.index("fallback"))[sound],
                "exact": np.isin(table.numbers["feature_status"], exact_symbols)[sound],
                "score": table.numbers["score"][sound],
                "model_version": np.array(names, object)[place][sound],
                "rows": rows[sound],
            }
        )
    return Decisions(**{name: np.concatenate([part[name] for part in parts]) for name in Decisions.__slots__})


def scores_by(bundle: Bundle, decisions: Decisions) -> NDArray[np.float64]:
    """What the model of ``bundle`` says of the recorded vectors: what scoring itself would have recorded for it."""
    scorer = Scorer(parse(bundle.manifest), bundle.model, bundle.fallback)
    return scorer.score(decisions.rows, decisions.fallback)


def read_labels(kafka: str) -> list[Labels]:
    """All of ``labels.v1`` with the vectors, in parts. Raises Transient."""
    reader = LabelReader(pinned_feature_set(), with_vectors=True)
    return [reader.read(values) for values in _chunks(kafka, LABELS)]


def read_releases(kafka: str) -> list[ModelRelease]:
    """All of ``models.v1`` that holds, in its order. Raises Transient."""
    codec, registry = Codec(MODELS.schemas[0]), Registry()
    found = [cast(ModelRelease, codec.decode(value)) for values in _chunks(kafka, MODELS) for value in values]
    return [release for release in found if not registry.apply(release)]


def first_bundle(releases: list[ModelRelease]) -> Bundle | None:
    """Of the first model that ever served; None when none did."""
    return next(
        (bundle for release in releases if release["move"] == "promote" and (bundle := bundle_of(release))), None
    )


def read_alerts(kafka: str) -> list[DriftAlert]:
    """All of ``drift-alerts.v1``. Raises Transient."""
    codec = Codec(DRIFT_ALERTS.schemas[0])
    return [cast(DriftAlert, codec.decode(value)) for values in _chunks(kafka, DRIFT_ALERTS) for value in values]


def _chunks(kafka: str, topic: Topic) -> Iterator[list[bytes]]:
    records = committed_records(kafka, topic, None, None)
    while chunk := [message.value() or b"" for message in islice(records, _CHUNK_RECORDS)]:
        yield chunk
