"""What a model saw when it was made, counted in frozen bins: what later counts are compared with.

It travels in the model's manifest, a few kB. ``Spread`` says how much days of the training data differed from one
another beyond chance: weekends differ from weekdays and customers come back, so a day is never a random sample, and a
comparison that ignores this cries wolf every Saturday.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from services.mesh.bins import SCORE_BINS, FeatureBins, quantile_edges, score_bins

DAY_MS = 86_400_000
# Under fewer rows a day says nothing about days.
DAY_ROWS_MIN = 50
DAYS_MIN = 3
# A segment's own reference needs some rows in each of its bins.
SEGMENT_ROWS_MIN = 1_000
SEGMENTS_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How PSI between one day and all days exceeded what sampling explains, over the days of the reference."""

    mean: float = 0.0
    variance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureReference:
    """One feature. ``counts``: rows by bin, the last one missing values; see ``bins.quantile_edges``."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    spread: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreReference:
    """Scores on rows that the model under validation had not seen, by score bin; what a score was worth there."""

    counts: tuple[int, ...]  # of the model that serves
    spread: Spread
    validated_counts: tuple[int, ...]  # of the model that was validated: the same procedure, an honest look
    validated_frauds: tuple[int, ...]
    validated_sums: tuple[float, ...]  # of p
    # Mean over validation days of (frauds - sum p)^2 / sum p (1 - p): 1 if frauds come one by one, more in campaigns.
    dispersion: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """All of it."""

    rows: int
    days: int
    features: tuple[FeatureReference, ...]
    scores: ScoreReference
    segments: Mapping[str, tuple[tuple[int, ...], ...]]  # segment -> counts by bin for each feature
    actions: Mapping[str, int]  # action -> decisions, where they were known

    @property
    def bins(self) -> FeatureBins:
        """For counting."""
        return FeatureBins([feature.edges for feature in self.features])


def spread_of(counts: npt.NDArray[np.int64]) -> Spread:
    """Of one variable. counts: int64, shape (days, bins); days with too few rows are left out.

    PSI of a day against the sum of days has mean (B - 1) / n and variance 2 (B - 1) / n^2 under sampling alone (the law
    of ``drift.statistics.psi_null``, with n far below the sum); what the days show beyond that is theirs.
    """
    sizes = counts.sum(axis=1)
    counts = counts[sizes >= DAY_ROWS_MIN]
    sizes = sizes[sizes >= DAY_ROWS_MIN]
    used = counts.sum(axis=0) > 0
    freedom = int(used.sum()) - 1
    if len(counts) < DAYS_MIN or freedom < 1:
        return Spread()
    counts = counts[:, used]
    bins = counts.shape[1]
    days = (counts + 0.5) / (sizes[:, None] + 0.5 * bins)
    whole = counts.sum(axis=0) + 0.5
    whole = whole / whole.sum()
    psi = ((days - whole) * np.log(days / whole)).sum(axis=1)
    chance = 1.0 / sizes
    mean = max(0.0, float((psi - freedom * chance).mean()))
    variance = max(0.0, float(psi.var(ddof=1) - (2 * freedom * chance**2).mean()))
    # Both a standard error up, so that a short past makes tests cautious; of a variance it is sqrt(2 / (n - 1) +
    # excess kurtosis / n), and a distance that one cause moves is a chi-squared of one degree, whose excess is 12.
    few = len(psi)
    return Spread(
        mean=mean + float(np.sqrt(variance / few)),
        variance=variance * (1 + float(np.sqrt(2 / (few - 1) + 12 / few))),
    )


def feature_reference(
    rows: npt.NDArray[np.float32], days: npt.NDArray[np.int64]
) -> tuple[tuple[FeatureReference, ...], FeatureBins]:
    """Every feature of ``rows`` (float32, shape (n, f)); days: int64, shape (n,), 0 to the number of days - 1."""
    edges = [quantile_edges(rows[:, column]) for column in range(rows.shape[1])]
    bins = FeatureBins([inner.tolist() for inner in edges])
    by_day = bins.count_groups(rows, days, int(days.max()) + 1)
    start, found = 0, []
    for inner, size in zip(edges, bins.sizes, strict=True):
        counts = by_day[:, start : start + size]
        start += size
        found.append(
            FeatureReference(
                edges=tuple(float(edge) for edge in inner),
                counts=tuple(counts.sum(axis=0).tolist()),
                spread=spread_of(counts),
            )
        )
    return tuple(found), bins


def score_reference(
    scores: npt.NDArray[np.float64],
    validated: npt.NDArray[np.float64],
    fraud: npt.NDArray[np.bool_],
    days: npt.NDArray[np.int64],
) -> ScoreReference:
    """Of the validation rows: scores of the serving and of the validated model, truth, and day (0 to days - 1)."""
    day_count = int(days.max()) + 1
    by_day = np.bincount(days * SCORE_BINS + score_bins(scores), minlength=day_count * SCORE_BINS)
    bins = score_bins(validated)
    surprise = np.bincount(days, weights=fraud - validated)
    variance = np.bincount(days, weights=validated * (1 - validated))
    enough = variance > 1.0  # a day that expects no fraud says nothing
    return ScoreReference(
        counts=tuple(by_day.reshape(day_count, -1).sum(axis=0).tolist()),
        spread=spread_of(by_day.reshape(day_count, -1)),
        validated_counts=tuple(np.bincount(bins, minlength=SCORE_BINS).tolist()),
        validated_frauds=tuple(np.bincount(bins[fraud], minlength=SCORE_BINS).tolist()),
        validated_sums=tuple(np.bincount(bins, weights=validated, minlength=SCORE_BINS).tolist()),
        dispersion=max(1.0, float((surprise[enough] ** 2 / variance[enough]).mean())) if enough.any() else 1.0,
    )


def day_numbers(event_time_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Days of event time, counted from the first: int64, shape (n,)."""
    days = event_time_ms // DAY_MS
    numbers: npt.NDArray[np.int64] = days - days.min()
    return numbers


def to_plain(reference: Reference) -> dict[str, object]:
    """As JSON takes it."""
    return dataclasses.asdict(reference)


class ReferenceFlaw(ValueError):
    """A document is no reference; the message says where."""


def from_plain(document: object) -> Reference:
    """The reverse of ``to_plain``. Raises ReferenceFlaw."""
    top = _object("reference", document, Reference)
    features = tuple(
        _feature(f"reference.features[{i}]", entry)
        for i, entry in enumerate(_array("reference.features", top["features"]))
    )
    if not isinstance(top["segments"], dict) or not isinstance(top["actions"], dict):
        raise ReferenceFlaw("reference: segments and actions must be objects")
    segments = {
        name: tuple(_counts(f"reference.segments.{name}", counts) for counts in _array(name, entry))
        for name, entry in top["segments"].items()
    }
    for name, entry in segments.items():
        if [len(counts) for counts in entry] != [len(feature.counts) for feature in features]:
            raise ReferenceFlaw(f"reference.segments.{name}: other bins than the features have")
    return Reference(
        rows=_whole("reference.rows", top["rows"]),
        days=_whole("reference.days", top["days"]),
        features=features,
        scores=_scores(top["scores"]),
        segments=segments,
        actions={name: _whole(f"reference.actions.{name}", count) for name, count in top["actions"].items()},
    )


def _feature(place: str, value: object) -> FeatureReference:
    entry = _object(place, value, FeatureReference)
    edges = tuple(_real(f"{place}.edges", edge) for edge in _array(f"{place}.edges", entry["edges"]))
    counts = _counts(f"{place}.counts", entry["counts"])
    if len(counts) != len(edges) + 2 or any(a >= b for a, b in pairwise(edges)):
        raise ReferenceFlaw(f"{place}: {len(edges)} ascending edges need {len(edges) + 2} counts, it has {len(counts)}")
    return FeatureReference(edges=edges, counts=counts, spread=_spread(f"{place}.spread", entry["spread"]))


def _scores(value: object) -> ScoreReference:
    place = "reference.scores"
    entry = _object(place, value, ScoreReference)
    tables = {
        name: _counts(f"{place}.{name}", entry[name]) for name in ("counts", "validated_counts", "validated_frauds")
    }
    sums = tuple(_real(f"{place}.validated_sums", p) for p in _array(place, entry["validated_sums"]))
    if {len(sums), *map(len, tables.values())} != {SCORE_BINS}:
        raise ReferenceFlaw(f"{place}: tables of {SCORE_BINS} score bins are needed")
    return ScoreReference(
        counts=tables["counts"],
        spread=_spread(f"{place}.spread", entry["spread"]),
        validated_counts=tables["validated_counts"],
        validated_frauds=tables["validated_frauds"],
        validated_sums=sums,
        dispersion=_real(f"{place}.dispersion", entry["dispersion"]),
    )


def _spread(place: str, value: object) -> Spread:
    entry = _object(place, value, Spread)
    return Spread(mean=_real(f"{place}.mean", entry["mean"]), variance=_real(f"{place}.variance", entry["variance"]))


def _object(place: str, value: object, kind: type) -> dict[str, object]:
    names = {field.name for field in dataclasses.fields(kind)}
    if not isinstance(value, dict) or value.keys() != names:
        raise ReferenceFlaw(f"{place}: an object with exactly {', '.join(sorted(names))} is needed")
    return value


def _array(place: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise ReferenceFlaw(f"{place}={value!r}: an array is needed")
    return value


def _counts(place: str, value: object) -> tuple[int, ...]:
    return tuple(_whole(place, count) for count in _array(place, value))


def _whole(place: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ReferenceFlaw(f"{place}={value!r}: a whole number >= 0 is needed")
    return value


def _real(place: str, value: object) -> float:
    if not isinstance(value, float) or not np.isfinite(value):
        raise ReferenceFlaw(f"{place}={value!r}: a finite number with a decimal point is needed")
    return value
