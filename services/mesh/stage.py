"""What a stage is made of: a handler that thinks, and the records that it emits.

The runtime (``runtime.py``) owns the order of effects; a handler owns what an event means. ``step`` may change the
handler's in-process state, because an aborted batch drops that state whole and it is loaded again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from services.mesh.errors import Poison
from services.mesh.ports import LANE, CommittedOffset, Header, InRecord, OutRecord
from services.mesh.topics import DEAD_LETTERS
from services.mesh.watermark import Marks

_MESSAGE_BYTES_MAX = 1_024  # of a dead letter's error_message; keeps the added headers far below their 64 kB


class Emit(NamedTuple):
    """One record to produce because of ``batch[source]``."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None  # None: murmur2 of the key
    source: int
    headers: tuple[Header, ...] = ()  # beside the ones that the runtime adds


class Handler(Protocol):
    """A stage's thinking. One instance lives between two openings of the log; it is never used after an error."""

    def assign(self, partition: int, committed: CommittedOffset, marks: Marks) -> None:
        """Begin to own ``partition``, whose next record is the one at ``committed.offset``."""
        ...

    def revoke(self, partition: int) -> None:
        """Stop owning ``partition`` and forget its state."""
        ...

    def step(self, batch: Sequence[InRecord]) -> list[Emit]:
        """What ``batch`` leads to, in the order of its records. Refused records become dead letters here.

        Raises Transient to have the batch repeated from the log, Fatal to end the process.
        """
        ...

    def committed(self, offsets: dict[int, CommittedOffset]) -> None:
        """The last step's outputs and ``offsets`` are durable: write state."""
        ...

    def idle(self) -> bool | None:
        """Called once a turn, after the batch if there was one: catch up, retry what was out of reach.

        True when there is more of it to do, so that the next poll should not wait for records.
        """
        ...


@runtime_checkable
class Reporter(Protocol):
    """What a handler is beside, when it tells about its records as well as what they lead to (profiles)."""

    def report(self, now_s: float, ends: Mapping[int, int], *, last: bool) -> list[OutRecord]:
        """What is due to be told, produced in the transaction of the batch at hand, or in one of its own.

        ``now_s``: a clock that never steps back. ``ends``: partition -> offset after the batch at hand; empty between
        batches. ``last``: the stage stops after this.
        """
        ...


class Stateless:
    """The parts of a handler that keeps nothing between batches."""

    def assign(self, partition: int, committed: CommittedOffset, marks: Marks) -> None:
        """Nothing to load."""

    def revoke(self, partition: int) -> None:
        """Nothing to forget."""

    def committed(self, offsets: dict[int, CommittedOffset]) -> None:
        """Nothing to write."""

    def idle(self) -> None:
        """Nothing to do."""


def dead_letter(record: InRecord, source: int, stage: str, poison: Poison) -> Emit:
    """The refused ``record``: its own key, bytes and headers, and the cause in added headers."""
    partition = record.partition % LANE
    cause: tuple[Header, ...] = (
        ("error_code", poison.code.value.encode()),
        ("error_field", poison.field.encode()),
        ("error_message", str(poison).encode()[:_MESSAGE_BYTES_MAX]),
        ("stage", stage.encode()),
        ("origin_topic", record.topic.encode()),
        ("origin_partition", str(partition).encode()),
        ("origin_offset", str(record.offset).encode()),
    )
    return Emit(DEAD_LETTERS.name, record.key, record.value, partition, source, (*record.headers, *cause))
