"""The loop that sends: as fast as the pace and the window allow, counted, checkpointed, stopped cleanly."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from services.mesh.errors import Transient
from services.simulator.feed import Feed, Slice
from services.simulator.flight import Flight
from services.simulator.holding import Holds
from services.simulator.ledger import Ledger, Step, TopicPartition
from services.simulator.producing import Acknowledged, TopicWriter
from services.simulator.recovery import AlreadySent
from services.simulator.rhythm import DAY_MS
from services.simulator.speed import Pacer, Speed, Unpaced

TICK_S = 0.02  # shorter makes smaller batches, which the broker pays for
SLICE_RECORDS_MAX = 2_000  # some 250 a partition
QUIET_S = 1.0  # without a decision for this long we ask whether any can still come
STILL_QUIET_S = 0.1  # the same, when none has come since we last asked: input that is rejected from end to end
STUCK_S_MAX = 180.0  # a producer that gets no acknowledgement for so long has lost its broker
_TOO_FAR_AHEAD_MS = 1_000  # behind the wall clock, so that no event is ahead of it


@dataclass(slots=True)
class Counts:
    """What has happened in this run."""

    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    repeats_avoided: int = 0
    outcomes: int = 0
    event_time_ms: int = 0
    waiting: str = ""  # for what: pace, window, outcomes, or nothing
    phase: str = "live"  # or history, or settling


class Sender:
    """Sends a feed's records and outcomes; ``run`` returns at the feed's end or soon after ``stopping`` is set."""

    def __init__(
        self,
        feed: Feed,
        events: TopicWriter,
        outcomes: TopicWriter,
        flight: Flight,
        ledger: Ledger,
        speed: Speed,
        *,
        already_sent: AlreadySent,
        idle: Callable[[], Awaitable[bool]],
        stopping: asyncio.Event,
        history_until_ms: int | None = None,
        never_ahead_of_clock: bool = False,
        holds: Holds | None = None,
    ) -> None:
        self.counts = Counts()
        self._feed, self._events, self._outcomes = feed, events, outcomes
        self._window_ms = flight.window_ms
        self._flight, self._ledger, self._speed = flight, ledger, speed
        self._already_sent, self._idle = already_sent, idle
        self._history_until_ms = history_until_ms
        self._never_ahead_of_clock = never_ahead_of_clock
        self._holds = holds
        self._hold_ms: float = math.inf if holds is None else holds.after(self._begins_ms())
        self._moved = asyncio.Event()
        self._outcomes_moved = asyncio.Event()  # its own: news of outcomes are no sign that decisions still come
        self._quiet_s = QUIET_S
        self._acknowledged_s = time.monotonic()
        self._pacer: Pacer | None = None
        self._paced = 0
        self._stopping = stopping
        self._outcomes_sent: deque[tuple[int, int]] = deque()  # clock, and how many had been sent with it
        self._outcomes_unread = 0

    def decided(self, partition: int, offset: int) -> None:
        """The mesh has decided on the record at ``offset`` of ``partition``."""
        self._flight.decided(partition, offset)
        self._moved.set()

    def passed(self, partition: int, offset: int) -> None:
        """Every stage is past what lies below ``offset`` of ``partition``."""
        self._flight.passed(partition, offset)
        self._moved_s = time.monotonic()
        self._moved.set()

    def outcomes_unread(self, count: int) -> None:
        """The mesh has so many outcomes still to take."""
        self._outcomes_unread = count
        while self._outcomes_sent and self._outcomes_sent[0][1] <= self.counts.outcomes - count:
            self._outcomes_sent.popleft()
        self._outcomes_moved.set()

    @property
    def in_flight(self) -> int:
        """Records sent and not yet decided."""
        return self._flight.in_flight()

    async def run(self) -> None:
        """Send until the feed ends or ``stop`` is called."""
        while not self._stopping.is_set() and (clock_ms := self._feed.next_clock_ms()) is not None:
            self._check_delivery()
            if clock_ms >= self._hold_ms:
                await self._hold(int(self._hold_ms), clock_ms)
                continue
            taken = self._take(clock_ms)
            if taken is not None:
                await self._send(taken)
            if taken is None or len(taken.values) < SLICE_RECORDS_MAX:
                await self._wait()

    async def settle(self, timeout_s: float) -> bool:
        """Wait until everything sent is acknowledged; False when the time was too short."""
        deadline_s = time.monotonic() + timeout_s
        while not self._ledger.idle and time.monotonic() < deadline_s:
            self._check_delivery()
            await asyncio.sleep(TICK_S)
        return self._ledger.idle

    def _take(self, clock_ms: int) -> Slice | None:
        """The next records that pace and window allow now."""
        counts, now_s = self.counts, time.monotonic()
        limit_ms: float = self._flight.limit_ms(clock_ms)
        records = SLICE_RECORDS_MAX
        counts.waiting = "window" if clock_ms > limit_ms else ""
        if self._outcomes_unread and self._outcomes_sent:
            # What was found out must not reach the mesh later, in event time, than it was found out.
            oldest_ms = self._outcomes_sent[0][0]
            if clock_ms > oldest_ms + self._window_ms:
                counts.waiting = "outcomes"
                return None
        history = self._history_until_ms is not None and clock_ms < self._history_until_ms
        counts.phase = "history" if history else "live"
        if history:
            limit_ms = min(limit_ms, (self._history_until_ms or 0) - 1)
        elif not isinstance(self._speed, Unpaced):
            self._pacer = self._pacer or Pacer(self._speed, now_s, clock_ms)
            self._pacer.stalled(now_s, clock_ms, self._paced)
            allowed = self._pacer.allowance(now_s)
            limit_ms = min(limit_ms, allowed.event_time_ms)
            records = int(min(records, allowed.events - self._paced))
        limit_ms = min(limit_ms, self._hold_ms - 1)
        if self._never_ahead_of_clock:
            limit_ms = min(limit_ms, time.time() * 1_000 - _TOO_FAR_AHEAD_MS)
        taken = self._feed.take(limit_ms, records)
        if taken is None:
            counts.waiting = counts.waiting or "pace"
        elif not history:
            self._paced += len(taken.values)
        return taken

    def _begins_ms(self) -> int:
        """The clock at which this run begins."""
        sent_ms, next_ms = self._ledger.checkpoint.released_until_ms, self._feed.next_clock_ms()
        return sent_ms if sent_ms is not None else next_ms or 0

    async def _hold(self, at_ms: int, clock_ms: int) -> None:
        """Event time stands at ``at_ms`` until everything before it is settled."""
        assert self._holds is not None
        self.counts.phase, self.counts.event_time_ms = "settling", at_ms
        # What is known by now, though no event brings it.
        await self._send(Slice(self._feed.position, [at_ms - 1], [], []))
        while not self._stopping.is_set() and not (self._ledger.idle and self._flight.in_flight() == 0):
            self._check_delivery()
            self.counts.waiting = "window"
            await self._wait()
        await self._holds.hold(at_ms)
        if not self._stopping.is_set():
            # Nobody looks into days without a payment.
            self._hold_ms = max(self._holds.after(at_ms), self._holds.after(clock_ms) - DAY_MS)

    async def _send(self, taken: Slice) -> None:
        counts, clock_ms = self.counts, taken.clock_ms[-1]
        due = self._feed.release(clock_ms)
        step = self._ledger.begin(taken.position_after, clock_ms, len(taken.values), len(due))
        await self._send_to(self._events, step, taken.keys, taken.values, taken.clock_ms)
        if due:
            keys = [outcome.customer_id.encode() for outcome in due]
            await self._send_to(self._outcomes, step, keys, [outcome.value() for outcome in due], None)
        self._ledger.close(step)
        counts.sent += len(taken.values)
        counts.outcomes += len(due)
        if due:
            self._outcomes_sent.append((clock_ms, counts.outcomes))
        counts.event_time_ms = clock_ms

    async def _send_to(
        self,
        writer: TopicWriter,
        step: Step,
        keys: Sequence[bytes | None],
        values: Sequence[bytes],
        clock_ms: Sequence[int] | None,
    ) -> None:
        """Hand all records over; with clocks, their flight is watched."""
        timestamp_ms = int(time.time() * 1_000)
        for partition, all_rows in enumerate(writer.by_partition(keys, values)):
            rows = self._already_sent.leave_out(writer.topic, partition, all_rows, values)
            self.counts.repeats_avoided += len(all_rows) - len(rows)
            where = (writer.topic, partition)

            def handed_over(batch: Sequence[int], where: TopicPartition = where) -> Acknowledged:
                flying = None if clock_ms is None else self._flight.sent(where[1], [clock_ms[row] for row in batch])
                self._ledger.handed_over(step)

                def acknowledged(first_offset: int) -> None:
                    self._acknowledged_s = time.monotonic()
                    self._ledger.acknowledged(step, where, first_offset + len(batch))
                    if flying is not None:
                        self.counts.acknowledged += len(batch)
                        self._flight.acknowledged(flying, first_offset)

                return acknowledged

            if rows:
                await writer.send(partition, rows, keys, values, timestamp_ms, handed_over)

    async def _wait(self) -> None:
        """Until the next tick; when the window is full, until the mesh moves, or has nothing left to move."""
        if self.counts.waiting == "outcomes":
            self._outcomes_moved.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._outcomes_moved.wait(), QUIET_S)
            return
        if self.counts.waiting != "window":
            await asyncio.sleep(TICK_S)
            return
        self._moved.clear()
        try:
            await asyncio.wait_for(self._moved.wait(), self._quiet_s)
            self._quiet_s = QUIET_S
            await asyncio.sleep(TICK_S)
        except TimeoutError:
            if await self._idle():
                self._flight.clear()
                self._quiet_s = STILL_QUIET_S

    def _check_delivery(self) -> None:
        for writer in (self._events, self._outcomes):
            if writer.failure is not None:
                self.counts.failed += 1
                raise Transient(f"{writer.topic}: not delivered ({writer.failure!r}); is the broker healthy?")
        if self._ledger.idle:
            self._acknowledged_s = time.monotonic()
        elif (quiet_s := time.monotonic() - self._acknowledged_s) > STUCK_S_MAX:
            raise Transient(f"{self._events.topic}: no acknowledgement for {quiet_s:.0f} s; is the broker up?")
