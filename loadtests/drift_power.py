"""What drift finds, how soon, and how often it is wrong: ``python -m loadtests.drift_power``.

Eight virtual weeks in which nothing moves, for several seeds: alarms a week against what is tolerated. Then each shift
of a stated size, from the fifth week on: whether it is found, by which alert, and after how many days of event time.
Ends with status 1 when alarms exceed their budget or a shift is missed. ``--quick``: fewer seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from loadtests.drift_world import START_DAY, Shift, ShiftKind, run
from services.mesh.reference import DAY_MS

EVENTS_PER_DAY = 2_000
NULL_DAYS = 56
SHIFT_DAY = START_DAY + 28
TOLERATED_PER_WEEK = 1.0

Found = Callable[[Any], bool]


class Case(NamedTuple):
    """A shift of a stated size, and the alert that it has to lead to within so many days."""

    what: str
    kind: ShiftKind
    size: float
    finds: Found
    within_days: int


def about(kind: str, subject: str = "") -> Found:
    return lambda alert: alert["kind"] == kind and alert["subject"].startswith(subject)


CASES = (
    Case("one feature moves by half a standard deviation", "feature", 0.5, about("feature_shift", "noise_a"), 1),
    Case("amounts in another unit (x 100)", "units", 100.0, about("feature_shift", "amount"), 1),
    Case("amounts in another unit, seen at the door", "units", 100.0, about("data_quality", "amount_minor"), 1),
    Case(
        "null storm: 5% of a feature is missing", "nulls", 0.05, about("data_quality", "customer_count_7d missing"), 1
    ),
    Case("null storm: 5% of a field is not told", "nulls", 0.05, about("data_quality", "country null"), 1),
    Case("a new category in 1% of events", "category", 0.01, about("data_quality", "new value of country"), 1),
    Case("scores rise by 0.5 in log-odds", "score", 0.5, about("score_shift"), 1),
    Case("concept: 15% of known frauds are genuine now (precision)", "concept", 0.15, about("precision"), 7),
    Case("the same, as a gap to what scores promise", "concept", 0.15, about("estimate_gap"), 7),
    Case("concept: 30% of known frauds are genuine now (precision)", "concept", 0.3, about("precision"), 4),
    Case("volume falls to 40%", "volume", 0.4, about("data_quality", "volume"), 1),
)


def raised_day(alert: Any) -> int:
    """The day whose check raised it, from its id."""
    date = datetime.strptime(alert["alert_id"].rsplit(":", 1)[1], "%Y-%m-%d").replace(tzinfo=UTC)
    return int(date.timestamp() * 1_000) // DAY_MS


def null(seeds: int) -> float:
    """Alarms a week when nothing moves."""
    counts = []
    for seed in range(seeds):
        _, alerts = run(100 + seed, NULL_DAYS, EVENTS_PER_DAY, false_alarms_per_week=TOLERATED_PER_WEEK)
        counts.append(sum(alert["status"] == "raised" for alert in alerts))
        kinds = [f"{a['kind']} {a['subject']}" for a in alerts if a["status"] == "raised"]
        print(f"  seed {seed}: {counts[-1]} alarms in 8 weeks  {', '.join(kinds)}", flush=True)
    return float(np.mean(counts)) / (NULL_DAYS / 7)


def delays(case: Case, seeds: int) -> list[int | None]:
    """Days from the shift's first day until the check that found it, 1 for the first day's own check; None: missed."""
    found: list[int | None] = []
    for seed in range(seeds):
        shift = Shift(case.kind, case.size, SHIFT_DAY)
        _, alerts = run(200 + seed, 28 + case.within_days + 14, EVENTS_PER_DAY, shift)
        days = [raised_day(a) for a in alerts if a["status"] == "raised" and case.finds(a)]
        after = [day - SHIFT_DAY + 1 for day in days if day >= SHIFT_DAY]
        found.append(min(after) if after else None)
    return found


def main() -> int:
    seeds = 2 if "--quick" in sys.argv else 5
    print(
        f"nothing moves: {seeds} seeds, 8 weeks, {EVENTS_PER_DAY:,} events a day, "
        f"{TOLERATED_PER_WEEK:g} alarms a week tolerated"
    )
    weekly = null(seeds)
    print(f"  {weekly:.2f} alarms a week\n")
    failed = weekly > TOLERATED_PER_WEEK
    print(f"{'shift':<60} {'found':>7} {'days, each seed':>20} {'allowed':>8}")
    for case in CASES:
        days = delays(case, seeds)
        hits = [d for d in days if d is not None and d <= case.within_days]
        shown = " ".join("-" if d is None else str(d) for d in days)
        print(f"{case.what:<60} {len(hits)}/{len(days):<5} {shown:>20} {case.within_days:>8}", flush=True)
        failed |= len(hits) < len(days)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
