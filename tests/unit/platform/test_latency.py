"""Percentiles are exact: compared with sorting everything."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from services.platform.latency import LATENCY_MS_MAX, LatencyCounts, percentiles_of


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=300))
def test_a_percentile_is_the_least_that_so_many_did_not_exceed(latencies_ms: list[int]) -> None:
    counts = LatencyCounts()
    for latency_ms in latencies_ms:
        counts.add(latency_ms)
    ordered = sorted(latencies_ms)
    for name, per_mille in {"p50": 500, "p99": 990, "p999": 999}.items():
        rank = math.ceil(per_mille * len(ordered) / 1_000)
        assert counts.percentiles()[name] == ordered[rank - 1]


def test_none_is_no_latency() -> None:
    assert LatencyCounts().percentiles() == {"p50": None, "p99": None, "p999": None}
    assert percentiles_of([], 0) == {"p50": None, "p99": None, "p999": None}


def test_clocks_that_disagree_and_very_late_ones_are_counted_at_the_ends() -> None:
    counts = LatencyCounts()
    counts.add(-5)
    assert counts.percentiles()["p50"] == 0
    counts.add(10 * LATENCY_MS_MAX)
    assert counts.percentiles()["p999"] == LATENCY_MS_MAX
    assert counts.total == 2
