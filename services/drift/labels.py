"""Labels merged into days of event time: what scores were worth, overall and at the alert budget. Pure.

Two populations, because who is labelled decides what a measure means. *matured*: days of which nearly every event has a
label, observed or by age. *reviewed*: events that an analyst looked at; they chose by score alone, before anybody knew
the outcome, so among the highest scores this population tells the truth within a day. Labels of other sources are not
taken early: chargebacks come for fraud alone, and a share among them would be 1.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from services.drift.days import DAY_MS, DAYS_KEPT
from services.mesh.bins import SCORE_BINS, SCORE_EDGES
from services.mesh.records import Labelled

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Population = Literal["matured", "reviewed"]
POPULATIONS: tuple[Population, ...] = ("matured", "reviewed")

# Observed labels are remembered until their day is forgotten: frauds and reviews, some per cent of events. Beyond the
# bound the oldest are let go, and a revision of theirs is not taken.
OBSERVED_MAX = 2_000_000
MATURED = 0.95  # share of a day's events that have a label
_EDGES: list[float] = SCORE_EDGES.tolist()


@dataclass(slots=True)
class Worth:
    """What scores were worth, by score bin: labelled events, frauds, sums of p, p (1 - p), and p over frauds."""

    counts: Counts = field(default_factory=lambda: np.zeros(SCORE_BINS, dtype=np.int64))
    frauds: Counts = field(default_factory=lambda: np.zeros(SCORE_BINS, dtype=np.int64))
    sums: Floats = field(default_factory=lambda: np.zeros(SCORE_BINS))
    variances: Floats = field(default_factory=lambda: np.zeros(SCORE_BINS))
    fraud_sums: Floats = field(default_factory=lambda: np.zeros(SCORE_BINS))

    def add(self, score: float, place: int, *, fraud: bool, times: int = 1) -> None:
        """One labelled event more, or less (``times`` -1)."""
        self.counts[place] += times
        self.sums[place] += times * score
        self.variances[place] += times * score * (1 - score)
        if fraud:
            self.frauds[place] += times
            self.fraud_sums[place] += times * score

    def merge(self, other: Worth) -> None:
        """Add ``other``."""
        self.counts += other.counts
        self.frauds += other.frauds
        self.sums += other.sums
        self.variances += other.variances
        self.fraud_sums += other.fraud_sums


class Top(NamedTuple):
    """One of the highest scores of a day."""

    score: float
    event: bytes
    model_version: str


class _Highest:
    """The ``size`` highest scores of a day and population, with their latest labels."""

    __slots__ = ("_heap", "_size", "fraud")

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[Top] = []
        self.fraud: dict[bytes, bool] = {}

    def add(self, top: Top, *, fraud: bool) -> None:
        if top.event in self.fraud:
            self.fraud[top.event] = fraud
        elif len(self._heap) < self._size:
            heapq.heappush(self._heap, top)
            self.fraud[top.event] = fraud
        elif top > self._heap[0]:
            self.fraud.pop(heapq.heapreplace(self._heap, top).event)
            self.fraud[top.event] = fraud

    def __iter__(self) -> Iterator[Top]:
        return iter(self._heap)


class Budgeted(NamedTuple):
    """Of the labelled events among the day's highest scores, over some days."""

    records: int
    frauds: int
    expected: float  # sum of p: frauds if the scores are calibrated
    variance: float  # sum of p (1 - p)
    models: Mapping[str, int]  # records by model version


class LabelBook:
    """All labels by day of their event. A label that comes twice, or after a later version, changes nothing."""

    def __init__(self, budget_per_day: int, horizon_ms: int) -> None:
        self.budget = budget_per_day  # highest scores of a day that are kept
        self.horizon_ms = horizon_ms  # until a matured label has told what it really is
        self._worth: dict[int, dict[str, Worth]] = {}
        self._highest: dict[tuple[int, Population], _Highest] = {}
        self._observed: dict[bytes, int] = {}  # twice the version, one more for fraud: small integers cost nothing
        self._observed_by_day: dict[int, list[bytes]] = {}
        self.newest_observed_ms = 0
        self.newest_event_ms = 0
        self.labels = 0
        self.repeats = 0
        self.matured_seen = False

    def add(self, label: Labelled) -> None:
        """Take one label."""
        day = label["event_time_ms"] // DAY_MS
        self.newest_observed_ms = max(self.newest_observed_ms, label["observed_time_ms"])
        self.newest_event_ms = max(self.newest_event_ms, label["event_time_ms"])
        if day < self.newest_event_ms // DAY_MS - DAYS_KEPT:
            return
        event = blake2b(f"{label['customer_id']}\0{label['event_id']}".encode(), digest_size=8).digest()
        fraud, version = label["label"] == "fraud", label["label_version"]
        place = bisect_right(_EDGES, label["score"])
        worth = self._worth.setdefault(day, {}).setdefault(label["model_version"], Worth())
        known = self._observed.get(event)
        if version == 0:
            self.matured_seen = True
            self.horizon_ms = label["label_age_ms"]
        if known is not None:
            if version <= known // 2:
                self.repeats += 1
                return
            worth.add(label["score"], place, fraud=bool(known % 2), times=-1)
        elif version > 0 and self.matured_seen and label["label_age_ms"] > self.horizon_ms:
            # Observed after its day had matured: it was counted as genuine then. (That label is not remembered: they
            # are nearly all events.)
            worth.add(label["score"], place, fraud=False, times=-1)
        worth.add(label["score"], place, fraud=fraud)
        self.labels += 1
        if version > 0:
            self._remember(day, event, 2 * version + fraud)
        top = Top(label["score"], event, label["model_version"])
        self._of(day, "matured").add(top, fraud=fraud)
        if label["label_source"] == "analyst" or event in self._of(day, "reviewed").fraud:
            self._of(day, "reviewed").add(top, fraud=fraud)
        self._forget()

    def worth(self, first_day: int, last_day: int, model_version: str | None = None) -> Worth:
        """Merged over days (both included) and over models, or one."""
        whole = Worth()
        for day in range(first_day, last_day + 1):
            for model, worth in self._worth.get(day, {}).items():
                if model_version in (None, model):
                    whole.merge(worth)
        return whole

    def models(self, first_day: int, last_day: int) -> set[str]:
        """Model versions that scored labelled events of these days (both included)."""
        return {model for day in range(first_day, last_day + 1) for model in self._worth.get(day, {})}

    def at_budget(
        self, population: Population, first_day: int, last_day: int, model_version: str | None = None
    ) -> Budgeted:
        """The labelled among each day's highest scores, over days (both included); of all models, or one."""
        records = frauds = 0
        expected = variance = 0.0
        models: dict[str, int] = {}
        for day in range(first_day, last_day + 1):
            highest = self._highest.get((day, population), _Highest(0))
            for top in highest:
                if model_version not in (None, top.model_version):
                    continue
                records += 1
                frauds += highest.fraud[top.event]
                expected += top.score
                variance += top.score * (1 - top.score)
                models[top.model_version] = models.get(top.model_version, 0) + 1
        return Budgeted(records, frauds, expected, variance, models)

    def has_matured(self, day: int, scored: int) -> bool:
        """Whether ``day``, with so many scored events, is labelled so far that it will hardly change any more.

        Told by the labels themselves: a day that is half labelled has more fraud than it will have in the end, and how
        long labels take is a matter of who observes.
        """
        return scored > 0 and sum(int(w.counts.sum()) for w in self._worth.get(day, {}).values()) >= MATURED * scored

    def _of(self, day: int, population: Population) -> _Highest:
        return self._highest.setdefault((day, population), _Highest(self.budget))

    def _remember(self, day: int, event: bytes, observed: int) -> None:
        if event not in self._observed:
            self._observed_by_day.setdefault(day, []).append(event)
        self._observed[event] = observed
        if len(self._observed) > OBSERVED_MAX:
            self._forget_observed(min(self._observed_by_day))

    def _forget(self) -> None:
        oldest = self.newest_event_ms // DAY_MS - DAYS_KEPT
        if len(self._worth) > DAYS_KEPT + 1:
            for old in [old for old in self._worth if old < oldest]:
                del self._worth[old]
                for population in POPULATIONS:
                    self._highest.pop((old, population), None)
                self._forget_observed(old)

    def _forget_observed(self, day: int) -> None:
        for event in self._observed_by_day.pop(day, ()):
            self._observed.pop(event, None)
