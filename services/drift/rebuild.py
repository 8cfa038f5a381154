"""State from the log: everything that was taken before, in the order in which it was appended."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from services.drift.intake import Intake, Record
from services.mesh.ports import InRecord
from services.mesh.records import DriftAlert


class Past(Protocol):
    """A topic's stretches, outside any group; read committed."""

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        """Records with ``start <= offset < end``, in order. Raises Transient."""
        ...


def rebuild(
    intake: Intake,
    past_of: Callable[[str], Past],
    positions: Mapping[tuple[str, int], int],
    published: list[DriftAlert],
    turned: Callable[[], None],
) -> int:
    """Bring ``intake`` and its fresh monitor to ``positions`` ((topic, partition) -> next offset); how many records.

    Checks run again as time passes, but nothing is published again: which alerts hold is what ``published``
    (``drift-alerts.v1``, whole) says. ``turned`` is called now and then, to show that this is no hang.
    """
    stretches = [_stretch(past_of(topic), partition, end) for (topic, partition), end in positions.items()]
    count = 0
    for record in heapq.merge(*stretches, key=lambda record: record.append_time_ms):
        intake.take(Record(record.topic, record.partition, record.offset, record.value))
        count += 1
        if count % 500 == 0:
            intake.monitor.due()
            turned()
    intake.monitor.due()
    for where, end in positions.items():
        intake.taken[where] = end - 1  # also behind what no record stands at
    intake.monitor.restore(published)
    return count


def _stretch(past: Past, partition: int, end: int) -> Iterator[InRecord]:
    for records in past.read(partition, 0, end):
        yield from records
