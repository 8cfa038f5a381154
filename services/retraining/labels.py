"""What a batch of ``labels.v1`` says, as arrays: the vectors to learn from and the scores to judge by. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.mesh.codec import HEADER_BYTES, schema
from services.mesh.columns import Columns, Spans, Table, fingerprints
from services.mesh.feature_set import FeatureSetPin
from services.mesh.topics import LABELS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# A policy that lets one in a hundred through would give that one the weight of a hundred; beyond it a single row would
# move a model.
WEIGHT_MAX = 100.0
_EXACT = ("ok", "saturated")
_JUDGED = ("event_id", "customer_id", "event_time_ms", "amount_minor", "feature_set", "feature_status", "score",
           "model_version", "challenger_scores", "propensity", "label", "label_version", "label_source",
           "split_bucket", "observed_time_ms", "label_age_ms")  # fmt: skip
_BY_ROW = ("identity", "event_time_ms", "observed_ms", "age_ms", "version", "source", "fraud", "exact", "amount_minor",
           "bucket", "weight", "score", "model")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labelled decisions, one a row, n rows; records that do not decode or are of another feature set are left out."""

    identity: npt.NDArray[np.uint64]  # a fingerprint of customer and event
    event_time_ms: Ints
    observed_ms: Ints
    age_ms: Ints
    version: Ints
    source: Ints  # place in the schema's enum
    fraud: Mask
    exact: Mask  # false: the vector was stale or a fallback's
    amount_minor: Ints
    bucket: Ints  # of the customer
    weight: Floats  # 1 / propensity, at most WEIGHT_MAX
    score: Floats
    models: list[str]  # distinct names
    model: Ints  # place in ``models`` of the one that served
    beside_row: Ints  # shape (m,): the row that a shadow score belongs to
    beside_model: Ints  # place in ``beside_models``
    beside_models: list[str]
    beside_score: Floats
    rows: npt.NDArray[np.float32]  # shape (n, f); from here on empty when vectors were not asked for
    channels: list[str]  # empty: not told
    actions: list[str]
    foreign: int  # records of another feature set
    damaged: int  # records that are none

    def __len__(self) -> int:
        return len(self.identity)

    def only(self, kept: Mask) -> Labels:
        """Those of the rows; channels and actions are left behind."""
        new_place = np.cumsum(kept) - 1
        shown = kept[self.beside_row]
        own = {name: getattr(self, name)[kept] for name in _BY_ROW}
        return dataclasses.replace(
            self,
            **own,
            beside_row=new_place[self.beside_row[shown]],
            beside_model=self.beside_model[shown],
            beside_score=self.beside_score[shown],
            rows=self.rows[kept] if len(self.rows) else self.rows,
            channels=[],
            actions=[],
        )


class LabelReader:
    """Decodes many values at once."""

    def __init__(self, features: FeatureSetPin, *, with_vectors: bool) -> None:
        contract = schema(LABELS.schemas[0])
        self._features = features
        self._with_vectors = with_vectors
        self._columns = Columns(contract, (*_JUDGED, "vector", "channel", "action") if with_vectors else _JUDGED)
        self._symbols = {
            f["name"]: f["type"].get("symbols", []) for f in contract.fields if isinstance(f["type"], dict)
        }

    @property
    def sources(self) -> list[str]:
        """Names of ``Labels.source``."""
        return list(self._symbols["label_source"])

    def read(self, values: Sequence[bytes]) -> Labels:
        """``values``: records of labels.v1 in wire format."""
        table = self._columns.read(values)
        sets, place = table.names(table.spans["feature_set"])
        ours = table.sound & np.array([name == self._features.content_hash for name in sets], dtype=np.bool_)[place]
        rows = np.empty((0, len(self._features.names)), dtype=np.float32)
        channels: list[str] = []
        actions: list[str] = []
        if self._with_vectors:
            rows, fits = table.matrix(table.spans["vector"], len(self._features.names))
            ours &= fits
            rows = rows[ours]
            channels = self._named(*table.names(table.spans["channel"]), ours)
            actions = self._named(self._symbols["action"], table.numbers["action"], ours)
        kept = np.flatnonzero(ours)
        new_place = np.full(len(ours), -1, dtype=np.int64)
        new_place[kept] = np.arange(len(kept))
        owner, shadow_numbers, shadow_spans = table.items["challenger_scores"]
        shown = ours[owner]
        names = shadow_spans["model_version"]
        beside_models, beside_model = table.names(Spans(names.start[shown], names.length[shown]))
        version_spans = table.spans["model_version"]
        models, model = table.names(Spans(version_spans.start[kept], version_spans.length[kept]))
        number = {name: array[kept] for name, array in table.numbers.items()}
        exact_places = [n for n, symbol in enumerate(self._symbols["feature_status"]) if symbol in _EXACT]
        return Labels(
            identity=_identities(table)[kept],
            event_time_ms=number["event_time_ms"],
            observed_ms=number["observed_time_ms"],
            age_ms=number["label_age_ms"],
            version=number["label_version"],
            source=number["label_source"],
            fraud=number["label"] == self._symbols["label"].index("fraud"),
            exact=np.isin(number["feature_status"], exact_places),
            amount_minor=number["amount_minor"],
            bucket=number["split_bucket"],
            weight=1.0 / np.clip(number["propensity"], 1.0 / WEIGHT_MAX, 1.0),
            score=number["score"],
            models=models,
            model=model,
            beside_row=new_place[owner[shown]],
            beside_model=beside_model,
            beside_models=beside_models,
            beside_score=shadow_numbers["score"][shown],
            rows=rows,
            channels=channels,
            actions=actions,
            foreign=int((table.sound & ~ours).sum()),
            damaged=int((~table.sound).sum()),
        )

    @staticmethod
    def _named(names: Sequence[str], place: Ints, ours: Mask) -> list[str]:
        return [names[p] for p in place[ours].tolist()]


def _identities(table: Table) -> npt.NDArray[np.uint64]:
    """Both ids stand at the start of the record: one stretch of bytes, equal exactly when the identities are."""
    start = table.whole.start + HEADER_BYTES
    customer = table.spans["customer_id"]
    end = np.where(table.sound, customer.start + customer.length, start)
    return fingerprints(table.content, Spans(start, end - start))
