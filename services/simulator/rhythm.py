"""When people pay: the hours of a day as a cumulative curve that a uniform draw is put through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# Analysts look into so many days of a customer, and tell what they found at this hour of the next morning.
REVIEW_DAYS, MORNING_MS = 7, 8 * HOUR_MS

# Relative payments per hour of the day, 0h to 23h.
_WEEKDAY = (3, 2, 1, 1, 1, 3, 10, 28, 44, 46, 48, 56, 70, 62, 50, 50, 58, 74, 80, 66, 46, 32, 18, 8)
_WEEKEND = (8, 5, 3, 2, 1, 2, 4, 10, 24, 44, 62, 72, 76, 74, 70, 66, 62, 58, 56, 56, 52, 42, 30, 18)
# Those who pay with other people's cards keep their own hours: late, when owners sleep.
_THIEF = (70, 76, 74, 66, 54, 40, 24, 16, 14, 16, 18, 20, 22, 22, 22, 24, 26, 28, 30, 34, 40, 48, 56, 64)

WEEKEND_VOLUME = 1.15  # payments on a weekend day over those on a weekday

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Rhythm:
    """A distribution over the milliseconds of a day, uniform within each hour."""

    def __init__(self, weights: tuple[int, ...]) -> None:
        self._cumulative = np.concatenate(([0.0], np.cumsum(weights) / sum(weights)))
        self._edges = np.arange(len(weights) + 1, dtype=np.float64) * HOUR_MS

    def time_of_day_ms(self, uniform: Floats) -> Ints:
        """Milliseconds since midnight for draws in [0, 1), same shape."""
        return np.interp(uniform, self._cumulative, self._edges).astype(np.int64)


WEEKDAY, WEEKEND, THIEF = Rhythm(_WEEKDAY), Rhythm(_WEEKEND), Rhythm(_THIEF)


def is_weekend(day_start_ms: int) -> bool:
    """Whether the UTC day that starts at ``day_start_ms`` is a Saturday or Sunday."""
    return (day_start_ms // DAY_MS + 3) % 7 >= 5  # 1970-01-01 was a Thursday, weekday 3


def genuine_rhythm(day_start_ms: int) -> Rhythm:
    """The hours in which people pay on that day."""
    return WEEKEND if is_weekend(day_start_ms) else WEEKDAY


def volume_factor(day_start_ms: int) -> float:
    """Payments on that day over the week's average, so that a whole week averages 1."""
    weekly = (5 + 2 * WEEKEND_VOLUME) / 7
    return (WEEKEND_VOLUME if is_weekend(day_start_ms) else 1.0) / weekly
