"""Which labels are known, by event and version: drops repeats, counts what there is to learn from. Pure, bounded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.mesh.topics import DAY_MS
from services.retraining.events import Counts
from services.retraining.labels import Labels

# A record is read again seconds after a crash, not weeks; later repeats would only count twice.
REMEMBERED_DAYS = 40


class Known:
    """Labels that have come."""

    def __init__(self, label_delay_ms: int) -> None:
        self._delay_days = -(-label_delay_ms // DAY_MS)
        self._days: dict[int, dict[int, int]] = {}  # event day -> identity -> 2 * version + fraud
        self._rows: dict[int, int] = {}  # by event day, of all days
        self._frauds: dict[int, int] = {}
        self._told: dict[int, int] = {}  # frauds by day of observation
        self.repeats = 0
        self.clock_ms = 0

    def take(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """Add them; which are new, bool, shape (n,)."""
        fresh = np.ones(len(labels), dtype=np.bool_)
        if not len(labels):
            return fresh
        self.clock_ms = max(self.clock_ms, int(labels.event_time_ms.max()), int(labels.observed_ms.max()))
        for row, (day, identity, version, fraud, told) in enumerate(
            zip(
                (labels.event_time_ms // DAY_MS).tolist(),
                labels.identity.tolist(),
                labels.version.tolist(),
                labels.fraud.tolist(),
                (labels.observed_ms // DAY_MS).tolist(),
                strict=True,
            )
        ):
            known = self._days.setdefault(day, {})
            before = known.get(identity)
            if before is not None and before >> 1 >= version:
                fresh[row] = False
                self.repeats += 1
                continue
            known[identity] = 2 * version + fraud
            if before is None:
                self._rows[day] = self._rows.get(day, 0) + 1
            self._frauds[day] = self._frauds.get(day, 0) + fraud - (before is not None and before & 1)
            self._told[told] = self._told.get(told, 0) + fraud
        for day in [day for day in self._days if day < self.clock_ms // DAY_MS - REMEMBERED_DAYS]:
            del self._days[day]
        return fresh

    def counts(self, since_ms: int) -> Counts:
        """Now; ``since_ms``: when the last training was."""
        matured = [day for day in self._rows if day <= self.clock_ms // DAY_MS - self._delay_days]
        return Counts(
            rows=sum(self._rows[day] for day in matured),
            frauds=sum(self._frauds[day] for day in matured),
            oldest_ms=min(self._rows) * DAY_MS if self._rows else self.clock_ms,
            new_frauds=sum(frauds for day, frauds in self._told.items() if day >= since_ms // DAY_MS),
        )
