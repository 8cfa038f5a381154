"""Deterministic twins of the log, the store and the clock; the same suite holds them to the real ones.

``MemoryBroker`` and ``MemoryRedis`` outlive a crash, ``MemoryLog`` and ``MemoryStore`` are what a process holds.
``crash_points`` names the effects between which a process can die: ``before_commit``, ``after_commit`` (the broker has
it, the process never learns), ``before_save``, ``after_save``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from services.mesh.errors import Fenced, StoreLost, StoreUnreachable, Transient
from services.mesh.partitioner import Partitioner
from services.mesh.ports import (
    LANE,
    Assignment,
    CommittedOffset,
    Header,
    InRecord,
    OutRecord,
    StoreMark,
    StoreStep,
)

_JOURNAL_RECORDS_MAX = 1_000_000  # whole: a control topic is small


class Crash(BaseException):
    """The process died here. BaseException: no handler of errors may survive its own death."""


class ManualClock:
    """Time that moves only when told, or by sleeping."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """The same clock in seconds."""
        return self._now_ms / 1000

    def sleep_s(self, seconds: float) -> None:
        """Advance."""
        self.advance_ms(int(seconds * 1000))

    def advance_ms(self, milliseconds: int) -> None:
        """Move on."""
        self._now_ms += milliseconds


@dataclass(slots=True)
class _Group:
    offsets: dict[int, CommittedOffset] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)  # slot -> epoch of its latest opening
    owners: dict[int, tuple[str, int]] = field(default_factory=dict)  # partition -> slot and epoch that holds it
    openings: int = 0
    generation: int = 0


class MemoryBroker:
    """Topics, groups and transactions in memory.

    Offsets are sparse, as behind Kafka's commit markers: each transaction leaves a gap in every partition it wrote to.
    """

    def __init__(self, partitions: int, clock: ManualClock) -> None:
        self.partitions = partitions
        self.clock = clock
        self.partitioner = Partitioner(partitions)
        self.records: dict[tuple[str, int], list[InRecord]] = {}
        self.groups: dict[str, _Group] = {}
        self._ends: dict[tuple[str, int], int] = {}

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None = None,
        headers: Sequence[Header] = (),
    ) -> InRecord:
        """Append one record, as a producer outside the mesh would."""
        if partition is None:
            partition = self.partitioner.partition_of(key or b"")
        where = (topic, partition)
        offset = self._ends.get(where, 0)
        self._ends[where] = offset + 1
        record = InRecord(topic, partition, offset, self.clock.now_ms(), key, value, list(headers))
        self.records.setdefault(where, []).append(record)
        return record

    def commit(self, group: _Group, outputs: Sequence[OutRecord], offsets: Mapping[int, CommittedOffset]) -> None:
        """All or nothing."""
        written = [self.produce(out.topic, out.key, out.value, out.partition, out.headers) for out in outputs]
        self._mark({(record.topic, record.partition) for record in written})
        group.offsets.update(offsets)

    def abort(self, outputs: Sequence[OutRecord]) -> None:
        """The records of an aborted transaction and its marker take offsets and are never seen."""
        touched = set()
        for out in outputs:
            chosen = self.partitioner.partition_of(out.key or b"") if out.partition is None else out.partition
            self._ends[out.topic, chosen] = self._ends.get((out.topic, chosen), 0) + 1
            touched.add((out.topic, chosen))
        self._mark(touched)

    def _mark(self, places: set[tuple[str, int]]) -> None:
        for place in places:
            self._ends[place] += 1

    def all_records(self, topic: str) -> list[InRecord]:
        """Every record of ``topic``, partition by partition."""
        return [r for (name, _), records in sorted(self.records.items()) if name == topic for r in records]

    def after(self, topic: str, partition: int, offset: int, count: int) -> list[InRecord]:
        """Up to ``count`` records at or after ``offset``."""
        records = self.records.get((topic, partition), [])
        low, high = 0, len(records)
        while low < high:
            middle = (low + high) // 2
            if records[middle].offset < offset:
                low = middle + 1
            else:
                high = middle
        return records[low : low + count]


class MemoryLog:
    """One process's TransactionalLog on a MemoryBroker."""

    def __init__(
        self,
        broker: MemoryBroker,
        group: str,
        topics: str | Sequence[str],
        slot: str = "0",
        crash: Callable[[str], None] | None = None,
    ) -> None:
        self._broker = broker
        self._group = broker.groups.setdefault(group, _Group())
        self._topics = (topics,) if isinstance(topics, str) else tuple(topics)
        self._slot = slot
        self._crash = crash or (lambda point: None)
        self._epoch = -1
        self._generation = -1
        self._polled_generation = -1  # of the last batch
        self._waits = False  # for partitions that their former owner has not let go of yet
        self._positions: dict[int, int] = {}
        self._paused: set[int] = set()
        self._change: Assignment | None = None

    def open(self) -> None:
        """Join; an earlier process with this slot is fenced."""
        self._group.openings += 1
        self._epoch = self._group.openings
        self._group.members[self._slot] = self._epoch
        self._group.generation += 1
        self._positions, self._generation, self._change = {}, -1, None
        self._waits = False
        self._paused.clear()

    def close(self) -> None:
        """Leave, unless already fenced."""
        if self._group.members.get(self._slot) == self._epoch:
            del self._group.members[self._slot]
            self._group.generation += 1

    def poll(self, records_max: int, wait_ms: int) -> list[InRecord]:
        """See the port."""
        self._check_owner()
        if self._generation != self._group.generation or self._waits:
            self._rebalance()
        batch: list[InRecord] = []
        for partition in sorted(self._positions):
            if partition in self._paused:
                continue
            found = self._after(partition, self._positions[partition], records_max - len(batch))
            if found:
                self._positions[partition] = found[-1].offset + 1
                batch += found
        if batch:
            self._polled_generation = self._generation
        else:
            self._broker.clock.advance_ms(wait_ms)
        return batch

    def take_assignment(self) -> Assignment | None:
        """See the port."""
        change, self._change = self._change, None
        return change

    def commit(self, outputs: Sequence[OutRecord], offsets: Mapping[int, CommittedOffset]) -> None:
        """See the port."""
        try:
            self._crash("before_commit")
            self._check_owner()
            if offsets and self._polled_generation != self._group.generation:  # no broker asks what moves no offsets
                raise Transient("the group has rebalanced since this batch was polled")
        except BaseException:
            self._broker.abort(outputs)
            raise
        self._broker.commit(self._group, outputs, offsets)
        self._crash("after_commit")

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        """See the port."""
        position = start
        while True:
            found = [r for r in self._after(partition, position, 100) if r.offset < end]
            if not found:
                return
            yield found
            position = found[-1].offset + 1

    def pause(self, partitions: Sequence[int]) -> None:
        """See the port."""
        self._paused.update(partitions)

    def _after(self, number: int, offset: int, count: int) -> list[InRecord]:
        found = self._broker.after(self._topics[number // LANE], number % LANE, offset, count)
        return found if number < LANE else [record._replace(partition=number) for record in found]

    def _check_owner(self) -> None:
        if self._group.members.get(self._slot) != self._epoch:
            raise Fenced(f"slot {self._slot} was taken over")

    def _rebalance(self) -> None:
        """As eager rebalancing does it: let go of everything, take what its former owner let go of."""
        slots = sorted(self._group.members)
        mine = {
            input_ * LANE + p
            for p in range(self._broker.partitions)
            if slots[p % len(slots)] == self._slot
            for input_ in range(len(self._topics))
        }
        removed = sorted(self._positions) if self._generation != self._group.generation else []
        for partition in removed:
            del self._positions[partition], self._group.owners[partition]
        wanted = sorted(mine - set(self._positions))
        added = [partition for partition in wanted if self._is_free(partition)]
        self._group.owners.update(dict.fromkeys(added, (self._slot, self._epoch)))
        offsets = {p: self._group.offsets.get(p, CommittedOffset(None, "")) for p in added}
        self._positions.update({p: offsets[p].offset or 0 for p in added})
        if added or removed or self._generation == -1:
            self._change = Assignment(offsets, removed)
        self._waits = len(added) < len(wanted)
        self._generation = self._group.generation

    def _is_free(self, partition: int) -> bool:
        """Whether nobody holds it: its owner let go, left, or was taken over."""
        slot, epoch = self._group.owners.get(partition, ("", -1))
        return self._group.members.get(slot) != epoch


class MemoryJournal:
    """One process's Journal on a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self._next_offset = 0

    def read_to_end(self) -> list[InRecord]:
        """See the port."""
        self._next_offset = 0
        return self.poll()

    def poll(self) -> list[InRecord]:
        """See the port."""
        found = self._broker.after(self._topic, 0, self._next_offset, _JOURNAL_RECORDS_MAX)
        if found:
            self._next_offset = found[-1].offset + 1
        return found

    def close(self) -> None:
        """See the port."""


class MemoryRedis:
    """What a store holds, apart from any process."""

    def __init__(self) -> None:
        self.values: dict[tuple[int, str], bytes] = {}
        self.marks: dict[int, StoreMark] = {}
        self.epochs: dict[int, int] = {}
        self.claims = 0  # no two are of the same moment
        self.reachable = True

    def lose_all(self) -> None:
        """Total loss, epochs too."""
        self.values.clear()
        self.marks.clear()
        self.epochs.clear()


class MemoryStore:
    """One process's StateStore on a MemoryRedis."""

    def __init__(self, redis: MemoryRedis, clock: ManualClock, crash: Callable[[str], None] | None = None) -> None:
        self._redis = redis
        self._clock = clock
        self._crash = crash or (lambda point: None)
        self._epochs: dict[int, int] = {}
        self._left: dict[int, StoreMark | None] = {}

    def claim(self, partition: int) -> StoreMark | None:
        """See the port."""
        self._check_reachable()
        self._redis.claims += 1
        epoch = max(self._redis.epochs.get(partition, 0) + 1, self._clock.now_ms() * 1_000 + self._redis.claims)
        self._redis.epochs[partition] = self._epochs[partition] = epoch
        self._left[partition] = mark = self._redis.marks.get(partition)
        return mark

    def load(self, partition: int, keys: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        if not keys:
            return []
        self._check_reachable()
        self._check_epoch(partition)
        at, left = self._redis.marks.get(partition), self._left[partition]
        if at != left:
            raise StoreLost(f"partition {partition}: state is at {at}, we left it at {left}", partition)
        return [self._redis.values.get((partition, key)) for key in keys]

    def lost(self, partitions: Sequence[int]) -> list[int]:
        """See the port."""
        self._check_reachable()
        return [partition for partition in partitions if self._is_lost(partition)]

    def save(self, steps: Sequence[StoreStep]) -> None:
        """See the port."""
        self._crash("before_save")
        self._check_reachable()
        for step in steps:
            self._apply(step)
            self._left[step.partition] = step.mark
            self._crash("after_save")

    def clear(self, partition: int) -> None:
        """See the port."""
        self._check_reachable()
        self._check_epoch(partition)
        for where in [where for where in self._redis.values if where[0] == partition]:
            del self._redis.values[where]
        self._redis.marks.pop(partition, None)
        self._left[partition] = None

    def _apply(self, step: StoreStep) -> None:
        self._check_epoch(step.partition)
        stored = self._redis.marks.get(step.partition)
        at = stored.offset if stored else None
        if at is not None and at >= step.mark.offset:
            return  # applied before, its answer was lost
        if at != step.expected_offset:
            raise StoreLost(
                f"partition {step.partition}: state is at {at}, expected {step.expected_offset}", step.partition
            )
        for write in step.writes:
            held = self._redis.values.get((step.partition, write.key), b"")
            if write.command == "append" and len(held) != write.length:
                del self._redis.marks[step.partition]
                raise StoreLost(
                    f"partition {step.partition}: {write.key} has {len(held)} bytes, expected {write.length}",
                    step.partition,
                )
        for command, key, value, _ in step.writes:
            where = (step.partition, key)
            if command == "delete":
                self._redis.values.pop(where, None)
            elif command == "append":
                self._redis.values[where] = self._redis.values.get(where, b"") + value
            else:
                self._redis.values[where] = value
        self._redis.marks[step.partition] = step.mark

    def _is_lost(self, partition: int) -> bool:
        try:
            self._check_epoch(partition)
        except StoreLost:
            return True
        return self._redis.marks.get(partition) != self._left[partition]

    def _check_epoch(self, partition: int) -> None:
        stored = self._redis.epochs.get(partition)
        if stored is None:
            raise StoreLost(f"partition {partition}: its owner's claim is gone", partition)
        if stored > self._epochs[partition]:
            raise Fenced(f"partition {partition}: a newer owner has claimed its state")
        if stored < self._epochs[partition]:
            raise StoreLost(f"partition {partition}: its owner's claim is lost, epoch {stored} is back", partition)

    def _check_reachable(self) -> None:
        if not self._redis.reachable:
            raise StoreUnreachable("the store does not answer")
