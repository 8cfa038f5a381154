"""The outside world as the mesh sees it: the log, the state store, the clock.

Real ones and their deterministic twins live in ``adapters``; both pass ``tests/conformance``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, Protocol, cast

Header = tuple[str, bytes | None]

# Partitions of one input, or of one lane of writers: above what the watermark allows (``watermark.check_partitions``),
# and 16 of them in 14 bits. Where a stage has several inputs, a partition's number is input * LANE + partition, in
# records, assignments, offsets and marks alike; of the first input, which most stages have alone, it is the partition.
LANE = 1_024


# No single call of a log waits longer for its broker.
CALL_WAIT_S = 10.0


class InRecord(NamedTuple):
    """One record read from a topic."""

    topic: str
    partition: int  # behind a TransactionalLog of several inputs: its number, see LANE
    offset: int
    append_time_ms: int  # the broker's wall clock when it appended the record (topics use LogAppendTime)
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]


class OutRecord(NamedTuple):
    """One record to produce, and the index in its batch of the record that caused it."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None  # None: murmur2 of the key, as every Java client does it
    headers: list[Header]


# A NamedTuple's own call goes through Python and costs 0.5 us; these, given the fields as one tuple, cost 0.2.
in_record = cast(
    Callable[[tuple[str, int, int, int, bytes | None, bytes | None, Sequence[Header]]], InRecord],
    partial(tuple.__new__, InRecord),
)
out_record = cast(
    Callable[[tuple[str, bytes | None, bytes | None, int | None, list[Header]]], OutRecord],
    partial(tuple.__new__, OutRecord),
)


class CommittedOffset(NamedTuple):
    """Where a group stands in one partition: the next offset to read, and what it wrote beside it."""

    offset: int | None  # None: nothing committed yet
    metadata: str


class Assignment(NamedTuple):
    """What changed since the last poll in the partitions that this process owns."""

    added: Mapping[int, CommittedOffset]
    removed: Sequence[int]


class TransactionalLog(Protocol):
    """A stage's connection to the log: one input topic or some, any outputs, one transaction a batch.

    Inputs have the same partition count and are owned together: who has a partition of one has it of all. Partitions
    are told apart by their number (see LANE).

    Any call raises Transient (reopen and repeat), Fenced (another process holds our slot) or Fatal.
    """

    def open(self) -> None:
        """Join the group and fence whatever an earlier process with the same slot left behind."""
        ...

    def close(self) -> None:
        """Leave; an open transaction is aborted."""
        ...

    def poll(self, records_max: int, wait_ms: int) -> list[InRecord]:
        """Next records of the owned partitions, within each partition in offset order; empty after ``wait_ms``.

        With a wait of 0, what is there. Otherwise a log that had nothing may wait longer for a first record.

        Ownership may change inside; the records are those of the owner that we are when it returns.
        """
        ...

    def take_assignment(self) -> Assignment | None:
        """Changes of ownership noticed by the last poll, once; None when there are none."""
        ...

    def commit(self, outputs: Sequence[OutRecord], offsets: Mapping[int, CommittedOffset]) -> None:
        """Produce ``outputs`` of the batch polled last and move the group to ``offsets``, all or nothing."""
        ...

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        """Committed records of the input partition with ``start <= offset < end``, outside the group.

        Ends even when offsets below ``end`` hold no record. Fatal when ``start`` is not 0 and the log begins later.
        """
        ...

    def pause(self, partitions: Sequence[int]) -> None:
        """Stop returning records of ``partitions`` from poll until the next open."""
        ...


class Journal(Protocol):
    """A control topic (models, policies), read whole by every instance, outside any group, in order."""

    def read_to_end(self) -> list[InRecord]:
        """Everything that is there now; ready means that this has returned. Raises Transient."""
        ...

    def poll(self) -> list[InRecord]:
        """What was appended since; never waits."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


StoreCommand = Literal["set", "append", "delete"]


class StoreWrite(NamedTuple):
    """One change of one key; ``value`` is empty for a delete.

    ``length`` is how long an appended-to value must be before: a store that lost or expired it is told apart.
    """

    command: StoreCommand
    key: str
    value: bytes
    length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMark:
    """How far a partition's stored state has come."""

    offset: int  # next input offset that the state does not hold yet
    metadata: str  # whatever its owner needs to go on from there


class StoreStep(NamedTuple):
    """Changed state and the mark that it leads to: applied as one, and only on top of ``expected_offset``."""

    partition: int
    expected_offset: int | None  # None: no mark is stored yet
    mark: StoreMark
    writes: Sequence[StoreWrite]


class StateStore(Protocol):
    """A cache of the log, one writer a partition: it may be lost whole, and is never ahead of Kafka.

    Raises Transient when it cannot be reached in time, Fenced when a newer owner has claimed the partition.
    """

    def claim(self, partition: int) -> StoreMark | None:
        """Become the partition's only writer from now on; return how far its state has come."""
        ...

    def load(self, partition: int, keys: Sequence[str]) -> list[bytes | None]:
        """Stored values of ``keys``, in their order; None for a key that is not stored.

        Raises StoreLost unless the partition is as this process left it (claim, save, clear): a lost value must never
        read as one that was not there yet.
        """
        ...

    def lost(self, partitions: Sequence[int]) -> list[int]:
        """Those of ``partitions`` that are not as this process left them: what ``load`` would refuse, asked at rest.

        One round trip for all.
        """
        ...

    def save(self, steps: Sequence[StoreStep]) -> None:
        """Apply ``steps`` in order. Repeating a step whose answer was lost changes nothing.

        Raises StoreLost when a partition's stored mark is gone or is not the expected one, or when a value that is
        appended to is not as it was left; the mark is then taken away, so that the next claim starts from nothing.
        """
        ...

    def clear(self, partition: int) -> None:
        """Forget the partition's state, for a rebuild from the log; ownership stays. Repeatable after a crash."""
        ...


class Clock(Protocol):
    """The only source of now; pure code is handed milliseconds instead."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        ...

    def monotonic_s(self) -> float:
        """Seconds of a clock that never steps back."""
        ...

    def sleep_s(self, seconds: float) -> None:
        """Wait."""
        ...
