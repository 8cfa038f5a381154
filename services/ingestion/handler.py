"""Ingestion's thinking: raw records in, accepted events or outcomes and dead letters out."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from services.ingestion.admission import Admission, Candidate, Repeat
from services.ingestion.avro_event import AvroEvents
from services.ingestion.intake import EVENT_INTAKE, Intake
from services.ingestion.keeper import Keeper
from services.ingestion.reading import read_record
from services.ingestion.rebuild import AcceptedLog, rebuild
from services.ingestion.settings import IngestionSettings
from services.mesh.codec import Codec
from services.mesh.errors import Poison, RejectCode
from services.mesh.headers import TRACEPARENT, WEIR, find, traceparent_of
from services.mesh.metrics import Metrics
from services.mesh.partitioner import Partitioner
from services.mesh.ports import Clock, CommittedOffset, Header, InRecord, OutRecord, StateStore
from services.mesh.profile import FieldCounts, ProfileWriter
from services.mesh.stage import Emit, dead_letter
from services.mesh.watermark import Marks

ReadRaw = Callable[[int, int, int], Iterator[list[InRecord]]]

# Beyond this, reading the accepted events of the last hours is cheaper than judging the raw records anew.
REPLAY_RECORDS_MAX: Final = 50_000
# W3C trace context, version 00; ids of zeros mean "none".
_TRACEPARENT: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Misplaced(NamedTuple):
    """A valid event in a partition that is not its customer's: to be sent once more under ``key``."""

    key: bytes
    event: bytes  # identity


Verdict = Candidate | Misplaced | Repeat | Poison


class IngestionHandler:
    """Implements ``services.mesh.stage.Handler``.

    ``writer_schemas``: schema id -> schema of every version registered for the raw topic. ``read_raw``: committed
    records of a partition of the raw topic. ``accepted``: the accepted topic, the truth when the store is lost.
    ``intake``: whether this door is for events or for outcomes.
    """

    def __init__(
        self,
        settings: IngestionSettings,
        *,
        store: StateStore,
        read_raw: ReadRaw,
        accepted: AcceptedLog,
        writer_schemas: Mapping[int, Mapping[str, Any]],
        clock: Clock,
        metrics: Metrics,
        intake: Intake = EVENT_INTAKE,
        slot: str = "0",
    ) -> None:
        self._intake = intake
        self._fields = FieldCounts()
        self._profile = ProfileWriter(intake.stage.name, slot, self._fields.take, self._fields.__len__)
        self._settings = settings
        self._read_raw = read_raw
        self._accepted = accepted
        self._metrics = metrics
        self._partitioner = Partitioner(settings.partitions)
        self._avro = AvroEvents(writer_schemas, intake.fields, intake.own_id)
        self._codec = Codec(intake.schema_file)
        self._keeper = Keeper(store, settings.rules, clock)
        self._admissions: dict[int, Admission] = {}
        self._counts: Counter[str] = Counter()
        self._busy = False

    def assign(self, partition: int, committed: CommittedOffset, marks: Marks) -> None:
        """Bring the partition's state to ``committed``: from the store and the log, or from the log alone."""
        offset = committed.offset or 0
        loaded = self._keeper.load(partition, offset)
        if loaded is not None and offset - loaded[1] <= REPLAY_RECORDS_MAX:
            admission, start = loaded
            self._admissions[partition] = admission
            self._keeper.own(partition, admission, start)
            self._replay(partition, start, offset)
        else:
            admission, start, read = rebuild(self._accepted, partition, self._settings.rules, self._intake)
            self._admissions[partition] = admission
            self._keeper.own(partition, admission, None)
            self._metrics.add("weir_replayed", read)
            if read or offset:
                logging.info(
                    "ingestion: partition %d rebuilt from %d records of %s, going on at raw offset %d of %d",
                    partition, read, self._intake.accepted.name, start, offset,
                )  # fmt: skip
            self._hear(partition, admission, start, offset)
        self._keeper.committed(partition, offset)
        self._profile.assign(partition, offset)

    def revoke(self, partition: int) -> None:
        """Stop owning ``partition``; whoever is next replays what the store does not have."""
        self._profile.revoke(partition)
        self._admissions.pop(partition, None)
        self._keeper.disown(partition)

    def report(self, now_s: float, ends: Mapping[int, int], *, last: bool) -> list[OutRecord]:
        """See ``Reporter``."""
        return self._profile.report(now_s, ends, last=last) if self._intake.counted else []

    def step(self, batch: Sequence[InRecord]) -> list[Emit]:
        """One emit for every record that is accepted, misplaced or refused."""
        emits: list[Emit] = []
        verdicts = self._verdicts(batch)
        for source, (record, verdict) in enumerate(zip(batch, verdicts, strict=True)):
            if isinstance(verdict, Candidate):
                emits.append(self._accepted_record(record, source, verdict))
            elif isinstance(verdict, Poison):
                emits.append(dead_letter(record, source, self._intake.stage.name, _placed(verdict, record)))
            elif isinstance(verdict, Misplaced):
                self._counts["weir_rekeyed"] += 1
                headers = tuple(record.headers) or ((TRACEPARENT, traceparent_of(verdict.event)),)
                emits.append(Emit(self._intake.raw.name, verdict.key, record.value, None, source, headers))
            else:
                self._counts["weir_duplicates"] += 1
        self._tally(verdicts)
        return emits

    def _tally(self, verdicts: Sequence[Verdict]) -> None:
        """Into the profile."""
        counted = self._intake.counted
        if counted is None:
            return
        accepted = [verdict for verdict in verdicts if isinstance(verdict, Candidate)]
        if accepted:
            fields, amounts = zip(*[counted(a.record) for a in accepted], strict=True)
            self._fields.add(fields, amounts, max([a.time_ms for a in accepted]))
        for verdict in verdicts:
            if isinstance(verdict, Poison):
                self._fields.refuse(verdict.code.value)

    def committed(self, offsets: dict[int, CommittedOffset]) -> None:
        """What the last step accepted is durable: let it reach the store when enough is waiting."""
        self._busy = True
        for name, count in self._counts.items():
            self._metrics.add(name, count)
        self._counts.clear()
        for partition, committed in offsets.items():
            self._keeper.committed(partition, committed.offset or 0)
        self._keeper.flush(quiet=False)
        self._metrics.set("weir_seen_identities", sum(len(a.seen) for a in self._admissions.values()))

    def idle(self) -> None:
        """When nothing was committed since the last turn, write the rest, and what the store could not take before."""
        if not self._busy:
            self._keeper.flush(quiet=True)
        self._busy = False

    def _verdicts(self, batch: Sequence[InRecord]) -> list[Verdict]:
        """Judge a batch in its order; accepted events enter the state and the keeper."""
        verdicts = [self._examine(record) for record in batch]
        probed = self._probe(batch, verdicts)
        for index, (record, found) in enumerate(zip(batch, verdicts, strict=True)):
            if isinstance(found, Candidate):
                admission = self._admissions[record.partition]
                refusal = admission.judge(found, record.append_time_ms, probed.get(index))
                if refusal is None:
                    self._keeper.accepted(record.partition, record.offset, found)
                else:
                    verdicts[index] = refusal
        for partition in {record.partition for record in batch}:
            admission = self._admissions[partition]
            admission.seen.settle(admission.floor)
        return verdicts

    def _examine(self, record: InRecord) -> Verdict:
        """All checks that need no state."""
        try:
            said = read_record(record.value, self._avro, self._intake.valid)
            key = said["customer_id"].encode()
            if self._partitioner.partition_of(key) == record.partition:
                return self._intake.candidate(said, key)
            return self._misplaced(record, said, key)
        except Poison as poison:
            return poison

    def _misplaced(self, record: InRecord, said: Mapping[str, Any], key: bytes) -> Misplaced:
        """Raises Poison for a record that a stage has sent before: sending it again would never end."""
        if find(record.headers, WEIR) is None:
            return Misplaced(key, self._intake.candidate(said, key).event)
        raise Poison(
            RejectCode.WRONG_KEY,
            f"customer_id={said['customer_id']!r} belongs in partition {self._partitioner.partition_of(key)} of "
            f"{self._partitioner.partitions}, and the record was sent there before; is WEIR_PARTITIONS the topic's "
            "partition count?",
            "customer_id",
        )

    def _probe(self, batch: Sequence[InRecord], verdicts: Sequence[Verdict]) -> dict[int, int]:
        """Index in the batch -> the token of a frozen row, for ``Admission.judge``."""
        probed: dict[int, int] = {}
        for partition in {record.partition for record in batch}:
            seen = self._admissions[partition].seen
            if not seen.frozen:
                continue
            asked = [
                (index, verdict.identity)
                for index, verdict in enumerate(verdicts)
                if isinstance(verdict, Candidate) and batch[index].partition == partition
            ]
            for at, token in seen.probe([identity for _, identity in asked]).items():
                probed[asked[at][0]] = token
        return probed

    def _accepted_record(self, record: InRecord, source: int, candidate: Candidate) -> Emit:
        accepted = {
            **candidate.record,
            "source_partition": record.partition,
            "source_offset": record.offset,
            "raw_append_time_ms": record.append_time_ms,
        }
        trace: Header = (TRACEPARENT, _trace_of(record.headers) or traceparent_of(candidate.event))
        value = self._codec.encode(accepted)
        return Emit(self._intake.accepted.name, candidate.key, value, record.partition, source, (trace,))

    def _replay(self, partition: int, start: int, end: int) -> None:
        """Bring a stored state from ``start`` to ``end`` without emitting: same rules, same verdicts."""
        for records in self._read_raw(partition, start, end) if start < end else ():
            self._verdicts(records)
            self._metrics.add("weir_replayed", len(records))

    def _hear(self, partition: int, admission: Admission, start: int, end: int) -> None:
        """Let the raw records after the last accepted one speak for a jump of the clock; none of them was accepted."""
        if not admission.clock.now_ms:
            return
        for records in self._read_raw(partition, start, end) if start < end else ():
            for record in records:
                found = self._examine(record)
                if isinstance(found, Candidate):
                    admission.clock.refuse(found.time_ms, record.append_time_ms, found.key, found.identity)


def _trace_of(headers: Sequence[Header]) -> bytes | None:
    """The producer's own trace, when it is a valid one."""
    if not headers:
        return None
    value = find(headers, TRACEPARENT)
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None


def _placed(poison: Poison, record: InRecord) -> Poison:
    """The same refusal, beginning with its place."""
    place = f"{record.topic}[{record.partition}]@{record.offset}"
    return Poison(poison.code, f"{place}: {poison}", poison.field)
