"""The one loop of every stage: poll, think, produce and commit in one Kafka transaction, then write state.

The order of effects, which is the whole guarantee:

1. poll a batch; drop what the watermark says was taken before;
2. ``handler.step``: think; nothing leaves the process;
3. one transaction: outputs, input offsets and watermarks (``TransactionalLog.commit``);
4. ``handler.committed``: state goes to its store *after* the commit, so the store is never ahead of Kafka;
   what a crash leaves out is replayed from the log on the next assignment.

Any Transient closes the log and the handler and opens both anew: no state survives an aborted batch.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from threading import Event as Flag

from services.mesh.errors import Fatal, Fenced, Poison, RejectCode, Transient
from services.mesh.flood import REJECTS_MAX, WINDOW_RECORDS, RejectGuard
from services.mesh.headers import LANE, TRACEPARENT, WEIR, Hop, find, pack_parts, unpack_hop
from services.mesh.pace import AT_ONCE, Pace
from services.mesh.ports import CALL_WAIT_S, Clock, CommittedOffset, InRecord, OutRecord, TransactionalLog, out_record
from services.mesh.stage import Emit, Handler, Reporter, dead_letter
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DEAD_LETTERS
from services.mesh.topology import Stage
from services.mesh.watermark import Marks

# A reopen costs a second of group protocol; waiting longer between tries only matters when the broker is down.
REOPEN_WAIT_S_FIRST = 0.2
REOPEN_WAIT_S_MAX = 5.0
# All waits of a commit share one deadline, CALL_WAIT_S, and closing waits for less: what is not back long after it will
# not come back (adapters/watchdog.py says why).
COMMIT_S_MAX = 1.5 * CALL_WAIT_S
# Two processes with one slot fence each other within seconds, for ever; after this many in a row one has to give up.
FENCES_MAX = 3
# A session that lasted this long was no such fight, even if it had nothing to process.
SESSION_S_GOOD = 30.0
_PARTITION = attrgetter("partition")


class StageRuntime:
    """Runs ``stage`` until ``stop`` is set."""

    def __init__(
        self,
        stage: Stage,
        log: TransactionalLog,
        make_handler: Callable[[], Handler],
        clock: Clock,
        telemetry: StageTelemetry,
        *,
        pace: Pace = AT_ONCE,
        record_spans: Callable[[Sequence[OutRecord], int, int], None] | None = None,
    ) -> None:
        self._stage = stage
        self._log = log
        self._make_handler = make_handler
        self._clock = clock
        self._telemetry = telemetry
        self._pace = pace
        self._taken_s = clock.monotonic_s()  # when the latest batch was taken
        self._record_spans = record_spans
        self._handler: Handler
        self._reporter: Reporter | None = None
        self._is_catching_up = False
        self._marks: dict[int, Marks] = {}
        self._guards: dict[int, RejectGuard] = {}
        self._halted = ""  # why; outlives sessions: only a person starts a halted stage again
        self.stop = Flag()

    def run(self) -> None:
        """Process until stopped; returns after a clean drain. Raises Fatal."""
        wait_s, fences = REOPEN_WAIT_S_FIRST, 0
        while not self.stop.is_set():
            batches_before, started_s = self._telemetry.batches, self._clock.monotonic_s()
            try:
                self._session()
            except Transient as error:
                lasted_s = self._clock.monotonic_s() - started_s
                progressed = self._telemetry.batches > batches_before or lasted_s >= SESSION_S_GOOD
                fences = 0 if lasted_s >= SESSION_S_GOOD else fences  # each side of a fight gets some batches done
                fences += isinstance(error, Fenced)
                if fences >= FENCES_MAX:
                    raise Fatal(
                        f"{self._stage.name}: fenced {fences} times in a row; does another process hold this "
                        f"slot? last: {error}"
                    ) from error
                wait_s = REOPEN_WAIT_S_FIRST if progressed else min(wait_s * 2, REOPEN_WAIT_S_MAX)
                self._telemetry.reopened(str(error))
                self._telemetry.alive()  # a broker that is down must not look like a loop that hangs
                logging.warning("stage=%s reopening in %.1f s: %s", self._stage.name, wait_s, error)
                self.stop.wait(wait_s)

    def _session(self) -> None:
        try:
            self.begin()
            while not self.stop.is_set():
                self.turn()
            self.tell(last=True)
        finally:
            self.end()

    def begin(self) -> None:
        """Open a session: a new handler, nothing owned yet. ``run`` does it all; step by step is for tests."""
        self._handler = self._make_handler()
        self._reporter = self._handler if isinstance(self._handler, Reporter) else None
        self._is_catching_up = False
        self._marks, self._guards = {}, {}
        self._log.open()

    def end(self) -> None:
        """Close the session, whatever has become of it."""
        self._telemetry.ready(False)
        self._telemetry.owns([])
        self._telemetry.alive(COMMIT_S_MAX)
        self._log.close()
        self._telemetry.alive()

    def turn(self) -> int:
        """One batch; returns how many records it had."""
        pace, passed_ms = self._pace, 1_000 * (self._clock.monotonic_s() - self._taken_s)
        batch = self._log.poll(pace.batch_records_max, 0 if self._is_catching_up else pace.wait_ms(passed_ms))
        self._taken_s = self._clock.monotonic_s()
        self._follow_assignment()
        if batch and not self._halted:  # a first poll may bring records before its partitions are paused
            self._process(batch)
        elif not batch:
            self.tell(last=False)
        self._is_catching_up = bool(self._handler.idle())
        self._telemetry.alive()
        return len(batch)

    def tell(self, *, last: bool) -> None:
        """Between batches: what the handler has left to tell, in a transaction of its own."""
        outputs = self._report({}, last=last)
        if outputs:
            self._telemetry.alive(COMMIT_S_MAX)
            self._log.commit(outputs, {})
            self._telemetry.alive()
            self._telemetry.told(outputs)

    def _report(self, ends: dict[int, int], *, last: bool) -> list[OutRecord]:
        return [] if self._reporter is None else self._reporter.report(self._clock.monotonic_s(), ends, last=last)

    def _follow_assignment(self) -> None:
        change = self._log.take_assignment()
        if change is None:
            return
        for partition in change.removed:
            self._handler.revoke(partition)
            self._marks.pop(partition, None)
            self._guards.pop(partition, None)
        for partition, committed in change.added.items():
            marks = Marks.from_metadata(committed.metadata)
            self._marks[partition] = marks
            self._guards[partition] = RejectGuard()
            self._handler.assign(partition, committed, marks.copy())
        if self._halted:
            self._log.pause(sorted(self._marks))
        self._telemetry.owns(sorted(self._marks))
        self._telemetry.ready(not self._halted)

    def _process(self, polled: Sequence[InRecord]) -> None:
        started_s = self._clock.monotonic_s()
        batch, hops, refused = self._admit(polled)
        emits = self._handler.step(batch) if batch else []
        outputs = _outputs(emits, batch, hops, self._stage.lane)
        outputs += [OutRecord(*emit[:4], list(emit.headers)) for emit in refused]
        ends = {record.partition: record.offset + 1 for record in polled}
        outputs += self._report(ends, last=False)
        offsets = {p: CommittedOffset(end, self._marks[p].to_metadata()) for p, end in ends.items()}
        stepped_s = self._clock.monotonic_s()
        self._telemetry.alive(COMMIT_S_MAX)
        self._log.commit(outputs, offsets)
        self._telemetry.alive()
        committed_s = self._clock.monotonic_s()
        self._handler.committed(offsets)
        self._telemetry.batch(
            records=len(polled),
            repeats=len(polled) - len(batch) - len(refused),
            outputs=outputs,
            step_s=stepped_s - started_s,
            commit_s=committed_s - stepped_s,
            save_s=self._clock.monotonic_s() - committed_s,
            newest_append_time_ms=polled[-1].append_time_ms,
        )
        if self._record_spans is not None:
            self._record_spans(outputs, polled[0].append_time_ms, self._clock.now_ms())
        self._guard_against_floods(polled, outputs)

    def _admit(self, polled: Sequence[InRecord]) -> tuple[list[InRecord], list[Hop | None], list[Emit]]:
        """Split a poll into what is new, with where it comes from, and records whose own header is broken."""
        if not self._stage.marked:
            return list(polled), [None] * len(polled), []
        batch: list[InRecord] = []
        hops: list[Hop | None] = []
        refused: list[Emit] = []
        for index, record in enumerate(polled):
            header = find(record.headers, WEIR)
            try:
                if header is None:
                    raise Poison(RejectCode.UNDECODABLE, "no weir header; was it produced by a stage?", WEIR)
                hop = unpack_hop(header)
            except Poison as poison:
                refused.append(dead_letter(record, index, self._stage.name, poison))
                continue
            if self._marks[record.partition].admit(hop):
                batch.append(record)
                hops.append(hop)
        return batch, hops, refused

    def _guard_against_floods(self, polled: Sequence[InRecord], outputs: Sequence[OutRecord]) -> None:
        letters = [out for out in outputs if out.topic == DEAD_LETTERS.name]
        rejects = Counter(
            self._input_of(out) * LANE + out.partition
            for out in letters
            if out.partition is not None and not _is_late(out)
        )
        for partition, count in Counter(map(_PARTITION, polled)).items():
            if self._guards[partition].count(count, rejects[partition]):
                self._halt(partition)

    def _input_of(self, letter: OutRecord) -> int:
        """Which input the refused record came from; the stage's own headers are the last ones."""
        origin = next((value for name, value in reversed(letter.headers) if name == "origin_topic"), b"")
        names = [topic.name.encode() for topic in self._stage.inputs]
        return names.index(origin) if origin in names else 0

    def _halt(self, partition: int) -> None:
        topic = self._stage.inputs[partition // LANE]
        self._halted = (
            f"{topic.name}[{partition % LANE}]: {REJECTS_MAX} of its latest {WINDOW_RECORDS} records were "
            f"refused; stage {self._stage.name} has stopped; look at `weir dead-letters list`, mend the sender, then "
            "restart the stage"
        )
        logging.error("stage=%s halted: %s", self._stage.name, self._halted)
        self._log.pause(sorted(self._marks))
        self._telemetry.halted(self._halted)


def _is_late(out: OutRecord) -> bool:
    """A file that is sent once more is late as a whole: well-formed, decided before, and no sign of a broken sender."""
    return find(out.headers, "error_code") == RejectCode.LATE.value.encode()


def _outputs(
    emits: Sequence[Emit], batch: Sequence[InRecord], hops: Sequence[Hop | None], lane: int
) -> list[OutRecord]:
    """Emits with their headers: where they come from, and the trace that they belong to."""
    outputs: list[OutRecord] = []
    lane_start = lane * LANE
    previous_source, ordinal = -1, 0
    for topic, key, value, partition, source, headers in emits:
        if topic == DEAD_LETTERS.name:
            outputs.append(out_record((topic, key, value, partition, list(headers))))
            continue
        if source == previous_source:
            ordinal += 1
        else:
            # The next hop drops what is not above its watermark: outputs out of order would be lost there.
            assert source > previous_source, f"{topic}: {source} after its turn"
            previous_source, ordinal = source, 0
        record, hop = batch[source], hops[source]
        origin_partition, origin_offset = (record.partition, record.offset) if hop is None else hop[:2]
        weir = pack_parts(origin_partition, origin_offset, lane_start + record.partition, record.offset, ordinal)
        trace = headers or ((TRACEPARENT, find(record.headers, TRACEPARENT)),)
        outputs.append(out_record((topic, key, value, partition, [*trace, (WEIR, weir)])))
    return outputs
