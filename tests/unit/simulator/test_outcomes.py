"""Outcomes: never before their time, none lost, none twice, and delays like the world's."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.simulator.delays import DELAYS_MAX, Delays
from services.simulator.outcomes import (
    CHARGEBACK,
    CUSTOMER,
    EARLY_WARNING,
    Outcome,
    OutcomeRun,
    OutcomeSchedule,
    TrueLabels,
    fixed_delay_run,
)  # fmt: skip
from services.simulator.rhythm import DAY_MS

WEEK_MS = 7 * DAY_MS


def run_of(times: list[int], delay_ms: int, name: str = "e") -> OutcomeRun:
    ids = [f"{name}{number}" for number in range(len(times))]
    fraud = np.arange(len(times)) % 3 == 0
    truth = TrueLabels(
        event_ids=ids,
        customer_ids=[f"c-{event}" for event in ids],
        event_time_ms=np.array(times, np.int64),
        fraud=fraud,
    )
    return fixed_delay_run(truth, delay_ms)


def test_an_outcome_as_json() -> None:
    (outcome,) = OutcomeScheduleOf(run_of([1_000], WEEK_MS)).release(1_000 + WEEK_MS)
    assert orjson.loads(outcome.value()) == {
        "outcome_id": "o-c-e0-e0",
        "event_id": "e0",
        "customer_id": "c-e0",
        "label": "fraud",
        "source": "chargeback",
        "observed_time_ms": 1_000 + WEEK_MS,
    }


def OutcomeScheduleOf(*runs: OutcomeRun) -> OutcomeSchedule:
    schedule = OutcomeSchedule()
    for run in runs:
        schedule.add(run)
    return schedule


def test_nothing_is_released_a_millisecond_early() -> None:
    schedule = OutcomeScheduleOf(run_of([1_000], WEEK_MS))
    assert schedule.release(1_000 + WEEK_MS - 1) == []
    assert schedule.pending == 1
    assert len(schedule.release(1_000 + WEEK_MS)) == 1
    assert schedule.pending == 0


times_of_runs = st.lists(st.lists(st.integers(0, 1_000), max_size=20), max_size=5)


@given(times_of_runs, st.lists(st.integers(0, 2_000), max_size=6))
def test_every_outcome_comes_once_in_order_and_after_its_delay(runs: list[list[int]], asked: list[int]) -> None:
    schedule = OutcomeScheduleOf(*(run_of(times, 500, f"r{number}-") for number, times in enumerate(runs)))
    released: list[Outcome] = []
    for until_ms in [*sorted(asked), 3_000]:
        due = schedule.release(until_ms)
        assert all(outcome.observed_time_ms <= until_ms for outcome in due)
        released += due
    assert [o.observed_time_ms for o in released] == sorted(time + 500 for times in runs for time in times)
    assert len({outcome.outcome_id for outcome in released}) == len(released)


def test_what_an_earlier_run_released_is_left_out() -> None:
    schedule = OutcomeSchedule(released_until_ms=1_500)
    schedule.add(run_of([1_000, 1_001], 500))
    assert schedule.pending == 1
    assert [outcome.event_id for outcome in schedule.release(9_999)] == ["e1"]


def test_events_whose_truth_nobody_knows_get_no_outcome() -> None:
    truth = TrueLabels.of(["a", "b", "c"], ["x", "y", "z"], np.array([1, 2, 3]), [True, None, False])
    run = fixed_delay_run(truth, 10)
    assert [(o.event_id, o.fraud) for o in run.outcomes(0, 9)] == [("a", True), ("c", False)]


@pytest.fixture(scope="module")
def realistic() -> tuple[np.ndarray, np.ndarray, OutcomeRun]:
    n = 40_000
    times = np.sort(np.random.default_rng(1).integers(0, DAY_MS, n))
    fraud = np.arange(n) % 4 == 0
    run = Delays(label_delay_ms=WEEK_MS).run(
        np.random.default_rng(2), [f"e{i}" for i in range(n)], ["c"] * n, times, fraud
    )
    return times, fraud, run


def test_realistic_delays_follow_the_event_and_end(realistic: tuple[np.ndarray, np.ndarray, OutcomeRun]) -> None:
    times, _, run = realistic
    delay = run.release_ms - times[run.event]
    assert np.all(np.diff(run.release_ms) >= 0)
    assert delay.min() > 0
    assert delay.max() <= DELAYS_MAX * WEEK_MS


def test_fraud_is_heard_of_from_several_sides(realistic: tuple[np.ndarray, np.ndarray, OutcomeRun]) -> None:
    times, fraud, run = realistic
    told = fraud[run.event] & run.fraud
    shares = np.bincount(run.source[told], minlength=4) / told.sum()
    assert shares[CUSTOMER] == pytest.approx(0.35, abs=0.02)
    assert shares[EARLY_WARNING] == pytest.approx(0.20, abs=0.02)
    assert shares[CHARGEBACK] == pytest.approx(0.45, abs=0.02)
    delay = (run.release_ms - times[run.event])[told]
    assert np.median(delay) < WEEK_MS < np.quantile(delay, 0.9)


def test_a_genuine_payment_is_one_when_the_label_delay_is_over(
    realistic: tuple[np.ndarray, np.ndarray, OutcomeRun],
) -> None:
    times, fraud, run = realistic
    final = ~fraud[run.event] & ~run.fraud
    assert np.all(run.release_ms[final] - times[run.event[final]] == WEEK_MS)


def test_a_wrong_report_is_reversed_by_name(realistic: tuple[np.ndarray, np.ndarray, OutcomeRun]) -> None:
    _, _, run = realistic
    by_id = {outcome.outcome_id: outcome for outcome in run.outcomes(0, len(run.release_ms))}
    reversals = [outcome for outcome in by_id.values() if outcome.revises is not None]
    assert len(reversals) > 5
    for reversal in reversals:
        first = by_id[reversal.revises or ""]
        assert (first.event_id, first.fraud, reversal.fraud) == (reversal.event_id, True, False)
        assert first.observed_time_ms < reversal.observed_time_ms
