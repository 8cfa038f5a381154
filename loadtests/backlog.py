"""Does a chain keep up? Pure arithmetic over samples of how far it has come."""

from __future__ import annotations

from collections.abc import Sequence

Sample = tuple[float, int]  # seconds since the beginning, records seen at the end of the chain

# A chain that falls behind by more than this share of its input, second after second, does not sustain the rate.
GROWTH_SHARE_MAX = 0.01


def backlog(samples: Sequence[Sample], rate: float, total: int) -> list[tuple[float, float]]:
    """(seconds, records that were due and have not come out) of each sample."""
    return [(at_s, min(total, at_s * rate) - seen) for at_s, seen in samples]


def growth_per_s(points: Sequence[tuple[float, float]]) -> float:
    """Slope of a straight line through ``points`` by least squares; 0 for fewer than two moments."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def keeps_up(samples: Sequence[Sample], rate: float, total: int, skip_s: float) -> bool:
    """Whether the backlog stands still between ``skip_s`` and the end of sending, and is below two seconds of input."""
    end_s = total / rate
    points = [(at_s, behind) for at_s, behind in backlog(samples, rate, total) if skip_s <= at_s <= end_s]
    if len(points) < 2:
        return False
    return growth_per_s(points) <= GROWTH_SHARE_MAX * rate and points[-1][1] <= 2 * rate
