"""A latency histogram of whole milliseconds: exact counts, constant memory, any percentile."""

from __future__ import annotations

from array import array

LATENCY_MS_MAX = 600_000  # ten minutes; later ones are counted there
_PERCENTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


class LatencyCounts:
    """How often each latency was seen."""

    def __init__(self) -> None:
        self._counts = array("q", bytes(8 * (LATENCY_MS_MAX + 1)))
        self.total = 0

    def add(self, latency_ms: int) -> None:
        """Count one."""
        self._counts[min(max(latency_ms, 0), LATENCY_MS_MAX)] += 1
        self.total += 1

    def percentiles(self) -> dict[str, int | None]:
        """``p50``, ``p99`` and ``p999`` in milliseconds: the smallest latency that so many events did not exceed."""
        found: dict[str, int | None] = dict.fromkeys(_PERCENTILES)
        if not self.total:
            return found
        waiting = sorted(_PERCENTILES.items(), key=lambda item: item[1])
        seen = 0
        for latency_ms, count in enumerate(self._counts):
            seen += count
            while waiting and seen >= waiting[0][1] * self.total:
                found[waiting.pop(0)[0]] = latency_ms
            if not waiting:
                break
        return found
