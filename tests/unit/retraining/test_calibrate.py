"""Calibrated scores are true to the counts and keep every rank."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.mesh.calibration import Platt, Points, calibrated, flaw
from services.retraining.calibrate import POINTS_FRAUDS_MIN, fit_calibration, fit_platt, fit_points
from services.retraining.dataset import TrainingRefused


def drawn(
    rows: int, slope: float, intercept: float, seed: int = 1
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Margins, and frauds drawn from the logistic of ``slope * margin + intercept``."""
    rng = np.random.default_rng(seed)
    margins = rng.normal(-3, 2, rows).astype(np.float32)
    return margins, rng.random(rows) < 1 / (1 + np.exp(-(slope * margins + intercept)))


def test_platt_finds_the_curve_that_drew_the_labels() -> None:
    found = fit_platt(*drawn(200_000, slope=1.4, intercept=-0.5))
    assert found.slope == pytest.approx(1.4, abs=0.05)
    assert found.intercept == pytest.approx(-0.5, abs=0.08)


def test_platt_stays_finite_where_the_classes_separate() -> None:
    margins = np.array([-2, -1, 1, 2], dtype=np.float32)
    found = fit_platt(margins, margins > 0)
    assert flaw(found) is None
    assert 0 < calibrated(found, margins).max() < 1


def test_platt_bears_extreme_margins() -> None:
    margins = np.array([-1e30, -5, 0, 5, 1e30], dtype=np.float32)
    assert (calibrated(Platt(slope=1.0, intercept=0.0), margins) >= 0).all()
    assert (np.diff(calibrated(Platt(slope=1.0, intercept=0.0), margins)) >= 0).all()


def test_scores_that_run_backwards_are_refused() -> None:
    margins, fraud = drawn(5_000, slope=1.0, intercept=0.0)
    with pytest.raises(TrainingRefused, match="higher scores mean less fraud"):
        fit_platt(-margins, fraud)


def test_few_frauds_get_two_numbers_and_many_get_points() -> None:
    margins, fraud = drawn(40_000, slope=1.0, intercept=0.0)
    few = np.flatnonzero(fraud)[: POINTS_FRAUDS_MIN - 1]
    rows = np.concatenate([few, np.flatnonzero(~fraud)])
    assert isinstance(fit_calibration(margins[rows], fraud[rows]), Platt)
    assert isinstance(fit_calibration(margins, fraud), Points)


def test_points_follow_a_shape_that_no_logistic_has() -> None:
    rng = np.random.default_rng(2)
    margins = rng.uniform(-6, 6, 200_000).astype(np.float32)
    truth = np.where(margins < 0, 0.05, np.where(margins < 3, 0.3, 0.6))
    found = fit_points(margins, rng.random(len(margins)) < truth)
    assert found is not None
    inside = (np.abs(margins) > 0.5) & (np.abs(margins - 3) > 0.5)
    assert np.abs(calibrated(found, margins) - truth)[inside].max() < 0.03


@given(
    st.lists(st.tuples(st.floats(-20, 20, width=32), st.booleans()), min_size=2, max_size=300),
)
@settings(deadline=None, max_examples=300)
@example([(0.0, True)] * 4 + [(-1.0, True), (-2.0, False)])  # rates equal but for their last bit
def test_points_rise_strictly_and_stay_probabilities(labelled: list[tuple[float, bool]]) -> None:
    margins = np.array([margin for margin, _ in labelled], dtype=np.float32)
    found = fit_points(margins, np.array([fraud for _, fraud in labelled]))
    if found is not None:
        assert flaw(found) is None
        scores = calibrated(found, np.linspace(found.margins[0], found.margins[-1], 200).astype(np.float32))
        assert (np.diff(scores) > 0).all()


@pytest.mark.parametrize(
    "calibration", [Platt(slope=1.2, intercept=-0.3), Points(margins=(-4.0, -1.0, 2.0), probabilities=(0.0, 0.2, 1.0))]
)
def test_a_margin_gets_the_same_probability_in_every_batch(calibration: Platt | Points) -> None:
    margins = np.random.default_rng(1).normal(-1, 3, 999).astype(np.float32)
    whole = calibrated(calibration, margins)
    for size in (1, 2, 3, 7, 16, 100):
        parts = [calibrated(calibration, margins[at : at + size]) for at in range(0, len(margins), size)]
        assert np.array_equal(np.concatenate(parts), whole)
