"""One partition's state in its owning process: exact in memory, cached in the store, rebuilt from the log.

The store is *ready* when it holds the state as of ``next_offset`` (what Kafka has committed). Whenever it does not (a
crash between commit and save, an outage, a total loss), the log is replayed from the store's mark to ``next_offset``
without emitting, in slices, while entities that are in memory go on being served exactly. Only an entity that is in
neither place is out of reach. There is no other path: assignment, outage and loss all end here.

Why a replay's end is safe to take over from: it ends only at ``next_offset``, where every event that memory has seen is
behind it, applied by the same code in the same order, and those that memory could not place are applied as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from services.features.entities import Entities
from services.features.kernel import View
from services.features.stored_mark import Going, mark_text, read_mark
from services.mesh.errors import StoreLost, StoreUnreachable
from services.mesh.ports import CommittedOffset, InRecord, StateStore, StoreMark, StoreStep
from services.mesh.watermark import Marks

# A step blocks the whole store while its script runs: 256 writes take about 1 ms.
STEP_ENTITIES_MAX = 256
# A try at a store that hangs costs its answer wait (0.5 s), in which nothing is decided: a tenth of the time at most.
RETRY_S_FIRST = 1.0
RETRY_S_MAX = 5.0

Phase = Literal["ready", "behind", "unreachable"]
Read = Callable[[int, int, int], Iterator[list[InRecord]]]
Apply = Callable[[Entities, Sequence[InRecord]], None]
Admit = Callable[[Marks, InRecord], bool]


class Patience:
    """When a store that did not answer may be asked again; shared by all its partitions, so that one asks for all."""

    def __init__(self) -> None:
        self._wait_s = RETRY_S_FIRST
        self._until_s = -math.inf
        self.away_since_s = math.inf  # the first failure since the store last did its work

    def is_over(self, now_s: float) -> bool:
        """Whether the store may be asked."""
        return now_s >= self._until_s

    def failed(self, now_s: float) -> None:
        """The store did not answer."""
        self.away_since_s = min(self.away_since_s, now_s)
        self._until_s = now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, RETRY_S_MAX)

    def answered(self) -> None:
        """The store did its work."""
        self.away_since_s = math.inf
        self._wait_s = RETRY_S_FIRST


class OwnedPartition:
    """State of one partition between its assignment and its revocation."""

    def __init__(
        self,
        partition: int,
        committed: CommittedOffset,
        *,
        view: View,
        store: StateStore,
        read: Read,
        apply: Apply,
        admit: Admit,
        patience: Patience,
        now_s: float,
        entities_max: int,
        partitions: int,
    ) -> None:
        self.partition = partition
        self.next_offset = committed.offset or 0
        self.entities = Entities(partition, view, store, entities_max, view.new_occupancy(partitions))
        self.phase: Phase = "unreachable"
        self.not_ready_since_s = now_s
        self.replayed = 0
        self._view = view
        self._store = store
        self._read = read
        self._apply = apply
        self._admit = admit
        self._entities_max = entities_max
        self._partitions = partitions
        self._stored: int | None = None
        self._patience = patience
        self._rebuilt: Entities | None = None
        self._replay: Iterator[list[InRecord]] | None = None
        self._replay_end = 0
        self._replay_marks = Marks()

    def advance(self, now_s: float) -> bool:
        """One slice of work towards *ready*: a claim, or some replayed records; False when there was nothing to do."""
        if self.phase == "ready" or (self.phase == "unreachable" and not self._patience.is_over(now_s)):
            return False
        try:
            if self.phase == "unreachable":
                self._begin()
            else:
                self._replay_slice()
        except StoreUnreachable:
            self._patience.failed(now_s)
            self.lose_store(now_s)
        except StoreLost:
            self.lose_store(now_s)
        else:
            self._patience.answered()
        return True

    def lose_store(self, now_s: float) -> None:
        """The store does not hold our state any more, or can't be asked: memory goes on, the store is caught up."""
        if self.phase == "ready":
            # An outage is one, also for those who notice it later: it is waited for once.
            self.not_ready_since_s = min(now_s, self._patience.away_since_s)
        self.phase = "unreachable"
        self._rebuilt = self._replay = None

    def release(self) -> None:
        """Stop owning: a replay lets go of its reader's connection now, not when memory is collected."""
        self._rebuilt = self._replay = None

    def step_to(self, committed: CommittedOffset) -> StoreStep | None:
        """What the store has to learn after a commit; None while it is being caught up from the log."""
        assert committed.offset is not None
        writes = self.entities.take_writes()
        self.next_offset = committed.offset
        if self.phase != "ready":
            return None
        text = mark_text(self._view, committed.metadata, self.entities.occupancy)
        mark = StoreMark(offset=committed.offset, metadata=text)
        return StoreStep(self.partition, self._stored, mark, writes)

    def saved(self) -> None:
        """The last step is in the store."""
        self._stored = self.next_offset
        self.entities.forget_oldest()

    def _begin(self) -> None:
        mark = self._store.claim(self.partition)
        going = read_mark(self._view, self._partitions, mark.metadata) if mark else None
        if mark is None or going is None or mark.offset > self.next_offset:
            # Nothing, or state of another feature set, of another log, or of a log that lost its end.
            self._store.clear(self.partition)
            self._stored, going = None, Going(Marks(), self._view.new_occupancy(self._partitions))
        else:
            self._stored = mark.offset
        self._replay_marks = going.marks
        self._rebuilt = Entities(self.partition, self._view, self._store, self._entities_max, going.occupancy)
        self.phase = "behind"
        if (self._stored or 0) == self.next_offset:
            self._become_ready(keep_memory=not self.entities.is_empty)

    def _replay_slice(self) -> None:
        assert self._rebuilt is not None
        if self._replay is None:
            self._replay_end = self.next_offset
            self._replay = self._read(self.partition, self._stored or 0, self._replay_end)
        records = next(self._replay, None)
        if records is None:
            self._replay = None
            self._finish_replay()
            return
        self._replay_records(self._rebuilt, records)

    def _replay_records(self, rebuilt: Entities, records: Sequence[InRecord]) -> None:
        """Two round trips for all of ``records``; the steps stay short for the store."""
        rebuilt.load({entity_of(record) for record in records})
        steps: list[StoreStep] = []
        at = self._stored
        for part in in_steps(records):
            fresh = [record for record in part if self._admit(self._replay_marks, record)]
            self._apply(rebuilt, fresh)
            self.replayed += len(fresh)
            mark = self._replay_mark(rebuilt, part[-1].offset + 1)
            steps.append(StoreStep(self.partition, at, mark, rebuilt.take_writes()))
            at = mark.offset
        self._store.save(steps)
        self._stored = at
        rebuilt.forget_oldest()

    def _finish_replay(self) -> None:
        """The log held nothing more below ``_replay_end`` (commit markers take offsets too): move the mark there."""
        if (self._stored or 0) < self._replay_end:
            assert self._rebuilt is not None
            mark = self._replay_mark(self._rebuilt, self._replay_end)
            self._store.save([StoreStep(self.partition, self._stored, mark, ())])
            self._stored = mark.offset
        if self._stored == self.next_offset:
            self._become_ready(keep_memory=False)

    def _replay_mark(self, rebuilt: Entities, offset: int) -> StoreMark:
        text = mark_text(self._view, self._replay_marks.to_metadata(), rebuilt.occupancy)
        return StoreMark(offset=offset, metadata=text)

    def _become_ready(self, *, keep_memory: bool) -> None:
        """Memory and store agree. After a replay what it built takes over: memory lacks what was out of reach."""
        if not keep_memory and self._rebuilt is not None:
            self.entities = self._rebuilt
        self._rebuilt = None
        self.phase = "ready"


def in_steps(records: Sequence[InRecord]) -> Iterator[list[InRecord]]:
    """``records`` in parts, each of at most ``STEP_ENTITIES_MAX`` entities: the store writes once for each of them."""
    part: list[InRecord] = []
    entities: set[bytes | None] = set()
    for record in records:
        if record.key not in entities:
            if len(entities) == STEP_ENTITIES_MAX:
                yield part
                part, entities = [], set()
            entities.add(record.key)
        part.append(record)
    if part:
        yield part


def entity_of(record: InRecord) -> str:
    """The entity whose state a record belongs to: its key."""
    return (record.key or b"").decode(errors="replace")
