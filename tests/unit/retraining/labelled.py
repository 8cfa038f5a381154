"""Synthetic vectors with labels that arrive later. Not a test."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from services.retraining.dataset import Horizon, Recorded

HOUR_MS = 3_600_000
DELAY_MS = 24 * HOUR_MS
ROWS = 6_000
CUT_OFF_MS = ROWS * HOUR_MS
NAMES = ("amount", "is_night", "customer_count_1d", "terminal_fraud_rate_7d")
HORIZON = Horizon(label_delay_ms=DELAY_MS, validation_ms=1_500 * HOUR_MS, genuine_after_ms=None)


def recorded(seed: int = 1) -> Recorded:
    """One event an hour from 0; label observed one day later; 6% fraud, more on large amounts and bad terminals."""
    rng = np.random.default_rng(seed)
    columns = (rng.lognormal(3, 1, ROWS), rng.random(ROWS) < 0.3, rng.poisson(3, ROWS), rng.beta(0.2, 2, ROWS))
    rows = np.column_stack(columns).astype(np.float32)
    log_odds = -6 + 0.03 * rows[:, 0] + 4 * rows[:, 3] + rows[:, 1]
    label = (rng.random(ROWS) < 1 / (1 + np.exp(-log_odds))).astype(np.int8)
    time_ms = np.arange(ROWS, dtype=np.int64) * HOUR_MS
    return Recorded(
        rows=rows, event_time_ms=time_ms, label=label, observed_ms=time_ms + DELAY_MS,
        exact=np.ones(ROWS, np.bool_), weight=np.ones(ROWS, np.float32), held_out=np.zeros(ROWS, np.bool_),
    )  # fmt: skip


def taken(data: Recorded, order: npt.NDArray[np.intp]) -> Recorded:
    """The same events in another order, or some of them."""
    return Recorded(**{field.name: getattr(data, field.name)[order] for field in dataclasses.fields(Recorded)})
