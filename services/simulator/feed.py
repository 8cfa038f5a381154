"""A source seen from the sender: take the next records up to a time, never one twice, and release what falls due."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from services.simulator.analysts import Analysts
from services.simulator.chunk import Chunk, Source
from services.simulator.outcomes import Outcome, OutcomeRun, OutcomeSchedule


class Slice(NamedTuple):
    """Consecutive records to send now."""

    position_after: int  # position of the first record that is not in here
    clock_ms: list[int]
    keys: list[bytes | None]
    values: list[bytes]


class Feed:
    """A cursor over a source and the outcomes of what it has passed."""

    def __init__(
        self,
        source: Source,
        position: int = 0,
        released_until_ms: int | None = None,
        analysts: Analysts | None = None,
    ) -> None:
        """Go on at ``position``; outcomes due by ``released_until_ms`` have been sent."""
        self._chunks = source.chunks(position)
        self._schedule = OutcomeSchedule(released_until_ms)
        self._released_until_ms = released_until_ms
        self._analysts = analysts
        self._position = position
        self._chunk: Chunk | None = None
        self._at = 0
        self._advance()
        for run in analysts.resumed() if analysts else []:
            self._add(run)

    @property
    def position(self) -> int:
        """Of the first record that was not taken."""
        return self._position

    def next_clock_ms(self) -> int | None:
        """The stream's clock at the next record; None when there is none."""
        return None if self._chunk is None else int(self._chunk.clock_ms[self._at])

    @property
    def outcomes_pending(self) -> int:
        """Outcomes of passed chunks that are not due yet."""
        return self._schedule.pending

    def take(self, limit_ms: float, records_max: int) -> Slice | None:
        """The next records with a clock of at most ``limit_ms``; None when there are none."""
        if self._chunk is None or records_max < 1:
            return None
        start, chunk = self._at, self._chunk
        allowed = int(np.searchsorted(chunk.clock_ms, limit_ms, side="right")) if limit_ms < np.inf else len(chunk)
        end = min(allowed, start + records_max)
        if end <= start:
            return None
        taken = Slice(
            chunk.first + end, chunk.clock_ms[start:end].tolist(), chunk.keys[start:end], chunk.values[start:end]
        )
        self._at, self._position = end, taken.position_after
        if end == len(chunk):
            self._advance()
        return taken

    def release(self, clock_ms: int) -> list[Outcome]:
        """Outcomes known by ``clock_ms`` that were not released before."""
        due = self._schedule.release(clock_ms)
        if self._analysts is not None:
            self._analysts.heard(due)
        return due

    def evening(self, evening_ms: int) -> None:
        """A day is over and decided: analysts choose, and what they find is released the next morning."""
        for run in self._analysts.evening(evening_ms) if self._analysts else []:
            self._add(run)

    def _advance(self) -> None:
        for chunk in self._chunks:
            if chunk.outcomes is not None:
                self._add(chunk.outcomes)
            if chunk.truth is not None and self._analysts is not None:
                self._analysts.learn(chunk.truth)
            if chunk.first + len(chunk) > self._position:
                self._chunk, self._at = chunk, max(0, self._position - chunk.first)
                return
        self._chunk = None

    def _add(self, run: OutcomeRun) -> None:
        self._schedule.add(run)
        if self._analysts is not None and self._released_until_ms is not None:
            # Released before the restart, and after what the analysts have kept.
            first, end = np.searchsorted(run.release_ms, [self._analysts.evening_ms, self._released_until_ms], "right")
            self._analysts.heard(run.outcomes(int(first), int(end)))
