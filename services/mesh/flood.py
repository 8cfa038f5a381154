"""A flood of rejects stops the stage instead of draining a topic into dead letters.

One bad record in a thousand is the sender's mistake; most of a stretch of records is ours or a broken deploy, and
every one of them would have to be requeued by hand.
"""

from __future__ import annotations

from collections import deque

REJECTS_MAX = 1_000  # dead letters that somebody can still look through
WINDOW_RECORDS = 2_000  # so the limit means: half of the latest records of one partition


class RejectGuard:
    """Counts rejects among the latest records of one partition."""

    def __init__(self, rejects_max: int = REJECTS_MAX, window_records: int = WINDOW_RECORDS) -> None:
        self._rejects_max = rejects_max
        self._window_records = window_records
        self._reject_positions: deque[int] = deque()
        self._seen = 0

    def count(self, records: int, rejects: int) -> bool:
        """Note a batch (its rejects are taken as its latest records); True when the flood limit is reached."""
        self._seen += records
        self._reject_positions.extend(range(self._seen - rejects, self._seen))
        horizon = self._seen - self._window_records
        while self._reject_positions and self._reject_positions[0] < horizon:
            self._reject_positions.popleft()
        return len(self._reject_positions) >= self._rejects_max
