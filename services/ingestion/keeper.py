"""Keeps the partitions' state in the store, a little behind the log and never ahead of it.

A partition's keys: ``seen:<bucket>`` holds rows of 24 bytes, ``state`` the clock and the length of every bucket, so
that a store that lost a part of them is noticed. Rows are gathered over batches into steps of at most 256 and planned
with the state as of their end; they are written once enough are waiting or the stream is quiet. What a crash leaves
out is replayed from the log.

The store may be away: steps wait, up to a bound; beyond it they are dropped and the whole state is written anew when
the store is back. Until the last step of that, the mark says ``unfinished``, and nobody loads it.
"""

from __future__ import annotations

import logging
import struct
from typing import Final

from services.ingestion.admission import Admission, Candidate
from services.ingestion.event_clock import ClockRules, EventClock
from services.ingestion.seen import ROW_BYTES, row_of
from services.mesh.errors import StoreLost, StoreUnreachable
from services.mesh.ports import Clock, StateStore, StoreMark, StoreStep, StoreWrite

STEP_ROWS_MAX: Final = 256
# While a whole state is written nobody waits for its partition in the store: 96 kB are appended in far below 1 ms.
REWRITE_ROWS_MAX: Final = 4_096
# Steps that travel in one round trip: 64 of about 50 us stay far below the store's answer time-out.
STEPS_A_CALL_MAX: Final = 64
# A minute of 300 events/s a partition; 20,000 rows are 0.5 MB of steps, and a whole state is soon cheaper to write.
WAITING_ROWS_MAX: Final = 20_000
# An unreachable store costs its time-out at every try.
RETRY_WAIT_S_FIRST: Final = 1.0
RETRY_WAIT_S_MAX: Final = 15.0
UNFINISHED: Final = "unfinished"

_STATE_KEY: Final = "state"
_BUCKET: Final = struct.Struct("<qI")  # bucket, bytes stored
_COUNT: Final = struct.Struct("<H")


class _Kept:
    """What the store has, or will have, of one partition."""

    __slots__ = ("admission", "committed_offset", "lengths", "planned_offset", "rewrite", "rows", "rows_count", "steps",
                 "waiting_rows")  # fmt: skip

    def __init__(self, admission: Admission, stored_offset: int | None) -> None:
        self.admission = admission
        self.planned_offset = self.committed_offset = stored_offset or 0  # planned: the mark once steps are written
        self.lengths: dict[int, int] = {}  # bucket -> bytes stored once all steps are written
        self.rows: dict[int, list[bytes]] = {}  # accepted since planned_offset
        self.rows_count = 0
        self.steps: list[StoreStep] = []
        self.waiting_rows = 0
        self.rewrite = stored_offset is None


class Keeper:
    """Writes state through to ``store``, and loads it."""

    def __init__(self, store: StateStore, rules: ClockRules, clock: Clock) -> None:
        self._store = store
        self._rules = rules
        self._clock = clock
        self._finished = f"1 lateness={rules.lateness_ms} ahead={rules.ahead_ms} jump={rules.jump_ms}"
        self._kept: dict[int, _Kept] = {}
        self._away_until_s = 0.0
        self._retry_wait_s = RETRY_WAIT_S_FIRST

    def load(self, partition: int, committed_offset: int | None) -> tuple[Admission, int] | None:
        """Claim ``partition``; its stored state and the offset it is good for, or None when it is of no use.

        Of use is a state that was written whole, under the same rules, and is not ahead of the log. Raises Fenced.
        """
        if self._clock.monotonic_s() < self._away_until_s:
            return None
        try:
            mark = self._store.claim(partition)
            if mark is None or mark.metadata != self._finished or mark.offset > (committed_offset or 0):
                return None
            return self._load(partition, mark.offset)
        except StoreUnreachable as error:
            self._away(error)
        except (StoreLost, ValueError) as error:
            logging.warning("ingestion: stored state of partition %d is of no use: %s", partition, error)
        return None

    def own(self, partition: int, admission: Admission, stored_offset: int | None) -> None:
        """Keep ``admission`` from now on; ``stored_offset``: what ``load`` said, None to write it whole."""
        kept = self._kept[partition] = _Kept(admission, stored_offset)
        if stored_offset is not None:
            kept.lengths = {bucket: len(rows) for bucket, rows in admission.seen.dump(admission.floor)}

    def disown(self, partition: int) -> None:
        """Forget ``partition``; its next owner replays what was not written."""
        self._kept.pop(partition, None)

    def accepted(self, partition: int, offset: int, candidate: Candidate) -> None:
        """The record at ``offset`` was accepted; it will be durable before ``flush`` is called."""
        kept = self._kept[partition]
        if kept.rewrite:
            return
        bucket = kept.admission.bucket_of(candidate.time_ms)
        kept.rows.setdefault(bucket, []).append(row_of(candidate.identity, candidate.body))
        kept.rows_count += 1
        if kept.rows_count >= STEP_ROWS_MAX:
            self._plan(partition, kept, offset + 1)

    def committed(self, partition: int, offset: int) -> None:
        """Everything of ``partition`` before ``offset`` is durable."""
        kept = self._kept[partition]
        kept.committed_offset = offset
        if kept.waiting_rows > WAITING_ROWS_MAX:
            logging.warning("ingestion: partition %d: %d rows wait for the store; it is written anew when back",
                            partition, kept.waiting_rows)  # fmt: skip
            self._start_over(kept)

    def flush(self, *, quiet: bool) -> None:
        """Write what is due: whole steps, and when it is ``quiet`` also the rest. Raises Fenced."""
        if self._clock.monotonic_s() < self._away_until_s:
            return
        behind_min = 1 if quiet else STEP_ROWS_MAX
        for partition, kept in self._kept.items():
            if not kept.rewrite and kept.committed_offset - kept.planned_offset >= behind_min:
                self._plan(partition, kept, kept.committed_offset)
        try:
            self._write_steps()
            self._rewrite_one()
        except StoreUnreachable as error:
            self._away(error)
        except StoreLost as lost:
            logging.warning("ingestion: %s; the partition's state is written anew", lost)
            self._start_over(self._kept[lost.partition])

    def _load(self, partition: int, offset: int) -> tuple[Admission, int]:
        state = self._store.load(partition, [_STATE_KEY])[0]
        if state is None:
            raise ValueError("its clock is gone")
        (count,) = _COUNT.unpack_from(state)
        clock_at = _COUNT.size + count * _BUCKET.size
        lengths = list(_BUCKET.iter_unpack(state[_COUNT.size : clock_at]))
        admission = Admission(self._rules, EventClock.unpack(self._rules, state[clock_at:]))
        found = self._store.load(partition, [_key(bucket) for bucket, _ in lengths])
        for (bucket, length), rows in zip(lengths, found, strict=True):
            if rows is None or len(rows) != length:
                raise ValueError(f"bucket {bucket} has {0 if rows is None else len(rows)} bytes of {length}")
            admission.seen.load(bucket, rows)
        return admission, offset

    def _plan(self, partition: int, kept: _Kept, offset: int) -> None:
        """One step from ``planned_offset`` to ``offset``, at which the in-process state is now."""
        floor = kept.admission.floor
        writes = []
        for bucket, rows in kept.rows.items():
            if bucket >= floor:
                length = kept.lengths.get(bucket, 0)
                writes.append(StoreWrite("append", _key(bucket), b"".join(rows), length))
                kept.lengths[bucket] = length + len(rows) * ROW_BYTES
        for bucket in [bucket for bucket in kept.lengths if bucket < floor]:
            del kept.lengths[bucket]
            writes.append(StoreWrite("delete", _key(bucket), b""))
        writes.append(StoreWrite("set", _STATE_KEY, _state(kept.admission, kept.lengths)))
        mark = StoreMark(offset=offset, metadata=self._finished)
        kept.steps.append(StoreStep(partition, kept.planned_offset, mark, writes))
        kept.planned_offset = offset
        kept.waiting_rows += kept.rows_count
        kept.rows, kept.rows_count = {}, 0

    def _write_steps(self) -> None:
        waiting = [kept for kept in self._kept.values() if kept.steps]
        self._save([step for kept in waiting for step in kept.steps])
        for kept in waiting:
            kept.steps, kept.waiting_rows = [], 0

    def _rewrite_one(self) -> None:
        """Write one partition's whole state; the others' turn comes, so that no turn of the loop takes long."""
        due = [(partition, kept) for partition, kept in self._kept.items() if kept.rewrite and kept.committed_offset]
        if not due:
            return
        partition, kept = due[0]
        self._store.claim(partition)
        self._store.clear(partition)
        kept.lengths = {}
        writes = []
        for bucket, rows in kept.admission.seen.dump(kept.admission.floor):
            for at in range(0, len(rows), REWRITE_ROWS_MAX * ROW_BYTES):
                piece = rows[at : at + REWRITE_ROWS_MAX * ROW_BYTES]
                writes.append(StoreWrite("append", _key(bucket), piece, at))
            kept.lengths[bucket] = len(rows)
        # Marks below zero: each must be above the one before, and none may pass for a state that is whole.
        offsets = range(-len(writes), 0)
        steps = [
            StoreStep(partition, None if i == 0 else offset - 1, StoreMark(offset=offset, metadata=UNFINISHED), [write])
            for i, (offset, write) in enumerate(zip(offsets, writes, strict=True))
        ]
        mark = StoreMark(offset=kept.committed_offset, metadata=self._finished)
        last = StoreWrite("set", _STATE_KEY, _state(kept.admission, kept.lengths))
        self._save([*steps, StoreStep(partition, -1 if steps else None, mark, [last])])
        kept.planned_offset, kept.rewrite = kept.committed_offset, False
        logging.info("ingestion: state of partition %d is stored again", partition)

    def _save(self, steps: list[StoreStep]) -> None:
        for at in range(0, len(steps), STEPS_A_CALL_MAX):
            self._store.save(steps[at : at + STEPS_A_CALL_MAX])
        self._retry_wait_s = RETRY_WAIT_S_FIRST

    def _start_over(self, kept: _Kept) -> None:
        kept.rewrite = True
        kept.steps, kept.waiting_rows, kept.rows, kept.rows_count, kept.lengths = [], 0, {}, 0, {}

    def _away(self, error: StoreUnreachable) -> None:
        logging.warning("ingestion: %s; going on without the store, next try in %.0f s", error, self._retry_wait_s)
        self._away_until_s = self._clock.monotonic_s() + self._retry_wait_s
        self._retry_wait_s = min(2 * self._retry_wait_s, RETRY_WAIT_S_MAX)


def _key(bucket: int) -> str:
    return f"seen:{bucket}"


def _state(admission: Admission, lengths: dict[int, int]) -> bytes:
    directory = b"".join(_BUCKET.pack(bucket, length) for bucket, length in sorted(lengths.items()))
    return _COUNT.pack(len(lengths)) + directory + admission.clock.pack()
