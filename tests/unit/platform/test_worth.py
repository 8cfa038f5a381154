"""Weeks of scores at a review budget, held against scikit-learn and against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from services.platform.worth import DAY_MS, average_precision, highest_of_each, weeks_of

ZERO_MS = 100 * DAY_MS


def test_average_precision_is_scikit_learns_with_ties_too() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        fraud = rng.random(300) < 0.1
        score = np.round(rng.random(300) + 0.4 * fraud, 1)
        assert average_precision(score, fraud) == pytest.approx(average_precision_score(fraud, score))
    assert np.isnan(average_precision(np.ones(3), np.zeros(3, bool)))


def test_the_highest_of_each_group_and_no_more() -> None:
    group = np.array([1, 1, 1, 0, 0, 2])
    score = np.array([0.1, 0.9, 0.9, 0.2, 0.3, 0.0])
    assert highest_of_each(group, score, 1).tolist() == [False, True, False, False, True, True]
    assert highest_of_each(group, score, 2).tolist() == [False, True, True, True, True, True]
    assert highest_of_each(group[:0], score[:0], 2).tolist() == []


def test_a_week_at_its_budget() -> None:
    """Two payments looked into a day; on each the fraud of 30 is found, the other one is genuine."""
    day = np.repeat(np.arange(7), 3)
    weeks = weeks_of(
        ZERO_MS + day * DAY_MS + 5,
        np.tile([3_000, 100, 700], 7),
        np.tile([True, False, True], 7),
        np.tile([0.9, 0.5, 0.4], 7),
        zero_ms=ZERO_MS,
        per_day=2,
    )
    (week,) = weeks
    assert (week.week, week.payments, week.frauds) == (0, 21, 14)
    assert (week.precision, week.recall) == (0.5, 0.5)
    assert week.money_saved == pytest.approx(7 * 30.0)
    assert week.fraud_value == pytest.approx(7 * 37.0)


def test_weeks_count_from_the_shift_and_broken_ones_are_left_out() -> None:
    day = np.arange(-9, 9)
    n = len(day)
    weeks = weeks_of(ZERO_MS + day * DAY_MS, np.ones(n, np.int64), day % 2 == 0, np.ones(n), zero_ms=ZERO_MS, per_day=1)
    assert [week.week for week in weeks] == [-1, 0]
