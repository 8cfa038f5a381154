"""Tails and quantiles equal scipy's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.drift.distributions import (
    chi2_quantile,
    chi2_survival,
    gamma_survival,
    normal_quantile,
    normal_survival,
    student_quantile,
    student_survival,
)


@given(st.floats(0.05, 2_000), st.floats(0, 5_000))
def test_the_gamma_tail_is_scipys(shape: float, x: float) -> None:
    assert gamma_survival(shape, x) == pytest.approx(stats.gamma.sf(x, shape), rel=1e-8, abs=1e-14)


@given(st.floats(0.3, 400), st.floats(0, 2_000))
def test_the_chi_squared_tail_is_scipys(freedom: float, x: float) -> None:
    assert chi2_survival(x, freedom) == pytest.approx(stats.chi2.sf(x, freedom), rel=1e-8, abs=1e-14)


@given(st.floats(1e-9, 0.999), st.floats(0.5, 300))
def test_a_quantile_is_where_the_tail_is(survival: float, freedom: float) -> None:
    assert chi2_quantile(survival, freedom) == pytest.approx(stats.chi2.isf(survival, freedom), rel=1e-6)


@given(st.floats(-8, 8), st.floats(1, 500))
def test_students_tail_is_scipys(t: float, freedom: float) -> None:
    assert student_survival(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-7, abs=1e-14)


@pytest.mark.parametrize("survival", [1e-9, 1e-4, 0.01, 0.3, 0.5, 0.9])
def test_the_other_quantiles_are_scipys(survival: float) -> None:
    assert normal_quantile(survival) == pytest.approx(stats.norm.isf(survival), abs=1e-9)
    assert normal_survival(normal_quantile(survival)) == pytest.approx(survival)
    assert student_quantile(survival, 7) == pytest.approx(stats.t.isf(survival, 7), rel=1e-6, abs=1e-6)


def test_far_tails_are_small_and_not_zero() -> None:
    assert 0 < chi2_survival(1_000, 9) < 1e-200
    assert math.log(normal_survival(20)) == pytest.approx(stats.norm.logsf(20), rel=1e-9)
