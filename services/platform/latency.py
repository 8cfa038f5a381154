"""A latency histogram of whole milliseconds: exact counts, constant memory, any percentile."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

LATENCY_MS_MAX = 600_000  # ten minutes; later ones are counted there
_PERCENTILES = {"p50": 500, "p99": 990, "p999": 999}  # per mille, as integers: 0.999 * 1,000 is not 999 in floats


class LatencyCounts:
    """How often each latency was seen."""

    def __init__(self) -> None:
        self._counts = array("q", bytes(8 * (LATENCY_MS_MAX + 1)))
        self.total = 0

    def add(self, latency_ms: int) -> None:
        """Count one; less than nothing (two clocks) counts as nothing."""
        self._counts[min(max(latency_ms, 0), LATENCY_MS_MAX)] += 1
        self.total += 1

    def percentiles(self) -> dict[str, int | None]:
        """As ``percentiles_of``."""
        return percentiles_of(enumerate(self._counts), self.total)


def percentiles_of(counts: Iterable[tuple[int, int]], total: int) -> dict[str, int | None]:
    """``p50``, ``p99`` and ``p999`` of (latency, count) in rising order: the least that so many did not exceed.

    None when there are none.
    """
    found: dict[str, int | None] = dict.fromkeys(_PERCENTILES)
    waiting = list(_PERCENTILES.items()) if total else []
    seen = 0
    for latency_ms, count in counts:
        seen += count
        while waiting and 1_000 * seen >= waiting[0][1] * total:
            found[waiting.pop(0)[0]] = latency_ms
        if not waiting:
            break
    return found
