"""When to send again, and when to give up. Pure: chance and clocks are handed in.

Waits grow by doubling with full jitter, uniform in (0, bound]: many that failed together do not come back together
("Exponential Backoff And Jitter", Amazon's Builders' Library, 2015).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

# A receiver that asks for longer is asked again after an hour: it may have meant milliseconds.
RETRY_AFTER_S_MAX: Final = 3_600.0
_SECONDS: Final = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Bounds of waits, in seconds, and limits of one decision at a receiver that takes others."""

    first_wait_s: float
    wait_s_max: float
    attempts_max: int
    age_s_max: float  # since the first attempt

    def wait_s(self, failures: int, fraction: float) -> float:
        """How long to wait after so many failures (1 or more); ``fraction`` is chance, in [0, 1)."""
        assert failures >= 1
        bound_s = min(self.wait_s_max, self.first_wait_s * 2.0 ** min(failures - 1, 40))
        return bound_s * (1.0 - fraction)

    def is_over(self, attempts: int, age_s: float) -> bool:
        """Whether to give up after ``attempts`` that failed, the first of them ``age_s`` ago."""
        return attempts >= self.attempts_max or age_s >= self.age_s_max


def retry_after_s(text: str | None, now_s: float) -> float | None:
    """What a ``Retry-After`` header asks for (RFC 9110, 10.2.3: seconds or a date); None when it makes no sense."""
    if text is None:
        return None
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), RETRY_AFTER_S_MAX)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max(0.0, at.timestamp() - now_s), RETRY_AFTER_S_MAX)
