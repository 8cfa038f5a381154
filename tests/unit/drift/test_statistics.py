"""Each formula against scipy, scikit-learn, or the law that it claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import brier_score_loss

from services.drift.statistics import (
    EXPECTED_MIN,
    believed,
    brier_score,
    calibration_error,
    daily_t,
    estimated_at_budget,
    join_rare,
    merge_sparse,
    only_new,
    psi,
    psi_null,
    realised_at_budget,
    surprise,
    two_sample_chi2,
)
from services.mesh.bins import SCORE_BINS, score_bins, score_sums
from services.mesh.reference import Spread, spread_of

counts = arrays(np.int64, st.integers(2, 12), elements=st.integers(0, 500))


@given(counts)
def test_psi_of_equal_shares_is_nothing_and_it_is_symmetric(found: np.ndarray) -> None:
    other = found[::-1].copy()
    assert psi(found, found) == pytest.approx(0)
    assert psi(found, other) == pytest.approx(psi(other, found))
    assert psi(found, other) >= 0


def test_psi_is_both_relative_entropies() -> None:
    now, then = np.array([120, 300, 80]), np.array([900, 2_000, 1_100])
    c, r = (now + 0.5) / (now.sum() + 1.5), (then + 0.5) / (then.sum() + 1.5)
    assert psi(now, then) == pytest.approx(stats.entropy(c, r) + stats.entropy(r, c))


@pytest.mark.parametrize(("records", "known", "bins"), [(500, 10_000, 10), (1_000, 1_000, 20), (10_000, 100_000, 10)])
def test_psi_of_samples_of_one_world_follows_its_null_law(records: int, known: int, bins: int) -> None:
    rng = np.random.default_rng(records)
    shares = rng.dirichlet(np.full(bins, 5.0))
    drawn = [psi(rng.multinomial(records, shares), rng.multinomial(known, shares)) for _ in range(3_000)]
    law = psi_null(bins, records, known, Spread())
    chance = 1 / records + 1 / known
    assert np.mean(drawn) == pytest.approx((bins - 1) * chance, rel=0.08)
    for survival in (0.1, 0.01):
        assert np.mean(np.array(drawn) > law.quantile(survival)) == pytest.approx(survival, rel=0.5)
    assert law.survival(law.quantile(0.02)) == pytest.approx(0.02, rel=1e-6)
    assert law.quantile(0.01) == pytest.approx(chance * stats.chi2.isf(0.01, bins - 1), rel=1e-6)


def test_days_that_differ_widen_the_null_law() -> None:
    """One share of two wanders from day to day: without the spread half of all days would be alarms."""
    rng = np.random.default_rng(7)

    def days(number: int) -> np.ndarray:
        shares = 0.4 + rng.normal(0, 0.04, number)
        return np.array([rng.multinomial(2_000, [share, 1 - share]) for share in shares])

    training = days(60)
    spread, reference = spread_of(training), training.sum(axis=0)
    naive, law = psi_null(2, 2_000, 120_000, Spread()), psi_null(2, 2_000, 120_000, spread)
    distances = np.array([psi(day, reference) for day in days(4_000)])
    assert np.mean(distances > naive.quantile(0.01)) > 0.3
    assert np.mean(distances > law.quantile(0.01)) < 0.02


@given(counts, counts)
def test_merging_keeps_records_and_leaves_no_sparse_bin(a: np.ndarray, b: np.ndarray) -> None:
    length = min(len(a), len(b))
    now, then = a[:length], b[:length]
    merged, expected = merge_sparse(now, then)
    assert merged.sum() == now.sum()
    assert expected.sum() == then.sum()
    least = min(now.sum(), then.sum()) / max((now + then).sum(), 1)
    if len(merged) > 1:
        assert ((merged + expected) * least >= EXPECTED_MIN - 1e-9).all()
    rare, common = join_rare(now, then)
    assert rare.sum() == now.sum()
    assert common.sum() == then.sum()


@given(counts, counts)
def test_two_sample_chi2_is_scipys(a: np.ndarray, b: np.ndarray) -> None:
    length = min(len(a), len(b))
    now, then = a[:length], b[:length]
    used = now + then > 0
    if used.sum() < 2 or not now.sum() or not then.sum():
        return
    statistic, freedom = two_sample_chi2(now, then)
    expected = stats.chi2_contingency(np.stack([now[used], then[used]]), correction=False)
    assert statistic == pytest.approx(expected.statistic)
    assert freedom == expected.dof


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.001, 0.3))
def test_believing_is_scipys_false_discovery_control(p_values: list[float], rate: float) -> None:
    adjusted = stats.false_discovery_control(p_values, method="bh")
    near = np.abs(adjusted - rate) < 1e-9
    assert (np.array(believed(p_values, rate)) | near).tolist() == ((adjusted <= rate) | near).tolist()


def test_of_nothing_but_chance_little_is_believed() -> None:
    rng = np.random.default_rng(3)
    alarms = sum(any(believed(rng.random(40).tolist(), 0.05)) for _ in range(2_000))
    assert alarms / 2_000 == pytest.approx(0.05, abs=0.015)


@given(st.integers(1, 20), st.integers(100, 2_000), st.integers(100, 20_000))
def test_a_value_that_is_only_new_is_as_unlikely_as_the_hypergeometric_law_says(
    count: int, now: int, then: int
) -> None:
    assert only_new(count, now, then) == pytest.approx(stats.hypergeom.pmf(count, now + then, count, now), rel=1e-6)


def test_daily_shares_are_judged_by_how_days_differ() -> None:
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(2_000):
        shares = np.clip(0.1 + rng.normal(0, 0.02, 22), 0.01, 0.5)
        days = np.array([rng.multinomial(1_000, [share, 1 - share]) for share in shares])
        alarms += daily_t(days[-1], days[:-1]) < 0.02
    assert 0.003 < alarms / 2_000 < 0.025
    steady = np.array([[100, 900]] * 20)
    assert daily_t(np.array([400, 600]), steady) < 1e-6


def test_brier_and_calibration_error_from_sums_are_those_from_records() -> None:
    rng = np.random.default_rng(2)
    scores = rng.beta(0.5, 6, 20_000)
    fraud = rng.random(20_000) < scores * 0.8
    bins = score_bins(scores)
    held, sums, variances = score_sums(scores)
    frauds = np.bincount(bins[fraud], minlength=SCORE_BINS)
    fraud_sums = np.bincount(bins[fraud], weights=scores[fraud], minlength=SCORE_BINS)
    assert brier_score(held, frauds, sums, variances, fraud_sums) == pytest.approx(brier_score_loss(fraud, scores))
    expected = sum(
        abs(fraud[bins == b].mean() - scores[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)
    )
    assert calibration_error(held, frauds, sums) == pytest.approx(expected)


def test_frauds_of_calibrated_scores_surprise_like_a_normal_variable() -> None:
    rng = np.random.default_rng(8)
    scores = rng.beta(0.5, 6, 3_000)
    found = [
        surprise(int((rng.random(3_000) < scores).sum()), scores.sum(), (scores * (1 - scores)).sum(), 1.0)
        for _ in range(2_000)
    ]
    assert stats.kstest(found, "norm").pvalue > 0.001


@pytest.mark.parametrize("budget", [10, 100, 1_000])
def test_precision_at_a_budget_is_that_of_the_highest_scores(budget: int) -> None:
    rng = np.random.default_rng(budget)
    scores = rng.beta(0.5, 6, 50_000)
    fraud = rng.random(50_000) < scores
    held, sums, variances = score_sums(scores)
    frauds = np.bincount(score_bins(scores)[fraud], minlength=SCORE_BINS)
    top = np.argsort(-scores)[:budget]
    estimated = estimated_at_budget(held, sums, variances, budget)
    realised = realised_at_budget(held, frauds, budget)
    assert estimated is not None
    assert realised is not None
    assert estimated.records == realised.records == budget
    assert estimated.precision == pytest.approx(scores[top].mean(), abs=0.02)
    assert estimated.error == pytest.approx(math.sqrt((scores[top] * (1 - scores[top])).sum()) / budget, rel=0.2)
    assert realised.precision == pytest.approx(fraud[top].mean(), abs=4 * estimated.error)


def test_a_budget_larger_than_the_day_takes_the_whole_day() -> None:
    held, sums, variances = score_sums(np.full(7, 0.25))
    found = estimated_at_budget(held, sums, variances, 100)
    assert found is not None
    assert (found.records, found.precision) == (7, pytest.approx(0.25))
    assert estimated_at_budget(np.zeros(SCORE_BINS, dtype=np.int64), sums * 0, variances * 0, 100) is None
