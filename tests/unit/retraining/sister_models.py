"""Blocks of events scored by two models whose quality is known. Not a test."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.retraining.evidence import BLOCK_MS, Block, compare

ROWS, SHARE = 2_150, 0.01  # 60,000 events a week in blocks of six hours


def blocks(rng: np.random.Generator, count: int, blur_a: float, blur_b: float) -> list[Block]:
    """``count`` blocks; each model sees the log-odds of fraud through noise of its own, of standard deviation ``blur``.

    The same blur: neither is better, and they differ as two models of one recipe do.
    """
    found = []
    for number in range(count):
        fraud = rng.random(ROWS) < SHARE
        truth = np.where(fraud, 3.0, -3.0) + 1.6 * rng.standard_normal(ROWS)
        shared = rng.standard_normal(ROWS)
        scores_a, scores_b = (
            _calibrated(truth + 0.8 * shared + blur * rng.standard_normal(ROWS)) for blur in (blur_a, blur_b)
        )
        weight, segment = np.ones(ROWS), np.zeros(ROWS, dtype=np.int64)
        found.append(compare(number * BLOCK_MS, scores_a, scores_b, fraud, weight, segment))
    return found


def _calibrated(log_odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-(1.2 * log_odds - 2.5)))
