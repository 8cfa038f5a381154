"""How long to wait before a dead child is started again."""

from __future__ import annotations

from dataclasses import dataclass

DELAY_S_MIN = 0.2  # a crash by chance costs a blink
DELAY_S_MAX = 5.0  # half the recovery target of 10 s
HEALTHY_S_RESET = 30.0  # this long healthy, and the next death is a new story


@dataclass(slots=True)
class Backoff:
    """Doubling delays between ``delay_s_min`` and ``delay_s_max``; starts over after a healthy stretch."""

    delay_s_min: float = DELAY_S_MIN
    delay_s_max: float = DELAY_S_MAX
    healthy_s_reset: float = HEALTHY_S_RESET
    deaths: int = 0
    config_deaths: int = 0

    def delay_s(self, healthy_s: float, *, config_error: bool = False) -> float:
        """Count one death after ``healthy_s`` seconds of health; return the seconds to wait before the restart."""
        if healthy_s >= self.healthy_s_reset:
            self.deaths = self.config_deaths = 0
        delay_s = min(self.delay_s_max, self.delay_s_min * 2.0 ** min(self.deaths, 32))  # 32: no overflow, far past max
        self.deaths += 1
        self.config_deaths = self.config_deaths + 1 if config_error else 0
        return delay_s
