"""Ctrl-C and SIGTERM: noted while the mesh works, and a budget for the 10 s until everything is gone."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Final, Self

# Moments after the signal, in seconds, by which each step of stopping is over whatever it has reached. A step that is
# early leaves its time to the next; what is cut short is safe, because the next start carries on from the log.
SENDERS_BY_S: Final = 2.5  # measured: 0.5
DRAIN_BY_S: Final = 4.0  # measured: 0.3
STAGES_BY_S: Final = 5.5  # measured: 0.4
SCAN_BY_S: Final = 7.0  # measured: 314,223 events in time, their outcomes not, which are read last
SERVERS_BY_S: Final = 9.5  # measured: 2; people are promised 10


class Interrupt:
    """Set by the first signal; further ones change nothing, stopping is under way.

    Until ``noting`` is called the first signal raises KeyboardInterrupt: starting waits for many things, and none of
    them has work in it that could be lost. Use as a context: the handlers of before are put back.
    """

    def __init__(self) -> None:
        self.at_s: float | None = None
        self._raises = True
        self._before: dict[int, signal.Handlers] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._came)  # type: ignore[assignment]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.at_s is not None

    def noting(self) -> None:
        """From now on somebody asks."""
        self._raises = False

    def now(self) -> None:
        """Stop, whoever asked for it."""
        if self.at_s is None:
            self.at_s = time.monotonic()

    def left_s(self, by_s: float) -> float:
        """Seconds until ``by_s`` after the signal; infinite without one."""
        return float("inf") if self.at_s is None else max(0.0, self.at_s + by_s - time.monotonic())

    def _came(self, signum: int, frame: FrameType | None) -> None:
        is_first = self.at_s is None
        self.now()
        if is_first and self._raises:
            raise KeyboardInterrupt
