"""Profiles merged into days of event time, in memory that depends on days, segments and bins alone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.drift.coverage import Coverage
from services.mesh.bins import AMOUNT_BINS, SCORE_BINS
from services.mesh.records import Profile, ProfileCell, ScoreTable

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DAY_MS = 86_400_000
ALL = "all"
# Four weeks to compare with, a week of checking, and a week that may come late.
DAYS_KEPT = 42
STRAGGLER_DAYS = 3
_MIXED = "(several)"
_FIELD_VALUES_MAX = 256  # what does not fit in a day is an attack or an id: "(other)"


@dataclass(slots=True)
class Scores:
    """By score bin: records, sum of p, sum of p (1 - p)."""

    counts: Counts = field(default_factory=lambda: np.zeros(SCORE_BINS, dtype=np.int64))
    sums: Floats = field(default_factory=lambda: np.zeros(SCORE_BINS))
    variances: Floats = field(default_factory=lambda: np.zeros(SCORE_BINS))

    def add(self, table: ScoreTable) -> None:
        """Merge one table."""
        bins = np.array(table["bins"], dtype=np.intp)
        self.counts[bins] += np.array(table["counts"], dtype=np.int64)
        self.sums[bins] += np.array(table["probability_sums"])
        self.variances[bins] += np.array(table["variance_sums"])

    def merge(self, other: Scores) -> None:
        """Add ``other``."""
        self.counts += other.counts
        self.sums += other.sums
        self.variances += other.variances


@dataclass(slots=True)
class Tally:
    """What one stage counted in one day, segment and model version."""

    records: int = 0
    inexact: int = 0
    features: list[Counts] = field(default_factory=list)  # of one model; empty where several are merged
    bins_of: str | None = None  # the model version whose bins those are
    scores: dict[str, Scores] = field(default_factory=dict)  # by action; "" where none is known
    values: dict[str, Counter[str | None]] = field(default_factory=dict)
    amounts: Counts = field(default_factory=lambda: np.zeros(AMOUNT_BINS, dtype=np.int64))

    def add(self, cell: ProfileCell) -> None:
        """Merge one cell. ValueError: its bins are not those of the model's cells before it."""
        if cell["features"]:
            counts = [np.array(counts, dtype=np.int64) for counts in cell["features"]]
            self._add_features(cell["model_version"], counts)
        self.records += cell["records"]
        self.inexact += cell["inexact_records"]
        for table in cell["scores"]:
            self.scores.setdefault(table["action"], Scores()).add(table)
        for entry in cell["values"]:
            values = self.values.setdefault(entry["field"], Counter())
            known = entry["value"] in values or len(values) < _FIELD_VALUES_MAX
            values[entry["value"] if known else "(other)"] += entry["records"]
        if cell["amounts"]:
            self.amounts[: len(cell["amounts"])] += np.array(cell["amounts"], dtype=np.int64)

    def merge(self, other: Tally) -> None:
        """Add ``other``."""
        if other.bins_of is not None:
            self._add_features(other.bins_of, other.features)
        self.records += other.records
        self.inexact += other.inexact
        for action, scores in other.scores.items():
            self.scores.setdefault(action, Scores()).merge(scores)
        for name, values in other.values.items():
            self.values.setdefault(name, Counter()).update(values)
        self.amounts += other.amounts

    def all_scores(self) -> Scores:
        """Over all actions."""
        whole = Scores()
        for scores in self.scores.values():
            whole.merge(scores)
        return whole

    def actions(self) -> Counter[str]:
        """Records by action."""
        return Counter({action: int(scores.counts.sum()) for action, scores in self.scores.items()})

    def _add_features(self, version: str, features: list[Counts]) -> None:
        if self.bins_of is None:
            self.bins_of, self.features = version, [counts.copy() for counts in features]
        elif self.bins_of != version:
            self.bins_of, self.features = _MIXED, []
        elif [len(counts) for counts in features] != [len(counts) for counts in self.features]:
            raise ValueError(f"a cell of model {version} counts in other bins than the cells before it")
        else:
            for mine, more in zip(self.features, features, strict=True):
                mine += more


Cell = tuple[str, str]
"""(segment, model version)."""


class Days:
    """All stages' tallies by day. A profile that comes twice changes nothing."""

    def __init__(self) -> None:
        self._days: dict[str, dict[int, dict[Cell, Tally]]] = {}
        self.coverage: dict[str, Coverage] = {}
        self.newest_ms: dict[str, int] = {}  # stage -> latest event time that it has counted

    def add(self, profile: Profile) -> bool:
        """Merge; False: a repeat. ValueError: it is not one of ours."""
        stage = profile["subject"]
        if not self.coverage.setdefault(stage, Coverage()).admit(profile["covered"]):
            return False
        self.newest_ms[stage] = max(self.newest_ms.get(stage, 0), profile["newest_event_time_ms"])
        days = self._days.setdefault(stage, {})
        for cell in profile["cells"]:
            day = cell["window_start_ms"] // DAY_MS
            if day <= 0:
                continue  # refused before any event was accepted: no time to put it at
            tallies = days.setdefault(day, {})
            tallies.setdefault((cell["segment"], cell["model_version"]), Tally()).add(cell)
        for day in [day for day in days if day < max(days) - DAYS_KEPT]:
            del days[day]
        return True

    def clock_ms(self) -> int:
        """Event time that every stage has reached; one that is days behind the others is not waited for. 0: none.

        Stages tell one after the other, so the slowest is what is complete.
        """
        times = [time for time in self.newest_ms.values() if time]
        return min((time for time in times if time > max(times) - STRAGGLER_DAYS * DAY_MS), default=0)

    def first_day(self, stage: str) -> int | None:
        """The earliest day kept; None: nothing was counted."""
        return min(self._days.get(stage, {}), default=None)

    def tally(self, stage: str, days: Iterable[int], fits: Callable[[Cell], bool]) -> Tally:
        """All cells of ``days`` that ``fits`` takes, as one."""
        whole = Tally()
        held = self._days.get(stage, {})
        for day in days:
            for cell, tally in held.get(day, {}).items():
                if fits(cell):
                    whole.merge(tally)
        return whole

    def segments(self, stage: str, day: int) -> list[str]:
        """Segments that ``stage`` counted on ``day``."""
        return sorted({segment for segment, _ in self._days.get(stage, {}).get(day, {})})

    def models(self, stage: str, day: int) -> Counter[str]:
        """Records by model version on ``day``."""
        found: Counter[str] = Counter()
        for (_, model), tally in self._days.get(stage, {}).get(day, {}).items():
            found[model] += tally.records
        return found
