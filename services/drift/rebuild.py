"""State from the log: everything that is there, in the order in which it was appended."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from services.drift.alerts import unpublished
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
    ends: Mapping[tuple[str, int], int],
    published: list[DriftAlert],
    turned: Callable[[], None],
) -> tuple[int, list[DriftAlert]]:
    """Bring ``intake`` and its fresh monitor to ``ends`` ((topic, partition) -> next offset of the log).

    Returns how many records there were, and the alerts that were found and never told. Which alerts held until then is
    what ``published`` (``drift-alerts.v1``, whole) says, and not what a replay finds. Whether a group has committed
    plays no part: Faust's commits stop before transactions' own records. ``turned`` is called now and then, to show
    that this is no hang.
    """
    stretches = [_stretch(past_of(topic), partition, end) for (topic, partition), end in ends.items()]
    found: list[DriftAlert] = []
    count = 0
    for record in heapq.merge(*stretches, key=lambda record: record.append_time_ms):
        intake.take(Record(record.topic, record.partition, record.offset, record.value))
        count += 1
        if count % 500 == 0:
            found += intake.monitor.due()
            turned()
    found += intake.monitor.due()
    for where, end in ends.items():
        intake.taken[where] = max(intake.taken.get(where, -1), end - 1)  # also behind what no record stands at
    fresh = unpublished(found, published)
    intake.monitor.restore([*published, *fresh])
    return count, fresh


def _stretch(past: Past, partition: int, end: int) -> Iterator[InRecord]:
    for records in past.read(partition, 0, end):
        yield from records
