"""What is on its way: bounds the event time between the newest event sent and the oldest undecided one.

Sent fast, a stream of months spreads: at 6,000/s a second of lag is 15 hours of event time, and a partition that is
ahead would move a terminal's clock past another's events. Holding the sender back to a window of event time keeps all
partitions close together (as watermark alignment does in stream processors).

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
    """Batches that were sent and not wholly decided, by partition, in sending order."""

    def __init__(self, partitions: int, window_ms: int) -> None:
        self._window_ms = window_ms
        self._waiting: list[deque[Batch]] = [deque() for _ in range(partitions)]
        self._decided = [-1] * partitions  # highest decided offset
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
        self._drop_decided(batch.partition)

    def decided(self, partition: int, offset: int) -> None:
        """A decision was made on the record at ``offset``; those before it count as settled too.

        Partitions keep log order to within milliseconds, and rejected records are never heard of again.
        """
        if offset > self._decided[partition]:
            self._decided[partition] = offset
            self._drop_decided(partition)

    def clear(self) -> None:
        """Every stage has caught up: whatever the broker holds and is still undecided never will be."""
        for partition, waiting in enumerate(self._waiting):
            while waiting and waiting[0].first_offset is not None:
                self._pop(partition)

    def limit_ms(self, next_clock_ms: int) -> int:
        """Newest clock that may be sent now, ``next_clock_ms`` being that of the first record that waits."""
        return min(next_clock_ms, *map(self._oldest_ms, range(len(self._waiting)))) + self._window_ms

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
        return head.clock_ms[max(0, self._decided[partition] + 1 - head.first_offset)]

    def _drop_decided(self, partition: int) -> None:
        waiting = self._waiting[partition]
        while waiting:
            head = waiting[0]
            if head.first_offset is None or self._decided[partition] < head.first_offset + len(head.clock_ms) - 1:
                return
            self._pop(partition)

    def _pop(self, partition: int) -> None:
        self._gone += len(self._waiting[partition].popleft().clock_ms)
