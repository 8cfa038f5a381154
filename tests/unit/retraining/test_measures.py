"""Against the definitions, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retraining.measures import auc_roc, average_precision, brier, calibration_error, log_loss

SCORED = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]), st.booleans()), min_size=2, max_size=30)


def arrays(scored: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in scored]), np.array([fraud for _, fraud in scored])


@given(SCORED)
def test_auc_is_the_share_of_pairs_in_order(scored: list[tuple[float, bool]]) -> None:
    scores, fraud = arrays(scored)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[fraud] for b in scores[~fraud]]
    found = auc_roc(scores, fraud)
    assert math.isnan(found) if not pairs else found == pytest.approx(sum(pairs) / len(pairs))


@given(SCORED)
def test_average_precision_is_precision_over_recall_gained(scored: list[tuple[float, bool]]) -> None:
    scores, fraud = arrays(scored)
    total, area, before = int(fraud.sum()), 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        flagged = scores >= threshold
        if total:
            recall = (flagged & fraud).sum() / total
            area += (recall - before) * (flagged & fraud).sum() / flagged.sum()
            before = recall
    found = average_precision(scores, fraud)
    assert math.isnan(found) if not total else found == pytest.approx(area)


def test_brier_log_loss_and_calibration_error_of_a_worked_example() -> None:
    scores, fraud = np.array([0.2, 0.2, 0.8, 0.8]), np.array([False, True, True, True])
    assert brier(scores, fraud) == pytest.approx((0.04 + 0.64 + 0.04 + 0.04) / 4)
    assert log_loss(scores, fraud) == pytest.approx(-(math.log(0.8) + math.log(0.2) + 2 * math.log(0.8)) / 4)
    many_scores, many_fraud = np.repeat([0.2, 0.8], 100), np.tile([True, False], 100)
    assert calibration_error(many_scores, many_fraud) == pytest.approx(0.3)
    assert math.isfinite(log_loss(np.array([0.0, 1.0]), np.array([True, False])))
