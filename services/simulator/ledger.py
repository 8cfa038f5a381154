"""How far a source has safely come: everything before a checkpoint is acknowledged by the broker.

Batches are acknowledged in any order; a checkpoint is the end of the unbroken run of acknowledged steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a second start goes on."""

    position: int = 0  # of the first record in its source that is not sent
    released_until_ms: int | None = None  # outcomes due by then are sent
    sent: int = 0  # records so far
    outcomes: int = 0
    # Every record of ours before this offset is counted above; records of ours from it on may be in the log uncounted.
    offsets: Mapping[TopicPartition, int] = field(default_factory=dict)


class Step:
    """One slice and the outcomes that it released, on their way."""

    __slots__ = ("clock_ms", "offsets", "outcomes", "pending", "position_after", "records")

    def __init__(self, position_after: int, clock_ms: int, records: int, outcomes: int) -> None:
        self.position_after, self.clock_ms = position_after, clock_ms
        self.records, self.outcomes = records, outcomes
        self.pending = 1  # held open until all its batches are handed over
        self.offsets: dict[TopicPartition, int] = {}


class Ledger:
    """Steps in sending order; ``checkpoint`` moves over those whose batches are all acknowledged."""

    def __init__(self, start: Checkpoint) -> None:
        self.checkpoint = start
        self._steps: deque[Step] = deque()

    def begin(self, position_after: int, clock_ms: int, records: int, outcomes: int) -> Step:
        """A step is about to be sent; ``close`` it when all its batches are handed over."""
        step = Step(position_after, clock_ms, records, outcomes)
        self._steps.append(step)
        return step

    def handed_over(self, step: Step) -> None:
        """One more batch of ``step`` awaits its acknowledgement."""
        step.pending += 1

    def acknowledged(self, step: Step, where: TopicPartition, next_offset: int) -> None:
        """A batch of ``step`` is in the log and ends before ``next_offset``."""
        step.offsets[where] = max(next_offset, step.offsets.get(where, 0))
        self.close(step)

    def close(self, step: Step) -> None:
        """``step`` has one thing less to wait for."""
        step.pending -= 1
        assert step.pending >= 0, "a batch was acknowledged twice"
        while self._steps and self._steps[0].pending == 0:
            self._pass(self._steps.popleft())

    @property
    def idle(self) -> bool:
        """Nothing is on its way."""
        return not self._steps

    def _pass(self, step: Step) -> None:
        before = self.checkpoint
        self.checkpoint = Checkpoint(
            position=step.position_after,
            released_until_ms=step.clock_ms,
            sent=before.sent + step.records,
            outcomes=before.outcomes + step.outcomes,
            offsets={**before.offsets, **step.offsets},
        )
