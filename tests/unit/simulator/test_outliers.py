"""One wrong clock in a file must not carry the sender's clock away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.simulator.chunk import running_clock
from services.simulator.columns import OrderCheck
from services.simulator.outliers import believable_ms

DAY_MS = 86_400_000
HOURS = np.arange(1_000, dtype=np.int64) * 3_600_000 + 1_700_000_000_000


def with_time(place: int, time_ms: int) -> NDArray[np.int64]:
    times = HOURS.copy()
    times[place] = time_ms
    return times


def test_sorted_times_are_believed() -> None:
    assert (believable_ms(HOURS) == HOURS).all()


def test_a_gap_of_weeks_is_believed() -> None:
    times = np.concatenate([HOURS, HOURS + 90 * DAY_MS])
    assert (believable_ms(times) == times).all()


def test_days_apart_are_believed_but_for_the_very_end() -> None:
    times = np.arange(50, dtype=np.int64) * 7 * DAY_MS
    assert (believable_ms(times)[:-5] == times[:-5]).all()


def test_a_time_far_ahead_moves_no_clock_wherever_it_is() -> None:
    for place in (0, 1, 500, 998, 999):
        for wrong_ms in (HOURS[place] * 10, HOURS[place] + 2 * DAY_MS, 2**63 - 1):
            clock = running_clock(with_time(place, int(wrong_ms)), 0)
            assert clock.max() <= HOURS[-1], (place, wrong_ms)


def test_five_in_a_row_move_no_clock() -> None:
    times = HOURS.copy()
    times[100:105] *= 10
    assert running_clock(times, 0).max() == HOURS[-1]


def test_one_record_and_none() -> None:
    assert running_clock(HOURS[:1], 0).tolist() == HOURS[:1].tolist()
    assert running_clock(HOURS[:0], 0).tolist() == []


def test_a_file_with_wrong_clocks_is_still_in_order() -> None:
    times = HOURS.copy()
    times[::100] *= 10
    order = OrderCheck("payments.jsonl")
    order.see(times)
    order.see(HOURS + 1_000 * 3_600_000)
