"""How long the world takes to learn what a payment was, and from whom.

After ``research``: most feedback is in after a week, chargebacks trail for weeks, early warnings and customers come
first, some fraud is never reported, and some reports turn out wrong. Everything scales with one number, the delay after
which an undisputed payment counts as genuine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.simulator.outcomes import (
    CHARGEBACK,
    CUSTOMER,
    EARLY_WARNING,
    OutcomeRun,
    TrueLabels,
    fixed_delay_run,
    sorted_run,
)

DELAYS_MAX = 6.0  # the latest outcome, in label delays: what a resumed run must look back over

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Shares and medians; medians in label delays."""

    label_delay_ms: int
    customer_share: float = 0.35  # of fraud is noticed by its victim
    early_warning_share: float = 0.20  # is flagged by the card scheme; the rest comes back as chargebacks
    unreported_share: float = 0.01  # of fraud is never heard of: the world takes it for genuine
    disputed_share: float = 0.0005  # of genuine payments are first reported as fraud, then reversed
    customer_median: float = 0.2
    early_warning_median: float = 0.35
    chargeback_median: float = 0.9
    log_sigma: float = 0.5

    def run(
        self,
        rng: np.random.Generator,
        event_ids: Sequence[str],
        customer_ids: Sequence[str],
        event_time_ms: Ints,
        fraud: NDArray[np.bool_],
    ) -> OutcomeRun:
        """The outcomes of these events (arrays of shape (n,)), drawn from ``rng``."""
        n = len(event_time_ms)
        told = fraud & (rng.random(n) >= self.unreported_share)
        teller = rng.random(n)
        by_customer = told & (teller < self.customer_share)
        by_scheme = told & ~by_customer & (teller < self.customer_share + self.early_warning_share)
        median = np.select(
            [by_customer, by_scheme], [self.customer_median, self.early_warning_median], self.chargeback_median
        )
        drawn = np.minimum(median * np.exp(self.log_sigma * rng.standard_normal(n)), DELAYS_MAX)
        # Silence is the only news of a genuine payment: it is one when the label delay is over.
        delay_ms = (np.where(told, drawn, 1.0) * self.label_delay_ms).astype(np.int64)
        source = np.select([by_customer, by_scheme], [CUSTOMER, EARLY_WARNING], CHARGEBACK).astype(np.int8)
        disputed = np.flatnonzero(~fraud & (rng.random(n) < self.disputed_share))
        first_ms = delay_ms.copy()
        first_ms[disputed] = (delay_ms[disputed] * self.customer_median).astype(np.int64)
        source[disputed] = CUSTOMER
        said = told.copy()
        said[disputed] = True
        return sorted_run(
            release_ms=np.concatenate([event_time_ms + first_ms, event_time_ms[disputed] + delay_ms[disputed]]),
            event=np.concatenate([np.arange(n), disputed]),
            fraud=np.concatenate([said, np.zeros(len(disputed), np.bool_)]),
            source=np.concatenate([source, np.full(len(disputed), CHARGEBACK, np.int8)]),
            ordinal=np.concatenate([np.zeros(n, np.int8), np.ones(len(disputed), np.int8)]),
            event_ids=event_ids,
            customer_ids=customer_ids,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chargebacks:
    """As with a file: of every payment the truth, one label delay later to the millisecond, and nothing before."""

    label_delay_ms: int

    def run(
        self,
        rng: np.random.Generator,
        event_ids: Sequence[str],
        customer_ids: Sequence[str],
        event_time_ms: Ints,
        fraud: NDArray[np.bool_],
    ) -> OutcomeRun:
        """The outcomes of these events (arrays of shape (n,)); nothing is drawn."""
        truth = TrueLabels(event_ids=event_ids, customer_ids=customer_ids, event_time_ms=event_time_ms, fraud=fraud)
        return fixed_delay_run(truth, self.label_delay_ms)
