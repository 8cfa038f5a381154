"""Latencies of one run: an HDR histogram, and beside it short windows of sending time, to see a fault come and go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hdrh.histogram import HdrHistogram

# Recorded in tenths of a millisecond, up to ten minutes, to three digits.
UNITS_PER_MS = 10
_UNITS_MAX = 600_000 * UNITS_PER_MS
_DIGITS = 3
WINDOW_S = 0.5


class Latencies:
    """Counts per distinct latency; the histogram is made once, at the end, because recording in it costs 5 us each."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, latency_s: float) -> None:
        """One event."""
        self.counts[int(latency_s * 1000 * UNITS_PER_MS)] += 1

    def histogram(self) -> Any:
        """Everything so far."""
        return histogram_of(self.counts)


def histogram_of(counts: Mapping[int, int]) -> Any:
    """An HDR histogram of latency (tenths of a millisecond) -> how often; below 0.1 ms counts as 0.1 ms."""
    made = HdrHistogram(1, _UNITS_MAX, _DIGITS)
    for latency, count in counts.items():
        made.record_value(min(max(latency, 1), _UNITS_MAX), count)
    return made


def merged(encoded: list[bytes]) -> Any:
    """One histogram of several encoded ones."""
    whole = HdrHistogram(1, _UNITS_MAX, _DIGITS)
    for part in encoded:
        whole.decode_and_add(part)
    return whole


def percentiles_ms(histogram: Any) -> dict[str, float]:
    """``p50``, ``p99``, ``p999`` and ``max`` in milliseconds; zeros when nothing was recorded."""
    shares = {"p50": 50.0, "p99": 99.0, "p999": 99.9, "max": 100.0}
    return {name: histogram.get_value_at_percentile(share) / UNITS_PER_MS for name, share in shares.items()}


class Windows:
    """Latencies by when their events were meant to be sent."""

    def __init__(self) -> None:
        self._windows: dict[int, Latencies] = {}

    def add(self, sent_s: float, latency_s: float) -> None:
        """One event, meant for ``sent_s`` seconds after the beginning."""
        number = int(sent_s / WINDOW_S)
        window = self._windows.get(number)
        if window is None:
            window = self._windows[number] = Latencies()
        window.add(latency_s)

    def rows(self) -> list[tuple[float, int, float, float]]:
        """(begin_s, events, p99_ms, max_ms) of each window, in order."""
        rows = []
        for number in sorted(self._windows):
            histogram = self._windows[number].histogram()
            found = percentiles_ms(histogram)
            rows.append((number * WINDOW_S, histogram.get_total_count(), found["p99"], found["max"]))
        return rows
