"""Whatever happens to the data plane, it keeps what the design promises."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from history import play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verdict import Verdict, check
from whole_mesh import Mesh

_SETTINGS = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def history(seed: int, steps: int, torn: bool = False, exact_events_max: int = 4_096, memory: str = "1G") -> Verdict:
    random = Random(seed)
    wait_ms_max = random.choice((0, 20, 3_000))
    partitions = random.randint(1, 2 if memory == "1k" else 4)  # 21 events in all: few partitions, or none has many
    mesh = Mesh(partitions, wait_ms_max, random.choice((2, 8, 1_000)), exact_events_max, memory)
    play(mesh, random, steps, torn)
    mesh.settle()
    return check(mesh, torn)


@_SETTINGS
@given(seed=st.integers(0, 1 << 32), steps=st.integers(5, 120))
def test_crashes_rebalances_and_lost_stores(seed: int, steps: int) -> None:
    history(seed, steps)


@_SETTINGS
@given(seed=st.integers(0, 1 << 32), steps=st.integers(5, 120))
def test_torn_transactions_are_told_by_the_watermark(seed: int, steps: int) -> None:
    history(seed, steps, torn=True)


@_SETTINGS
@given(seed=st.integers(0, 1 << 32), steps=st.integers(20, 120))
def test_entities_with_more_events_than_are_kept_exactly(seed: int, steps: int) -> None:
    history(seed, steps, exact_events_max=5)


@_SETTINGS
@given(seed=st.integers(0, 1 << 32), steps=st.integers(60, 200))
def test_more_events_than_memory_carries(seed: int, steps: int) -> None:
    history(seed, steps, memory="1k")


def test_the_histories_reach_every_status_and_most_events_are_exact() -> None:
    """A checker that sees only fallbacks would be content with anything."""
    seen: Counter[str] = Counter()
    for seed in range(12):
        seen += history(seed, 100, exact_events_max=5).statuses
    exact = {"customer ok", "customer saturated", "terminal ok", "terminal saturated", "terminal stale"}
    assert seen.keys() >= exact | {"customer fallback", "terminal fallback"}
    assert sum(seen[status] for status in exact) > sum(seen.values()) / 2, seen


@pytest.mark.parametrize("slots", [1, 3])
def test_without_faults_nothing_falls_back(slots: int) -> None:
    mesh = Mesh()
    for name in list(mesh.processes):
        mesh.scale(name, slots)
    random = Random(7)
    for _ in range(3):
        for _ in range(60):
            mesh.send(_event(random))
        mesh.settle()
    verdict = check(mesh)
    assert verdict.accepted == 180
    assert set(verdict.statuses) == {"customer ok", "terminal ok"}


_MADE = iter(range(1 << 30))


def _event(random: Random) -> dict[str, object]:
    number = next(_MADE)
    return {
        "event_id": f"e{number}",
        "customer_id": f"c{random.randrange(20)}",
        "terminal_id": f"t{random.randrange(9)}",
        "event_time_ms": 1_790_000_000_000 + number * 60_000,
        "amount_minor": random.randrange(10**5),
    }
