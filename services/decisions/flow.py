"""What the log's order decides: which fuses are blown, and whether the day's review budget is spent. Pure.

The state of a partition is a function of its decisions in log order and of nothing else: not of batches, restarts, or
the time of day. So live decisions, a restart (``checkpoint.py``) and a backtest agree event for event.

**Fuse.** Time is cut into windows of event time; an event older than the newest window counts into the newest. A hit is
too much when the rule's hits in the window, this one included, exceed ``factor`` times its expected rate times the
window's events, of which at least ``events_min`` are assumed. From such a hit on until ``cool_down`` has passed the
rule's fuse is blown: it calls for a person instead of its action. Whatever it hits goes on being counted, so that it
stays blown for as long as it goes on. Counts are kept by policy version: publishing a new one is the other way to mend
a fuse. A rule of the bootstrap or fallback section is measured against the events that it is tried on.

**Review budget.** Reviews are counted by day of event time, over all policies, because the people are the same. Each
partition has its share of the day: the remainder goes to other partitions every day, so that none is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.decisions.declared import Fuse, Rule, Season
from services.decisions.evaluate import Judged

DAY_MS = 86_400_000
LONG_AGO_MS = -(2**62)
DAYS_KEPT = 2  # of event time, the newest; an older event counts into the older of the two
VERSIONS_KEPT = 4  # of policies; more never act at once

SEASONS = {Season.ALWAYS: 0, Season.BOOTSTRAP: 1, Season.FALLBACK: 2}


@dataclass(slots=True)
class FuseCounts:
    """One policy version's counts in one partition; arrays have one entry a rule with an expected rate."""

    hits: NDArray[np.int64]
    until_ms: NDArray[np.int64]  # blown before this event time
    window: int = -1
    events: NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, np.int64))  # in the window, by season
    clock_ms: int = LONG_AGO_MS  # newest event time

    @classmethod
    def empty(cls, rules: int) -> FuseCounts:
        """Before the first event."""
        return cls(np.zeros(rules, np.int64), np.full(rules, LONG_AGO_MS, np.int64))


class FuseBox:
    """The fuses of one policy: pure rules over ``FuseCounts``."""

    def __init__(self, rules: Sequence[Rule], fuse: Fuse) -> None:
        self.names = [rule.name for rule in rules]
        self._fuse = fuse
        self._season = np.array([SEASONS[rule.season] for rule in rules], np.intp)
        self._allowed = np.array([(rule.expected_rate or 0.0) * fuse.factor for rule in rules])

    def count(
        self,
        counts: FuseCounts,
        times_ms: NDArray[np.int64],
        hits: NDArray[np.bool_],
        seasons: NDArray[np.bool_],
    ) -> NDArray[np.bool_] | None:
        """Count events of one partition in log order; where a rule's fuse is blown, None where none is.

        times_ms: shape (n,); hits: shape (rules, n); seasons: shape (3, n), where each season applies. Returns bool,
        shape (rules, n).
        """
        window_ms = self._fuse.window_ms
        if max(int(times_ms.max()), counts.clock_ms) // window_ms == counts.window:  # as nearly always
            return self._count(counts, times_ms, hits, seasons)
        windows = np.maximum.accumulate(np.maximum(times_ms, counts.clock_ms)) // window_ms
        blown: NDArray[np.bool_] | None = None
        starts = [0, *(np.flatnonzero(np.diff(windows)) + 1).tolist(), len(windows)]
        if self._is_quiet(counts, windows, starts[:-1], hits, seasons, int(times_ms.max())):
            return None
        for start, end in pairwise(starts):
            if windows[start] != counts.window:
                counts.window = int(windows[start])
                counts.hits[:] = 0
                counts.events[:] = 0
            part = slice(start, end)
            found = self._count(counts, times_ms[part], hits[:, part], seasons[:, part])
            if found is not None:
                if blown is None:
                    blown = np.zeros(hits.shape, bool)
                blown[:, part] = found
        return blown

    def _is_quiet(
        self,
        counts: FuseCounts,
        windows: NDArray[np.int64],
        starts: Sequence[int],
        hits: NDArray[np.bool_],
        seasons: NDArray[np.bool_],
        newest_ms: int,
    ) -> bool:
        """Count many windows at once where no rule comes near its limit, as months of history are; else do nothing."""
        if (counts.until_ms > counts.clock_ms).any():
            return False
        hits_in = np.add.reduceat(hits, starts, axis=1, dtype=np.int64)
        events_in = np.add.reduceat(seasons, starts, axis=1, dtype=np.int64)
        goes_on = windows[0] == counts.window
        if goes_on:
            hits_in[:, 0] += counts.hits
        if (hits_in > self._allowed[:, None] * self._fuse.events_min).any():
            return False
        if goes_on:
            events_in[:, 0] += counts.events
        counts.hits[:], counts.events[:] = hits_in[:, -1], events_in[:, -1]
        counts.window, counts.clock_ms = int(windows[-1]), max(counts.clock_ms, newest_ms)
        return True

    def _count(
        self,
        counts: FuseCounts,
        times_ms: NDArray[np.int64],
        hits: NDArray[np.bool_],
        seasons: NDArray[np.bool_],
    ) -> NDArray[np.bool_] | None:
        """The same within one window."""
        hits_before, events_before, clock_before = counts.hits.copy(), counts.events.copy(), counts.clock_ms
        counts.clock_ms = max(clock_before, int(times_ms.max()))
        counts.hits += hits.sum(axis=1)
        counts.events += seasons.sum(axis=1)
        assumed = np.maximum(events_before, self._fuse.events_min)
        suspects = np.flatnonzero(
            ((counts.hits > self._allowed * assumed[self._season]) & (counts.hits > hits_before))
            | (counts.until_ms > max(clock_before, int(times_ms[0])))
        )
        if not suspects.size:
            return None
        clock = np.maximum.accumulate(np.maximum(times_ms, clock_before))
        blown = np.zeros(hits.shape, bool)
        for rule in suspects.tolist():
            season = self._season[rule]
            events = np.maximum(events_before[season] + np.cumsum(seasons[season]), self._fuse.events_min)
            too_much = hits[rule] & (hits_before[rule] + np.cumsum(hits[rule]) > self._allowed[rule] * events)
            blows = np.where(too_much, clock + self._fuse.cool_down_ms, counts.until_ms[rule])
            until = np.maximum.accumulate(np.maximum(blows, counts.until_ms[rule]))
            blown[rule] = clock < until
            counts.until_ms[rule] = until[-1]
        return blown if blown.any() else None


@dataclass(slots=True)
class PartitionState:
    """What one partition's log has come to."""

    reviews: dict[int, int] = field(default_factory=dict)  # by day of event time
    fuses: dict[str, FuseCounts] = field(default_factory=dict)  # by policy version

    def counts(self, version: str, rules: int) -> FuseCounts:
        """The counts of a policy version, empty if it has not acted of late."""
        found = self.fuses.get(version)
        if found is None:
            if len(self.fuses) >= VERSIONS_KEPT:
                del self.fuses[min(self.fuses, key=lambda known: self.fuses[known].clock_ms)]
            found = self.fuses[version] = FuseCounts.empty(rules)
        return found

    def day_of(self, event_time_ms: int) -> int:
        """The day that an event counts into."""
        day = event_time_ms // DAY_MS
        return max(day, max(self.reviews, default=day) - DAYS_KEPT + 1)

    def review(self, day: int) -> None:
        """One more review on ``day``."""
        self.reviews[day] = self.reviews.get(day, 0) + 1
        while len(self.reviews) > DAYS_KEPT:
            del self.reviews[min(self.reviews)]


def share_of(per_day: int, partition: int, partitions: int, day: int) -> int:
    """How many reviews of a day are one partition's."""
    each, rest = divmod(per_day, partitions)
    return each + ((partition + day) % partitions < rest)


class Fused(Protocol):
    """A policy, as far as its fuses go."""

    version: str
    fuses: FuseBox


class FuseWatch:
    """Fuses of one policy over a batch whose rows lie in one or more partitions, each in log order."""

    def __init__(
        self,
        policy: Fused,
        states: Sequence[PartitionState],
        rows_of: Sequence[NDArray[np.intp] | slice],
        times_ms: NDArray[np.int64],
    ) -> None:
        self._box = policy.fuses
        self._version = policy.version
        self._states = states
        self._rows_of = rows_of
        self._times_ms = times_ms
        self.blown: NDArray[np.bool_] | None = None

    def __call__(
        self, hits: NDArray[np.bool_], bootstrap: NDArray[np.bool_], fallback: NDArray[np.bool_]
    ) -> NDArray[np.bool_] | None:
        """See ``evaluate.Watch``."""
        seasons = np.stack([np.ones(len(bootstrap), bool), bootstrap, fallback])
        blown: NDArray[np.bool_] | None = None
        for state, rows in zip(self._states, self._rows_of, strict=True):
            counts = state.counts(self._version, len(self._box.names))
            found = self._box.count(counts, self._times_ms[rows], hits[:, rows], seasons[:, rows])
            if found is not None:
                if blown is None:
                    blown = np.zeros(hits.shape, bool)
                blown[:, rows] = found
        self.blown = None if blown is None else blown & hits
        return self.blown


def afford(
    judged: Judged,
    row: int,
    per_day: int | None,
    partition: int,
    partitions: int,
    state: PartitionState,
    event_time_ms: int,
) -> bool:
    """Count the review of one row, the next in its partition's order; False and swapped when the day has no room."""
    day = state.day_of(event_time_ms)
    instead = judged.outcome(row).unaffordable
    room = per_day is None or state.reviews.get(day, 0) < share_of(per_day, partition, partitions, day)
    if instead is not None and not room:
        propensity = judged.swaps[row].propensity if row in judged.swaps else 1.0
        judged.swaps[row] = instead if propensity == 1.0 else replace(instead, propensity=propensity)
        return False
    state.review(day)
    return True


def reviews_in(judged: Judged) -> list[int]:
    """Rows whose verdict is a review, chance included."""
    found = judged.rows_where(lambda outcome: outcome.verdict.action == "review")
    swaps = judged.swaps
    return [row for row in found if row not in swaps or swaps[row].action == "review"]
