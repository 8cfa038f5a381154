"""A stage waits for company, but not for what has come while it was busy."""

from __future__ import annotations

import pytest

from services.mesh.pace import AT_ONCE, TOGETHER


@pytest.mark.parametrize(
    ("passed_ms", "wait_ms"), [(0, 10), (12, 10), (15, 7), (20, 2), (21.9, 2), (22, 10), (300, 10)]
)
def test_what_was_waited_already_counts_unless_the_stage_is_busy(passed_ms: float, wait_ms: int) -> None:
    assert AT_ONCE.wait_ms(passed_ms) == wait_ms


@pytest.mark.parametrize("passed_ms", [0, 99, 5_000])
def test_who_is_in_no_hurry_always_waits(passed_ms: float) -> None:
    assert TOGETHER.wait_ms(passed_ms) == 250
