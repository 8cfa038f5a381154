"""What scores were worth week by week, for people who can look into so many payments a day. Pure.

Precision and recall are those of the review budget: each day the ``per_day`` highest scores. Average precision is over
all payments of the week. Money saved is the value of the frauds among the reviewed ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
DAYS_A_WEEK = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """One week of one world."""

    week: int  # 0 begins with the shift
    payments: int
    frauds: int
    precision: float
    recall: float
    average_precision: float
    money_saved: float  # major units
    fraud_value: float  # of all frauds, major units


def weeks_of(
    event_time_ms: NDArray[np.int64],
    amount_minor: NDArray[np.int64],
    fraud: NDArray[np.bool_],
    score: NDArray[np.float64],
    *,
    zero_ms: int,
    per_day: int,
) -> list[Week]:
    """Whole weeks counted from ``zero_ms``, a midnight, those before it negative. Arrays of shape (n,)."""
    day = (event_time_ms - zero_ms) // DAY_MS
    reviewed = highest_of_each(day, score, per_day)
    week = day // DAYS_A_WEEK
    found = []
    for number in np.unique(week).tolist():
        inside = week == number
        if len(np.unique(day[inside])) < DAYS_A_WEEK:
            continue
        caught = inside & reviewed & fraud
        frauds = int((inside & fraud).sum())
        found.append(
            Week(
                week=number,
                payments=int(inside.sum()),
                frauds=frauds,
                precision=float(caught.sum() / max(1, (inside & reviewed).sum())),
                recall=float(caught.sum() / max(1, frauds)),
                average_precision=average_precision(score[inside], fraud[inside]),
                money_saved=float(amount_minor[caught].sum() / 100),
                fraud_value=float(amount_minor[inside & fraud].sum() / 100),
            )
        )
    return found


def highest_of_each(group: NDArray[np.int64], score: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    """Which rows are among the ``size`` highest scores of their group; of equal ones the earlier row. bool, (n,)."""
    order = np.lexsort((-score, group))
    sorted_group = group[order]
    begins = np.flatnonzero(np.append(True, np.diff(sorted_group) != 0)) if len(order) else np.empty(0, np.intp)
    rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
    chosen = np.zeros(len(order), np.bool_)
    chosen[order[rank < size]] = True
    return chosen


def average_precision(score: NDArray[np.float64], fraud: NDArray[np.bool_]) -> float:
    """Sum over thresholds of precision times gain in recall, equal scores taken together; NaN without a fraud."""
    frauds = int(fraud.sum())
    if not frauds:
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(fraud[order])
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    gained = np.diff(np.append(0, hits[ends]))
    return float((gained * hits[ends] / (ends + 1)).sum() / frauds)
