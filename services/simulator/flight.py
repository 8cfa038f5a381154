"""What is on its way: bounds the event time between the newest event sent and the oldest unsettled one.

Sent fast, a stream of months spreads: at 6,000/s a second of lag is 15 hours of event time, and a partition that is
ahead would move a terminal's clock past another's events. Holding the sender back to a window of event time keeps all
partitions close together (as watermark alignment does in stream processors).

A record is settled when its decision was seen, or when a barrier has passed it: every stage has taken what was
there after ingestion had judged it, so a record without a decision (refused, repeated) never gets one. A later
decision of the same partition settles nothing: the terminal's partition lies between, and may stand still while others
go on.

Pure: offsets and times come in, an answer goes out. Times are the stream's running clock, which never falls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

WINDOW_MS_DEFAULT = 6 * 3_600_000
_NEVER_MS = 2**62


class Batch:
    """Records sent together to one partition; their offsets are known once the broker has acknowledged them."""

    __slots__ = ("clock_ms", "first_offset", "partition")

    def __init__(self, partition: int, clock_ms: Sequence[int]) -> None:
        self.partition = partition
        self.clock_ms = clock_ms
        self.first_offset: int | None = None


class Flight:
    """Batches that were sent and not wholly settled, by partition, in sending order."""

    def __init__(self, partitions: int, window_ms: int) -> None:
        self.window_ms = window_ms
        self._waiting: list[deque[Batch]] = [deque() for _ in range(partitions)]
        self._next = [0] * partitions  # lowest offset that is not settled
        self._ahead: list[set[int]] = [set() for _ in range(partitions)]  # decided, above it
        self._sent: int = 0
        self._gone: int = 0

    def sent(self, partition: int, clock_ms: Sequence[int]) -> Batch:
        """Records with these clocks were handed to the producer; keep the batch for ``acknowledged``."""
        batch = Batch(partition, clock_ms)
        self._waiting[partition].append(batch)
        self._sent += len(clock_ms)
        return batch

    def acknowledged(self, batch: Batch, first_offset: int) -> None:
        """The broker holds ``batch`` from ``first_offset`` on."""
        batch.first_offset = first_offset
        self._advance(batch.partition)

    def decided(self, partition: int, offset: int) -> None:
        """A decision was made on the record at ``offset``."""
        if offset >= self._next[partition]:
            self._ahead[partition].add(offset)
            self._advance(partition)

    def passed(self, partition: int, offset: int) -> None:
        """A barrier has passed every record below ``offset``: what is undecided there never will be decided."""
        if offset > self._next[partition]:
            self._next[partition] = offset
            self._ahead[partition] = {ahead for ahead in self._ahead[partition] if ahead >= offset}
            self._advance(partition)

    def clear(self) -> None:
        """Every stage has caught up: whatever the broker holds and is still undecided never will be."""
        for partition, waiting in enumerate(self._waiting):
            held = [batch for batch in waiting if batch.first_offset is not None]
            if held:
                self.passed(partition, (held[-1].first_offset or 0) + len(held[-1].clock_ms))

    def has_gaps(self) -> bool:
        """Whether a decision has overtaken a record that has none yet."""
        return any(self._ahead)

    def limit_ms(self, next_clock_ms: int) -> int:
        """Newest clock that may be sent now, ``next_clock_ms`` being that of the first record that waits."""
        return min(next_clock_ms, *map(self._oldest_ms, range(len(self._waiting)))) + self.window_ms

    def in_flight(self) -> int:
        """How many records are sent and not settled, whole batches counted until their last record is."""
        return self._sent - self._gone

    def _oldest_ms(self, partition: int) -> int:
        waiting = self._waiting[partition]
        if not waiting:
            return _NEVER_MS
        head = waiting[0]
        if head.first_offset is None:
            return head.clock_ms[0]
        return head.clock_ms[max(0, self._next[partition] - head.first_offset)]

    def _advance(self, partition: int) -> None:
        """Move to the lowest unsettled offset; offsets between our batches are other people's."""
        waiting, ahead = self._waiting[partition], self._ahead[partition]
        while waiting and (first := waiting[0].first_offset) is not None:
            position, end = max(self._next[partition], first), first + len(waiting[0].clock_ms)
            while position < end and position in ahead:
                ahead.remove(position)
                position += 1
            self._next[partition] = position
            if position < end:
                return
            self._gone += len(waiting.popleft().clock_ms)
