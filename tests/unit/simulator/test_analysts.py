"""Analysts: whom they choose, what they tell and when, and that a restart changes nothing."""

from __future__ import annotations

import numpy as np

from services.simulator.analysts import Analysts, Notebook
from services.simulator.outcomes import ANALYST, Outcome, OutcomeSchedule, TrueLabels
from services.simulator.rhythm import DAY_MS, HOUR_MS, MORNING_MS

NOON = 12 * HOUR_MS
# day, customer, fraud: one payment each, at noon
PAYMENTS = [
    (0, "ann", False),
    (2, "ann", True),
    (8, "ann", False),
    (8, "bob", False),
    (9, "ann", False),
    (9, "bob", True),
    (9, "cem", False),
    (10, "ann", False),
    (10, "bob", False),
]


def truth(rows: list[tuple[int, str, bool]] = PAYMENTS) -> TrueLabels:
    return TrueLabels(
        event_ids=[f"e{day}" for day, _, _ in rows],
        customer_ids=[customer for _, customer, _ in rows],
        event_time_ms=np.array([day * DAY_MS + NOON for day, _, _ in rows]),
        fraud=np.array([fraud for _, _, fraud in rows]),
    )


def scored(analysts: Analysts, day: int, **scores: float) -> None:
    times = np.full(len(scores), day * DAY_MS + NOON)
    analysts.decided(list(scores), times, np.array(list(scores.values())))


def told(analysts: Analysts, evening: int) -> list[Outcome]:
    schedule = OutcomeSchedule()
    for run in analysts.evening(evening * DAY_MS):
        schedule.add(run)
    return schedule.release(2**60)


def fraud_known(customer: str, at_ms: int, *, fraud: bool = True) -> Outcome:
    return Outcome("o", "e2", customer, fraud, 1, at_ms, None)


def test_the_days_highest_are_looked_into_a_week_back_and_told_next_morning() -> None:
    analysts = Analysts(1)
    analysts.learn(truth())
    scored(analysts, 9, ann=0.9, bob=0.8, cem=0.1)
    found = told(analysts, 10)
    assert [(o.customer_id, o.event_id, o.fraud) for o in found] == [("ann", "e8", False), ("ann", "e9", False)]
    assert {o.observed_time_ms for o in found} == {10 * DAY_MS + MORNING_MS}
    assert {o.source for o in found} == {ANALYST}
    assert found[0].outcome_id == "a-ann-e8"


def test_what_was_told_is_not_told_again() -> None:
    analysts = Analysts(1)
    analysts.learn(truth())
    scored(analysts, 9, ann=0.9)
    told(analysts, 10)
    scored(analysts, 10, ann=0.9)
    assert [o.event_id for o in told(analysts, 11)] == ["e10"]


def test_scores_of_other_days_say_nothing() -> None:
    analysts = Analysts(1)
    analysts.learn(truth())
    scored(analysts, 9, ann=0.9, bob=0.1)
    told(analysts, 10)
    scored(analysts, 10, bob=0.2, cem=0.1)
    assert {o.customer_id for o in told(analysts, 11)} == {"bob"}


def test_customers_known_defrauded_for_over_a_week_are_left_out() -> None:
    analysts = Analysts(1)
    analysts.learn(truth())
    analysts.heard([fraud_known("ann", 3 * DAY_MS - 1), fraud_known("bob", 3 * DAY_MS + 1)])
    scored(analysts, 9, ann=0.9, bob=0.8, cem=0.7)
    assert {o.customer_id for o in told(analysts, 10)} == {"bob"}


def test_a_fraud_that_was_none_closes_no_card() -> None:
    analysts = Analysts(1)
    analysts.learn(truth())
    analysts.heard([fraud_known("ann", DAY_MS), fraud_known("ann", 2 * DAY_MS, fraud=False)])
    scored(analysts, 9, ann=0.9, bob=0.8)
    assert {o.customer_id for o in told(analysts, 10)} == {"ann"}


def test_equal_scores_are_drawn_anew_each_day() -> None:
    names = [f"c{n}" for n in range(200)]
    analysts = Analysts(20)
    chosen = []
    for day in (1, 2):
        scored(analysts, day, **dict.fromkeys(names, 0.01))
        analysts.evening((day + 1) * DAY_MS)
        chosen.append(set(analysts.notebook.chosen[(day + 1) * DAY_MS]))
    assert len(chosen[0]) == len(chosen[1]) == 20
    assert len(chosen[0] & chosen[1]) < 10


def test_after_a_restart_the_same_is_told_and_nothing_twice() -> None:
    whole = Analysts(1)
    whole.learn(truth())
    scored(whole, 9, bob=0.9)
    first = told(whole, 10)
    kept = whole.notebook
    scored(whole, 10, bob=0.9)
    second = told(whole, 11)

    again = Analysts(1, Notebook(**{name: getattr(kept, name) for name in Notebook.__slots__}))
    again.learn(truth())
    schedule = OutcomeSchedule()
    for run in again.resumed():
        schedule.add(run)
    assert schedule.release(2**60) == first
    assert told(again, 10) == []
    scored(again, 9, cem=1.0)  # read once more: that evening has been
    scored(again, 10, bob=0.9)
    assert told(again, 11) == second


def test_only_a_week_of_payments_is_kept() -> None:
    analysts = Analysts(1)
    for day in range(60):
        analysts.learn(truth([(day, "ann", False)]))
        scored(analysts, day, ann=0.5)
        analysts.evening((day + 1) * DAY_MS)
    assert len(analysts._stretches) <= 10
    assert len(analysts.notebook.chosen) <= 9
    assert len(analysts._highest) <= 1
