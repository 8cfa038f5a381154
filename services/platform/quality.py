"""How good the scores of a run were, beside a model trained offline on the same data with the same delays. Pure.

Both are judged on the same payments: all decided ones of the last three weeks whose truth the input tells. The offline
model is trained anew at the start of each of these weeks, on the recorded vectors and on the labels known by then; it
scores the vectors recorded in the week that follows. What it knows, the mesh could know; no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.platform.moments import shown
from services.platform.recording import Decisions
from services.platform.worth import DAY_MS, average_precision
from services.retraining.dataset import FRAUD, TrainingRefused
from services.retraining.history import snapshot_of
from services.retraining.labels import Labels
from services.retraining.train import Settings, fit, margins

WEEKS = 3
WEEK_MS = 7 * DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Average precision of both on the same ``payments``, from ``from_ms`` to before ``to_ms`` in event time."""

    online: float
    offline: float
    payments: int
    frauds: int
    from_ms: int
    to_ms: int
    left_out: int  # decided payments of that time whose truth the input does not tell

    @property
    def population(self) -> str:
        """Who was judged."""
        return (
            f"{self.payments:,} decided payments from {shown(self.from_ms)} to {shown(self.to_ms)}, {self.frauds:,} of "
            f"them fraud, all whose truth the input tells ({self.left_out:,} left out)"
        )

    def as_json(self) -> dict[str, object]:
        """For ``summary.json``."""
        return {
            "average_precision_online": round(self.online, 5),
            "average_precision_offline": round(self.offline, 5),
            "payments": self.payments,
            "frauds": self.frauds,
            "population": self.population,
        }


def quality_of(
    decisions: Decisions, labels: Sequence[Labels], truth: Mapping[tuple[str, str], bool], threads: int = 2
) -> Quality | None:
    """Over the last three weeks; None when a week has nobody to learn from. ``truth``: (customer, event) -> fraud."""
    to_ms = (int(decisions.event_time_ms.max(initial=0)) // DAY_MS + 1) * DAY_MS
    from_ms = to_ms - WEEKS * WEEK_MS
    late = np.flatnonzero(decisions.event_time_ms >= from_ms)
    told = [truth.get(identity) for identity in zip(decisions.customer_id[late], decisions.event_id[late], strict=True)]
    known = np.array([fraud is not None for fraud in told], np.bool_)
    judged, fraud = late[known], np.array([fraud for fraud in told if fraud is not None], np.bool_)
    if not fraud.any():
        return None
    offline = np.empty(len(judged))
    for begin_ms in range(from_ms, to_ms, WEEK_MS):
        times = decisions.event_time_ms[judged]
        week = (times >= begin_ms) & (times < begin_ms + WEEK_MS)
        try:
            offline[week] = _trained_by(labels, begin_ms, decisions.rows[judged[week]], threads)
        except TrainingRefused:
            return None
    return Quality(
        online=average_precision(decisions.score[judged], fraud),
        offline=average_precision(offline, fraud),
        payments=len(judged),
        frauds=int(fraud.sum()),
        from_ms=from_ms,
        to_ms=to_ms,
        left_out=int((~known).sum()),
    )


def _trained_by(labels: Sequence[Labels], now_ms: int, rows: NDArray[np.float32], threads: int) -> NDArray[np.float64]:
    recorded = snapshot_of(labels, now_ms).recorded
    learned = np.flatnonzero(recorded.exact)
    fraud = recorded.label[learned] == FRAUD
    if fraud.all() or not fraud.any():
        raise TrainingRefused("labels of one kind only")
    settings = Settings(nthread=threads)
    model = fit(np.ascontiguousarray(recorded.rows[learned]), fraud, settings, recorded.weight[learned])
    return margins(model, rows, (0, settings.trees)).astype(np.float64)
