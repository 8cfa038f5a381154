"""State of a partition whose store is lost: taken back from the log. (What is said of events holds for outcomes.)

``events.v1`` is the truth about what was accepted, whatever code or settings accepted it, so it is read, from its end
backwards, until nothing further back can still count; then the raw records after the last accepted one are heard
again as voices for a jump of the clock: none of them was accepted, whatever today's rules say. Bounded by the events
of about twice the lateness, not by the length of the log.

Why the reading may stop: let ``clock`` be the greatest event time read so far. An event accepted at time ``e`` was not
late then, so the clock stood at ``e + lateness`` at most, and everything accepted before it is no later than that.
Once some ``e + lateness`` is below the floor of ``clock``, all that is further back is below the floor too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from services.ingestion.admission import Admission, Candidate
from services.ingestion.event_clock import ClockRules, EventClock
from services.ingestion.intake import Intake
from services.mesh.codec import Codec
from services.mesh.errors import Fatal, Poison
from services.mesh.event_fields import EVENT_TIME_MS_MAX
from services.mesh.ports import InRecord

# The first look back covers an hour of a small stream; each further one is four times as long.
_LOOK_BACK_FIRST: Final = 5_000
_LOOK_BACK_GROWTH: Final = 4
_LOOK_BACK_MAX: Final = 80_000  # bounds the memory of one look


class AcceptedLog(Protocol):
    """``events.v1`` as a reader of committed records sees it, outside any group. Raises Transient."""

    def ends(self, partition: int) -> tuple[int, int]:
        """First offset that is kept, and the one after the last; waits until no transaction is open there.

        (A transaction's marks reach the topics it wrote to one after the other: the offset may show before the event.)
        """
        ...

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        """Records with ``start <= offset < end``."""
        ...


class Rebuilt(NamedTuple):
    """State as of raw offset ``next_offset``."""

    admission: Admission
    next_offset: int
    read: int  # events looked at


def rebuild(accepted: AcceptedLog, partition: int, rules: ClockRules, intake: Intake) -> Rebuilt:
    """What the accepted topic's ``partition`` says. Raises Transient, and Fatal for a record that does not belong."""
    codec = Codec(intake.schema_file)
    first, end = accepted.ends(partition)
    admission = Admission(rules)
    oldest_ms, next_offset, read, look_back = EVENT_TIME_MS_MAX, 0, 0, _LOOK_BACK_FIRST
    while end > first:
        start = max(first, end - look_back)
        events = [
            _candidate(record, codec, intake) for records in accepted.read(partition, start, end) for record in records
        ]
        if events:
            read += len(events)
            next_offset = next_offset or events[-1].record["source_offset"] + 1
            times = [event.time_ms for event in events]
            oldest_ms = min(oldest_ms, *times)
            admission.clock = EventClock(rules, max(admission.clock.now_ms, *times))
            _remember(admission, events)
            if admission.bucket_of(oldest_ms + rules.lateness_ms) < admission.floor:
                break
        end, look_back = start, min(look_back * _LOOK_BACK_GROWTH, _LOOK_BACK_MAX)
    return Rebuilt(admission, next_offset, read)


def _remember(admission: Admission, events: list[Candidate]) -> None:
    """Add ``events``, all older than what is known: of an identity that was used anew, the newest counts."""
    floor = admission.floor
    probed = admission.seen.probe([event.identity for event in events])
    for index in reversed(range(len(events))):
        event = events[index]
        bucket = admission.bucket_of(event.time_ms)
        if bucket >= floor and admission.seen.body_of(event.identity, probed.get(index), floor) is None:
            admission.seen.add(event.identity, event.body, bucket)
    admission.seen.settle(floor)


def _candidate(record: InRecord, codec: Codec, intake: Intake) -> Candidate:
    try:
        accepted = codec.decode(record.value)
    except Poison as poison:
        place = f"{record.topic}[{record.partition}]@{record.offset}"
        raise Fatal(
            f"{place}: {poison}; only ingestion may write there: find who did, then restore the topic"
        ) from poison
    return intake.candidate(accepted, accepted["customer_id"].encode())
