"""How much may be sent to a receiver now: as much as it takes, one request at a time, or nothing yet. Pure.

It opens when ``FAILURES_MAX`` requests in a row have failed, or when ``REFUSALS_MAX`` in a row were refused: then it is
not the decisions that are at fault but the receiver, or the URL, and they wait in the log instead of draining into dead
letters. While it is open one request at a time asks whether the receiver is back, less often each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from services.webhooks.schedule import Schedule

FAILURES_MAX: Final = 5
REFUSALS_MAX: Final = 20  # dead letters that somebody can still look through one by one


@dataclass(slots=True)
class Circuit:
    """One receiver's. Times are of a clock that never steps back, in seconds."""

    waits: Schedule  # of the probes; its limits are not used
    at_once_max: int
    is_open: bool = False
    not_before_s: float = field(default=float("-inf"))
    _failures: int = 0
    _refusals: int = 0
    _probes: int = 0

    @property
    def at_once(self) -> int:
        """How many requests may be on their way together."""
        return 1 if self.is_open else self.at_once_max

    def took(self) -> None:
        """A decision was taken."""
        self.is_open = False
        self._failures = self._refusals = self._probes = 0

    def failed(self, now_s: float, fraction: float) -> None:
        """A request failed. ``fraction`` is chance, in [0, 1)."""
        if self.is_open:
            if now_s >= self.not_before_s:  # a probe, and no straggler from before
                self._wait(now_s, fraction)
            return
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self._wait(now_s, fraction)

    def refused(self, now_s: float, fraction: float) -> bool:
        """A decision was refused; whether it may be given up, because the receiver is not what is wrong."""
        if self.is_open:
            self.failed(now_s, fraction)
            return False
        self._failures = 0  # it answers
        self._refusals += 1
        if self._refusals >= REFUSALS_MAX:
            self._wait(now_s, fraction)
            return False
        return True

    def asked_to_wait(self, until_s: float) -> None:
        """The receiver has said until when it wants nothing."""
        self.not_before_s = max(self.not_before_s, until_s)

    def _wait(self, now_s: float, fraction: float) -> None:
        self.is_open = True
        self._probes += 1
        self.asked_to_wait(now_s + self.waits.wait_s(self._probes, fraction))
