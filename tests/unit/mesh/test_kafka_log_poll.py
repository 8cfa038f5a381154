"""Rebalances between the two reads of one poll: a moment that a real broker offers too rarely to wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer as RealConsumer
from confluent_kafka import KafkaError, TopicPartition

from services.mesh.adapters import kafka_log
from services.mesh.adapters.kafka_log import KafkaLog
from services.mesh.errors import Transient
from services.mesh.ports import Assignment, CommittedOffset


class Message:
    def __init__(self, partition: int, offset: int) -> None:
        self.place = (partition, offset)

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return self.place[0]

    def offset(self) -> int:
        return self.place[1]

    def timestamp(self) -> tuple[int, int]:
        return 1, 1

    def key(self) -> bytes:
        return b"k"

    value = key

    def headers(self) -> None:
        return None


class Consumer:
    """Answers ``consume`` from a script; a step of it may call back, as librdkafka does from within."""

    def __init__(self, *script: Callable[[Consumer], list[Message]]) -> None:
        self._script = list(script)
        self.committed_offsets: dict[int, int] = {}
        self.error: KafkaError | None = None
        self.assigned: list[tuple[int, int]] = []

    def consume(self, count: int, wait_s: float) -> list[Message]:
        return self._script.pop(0)(self) if self._script else []

    def consumer_group_metadata(self) -> object:
        return object()

    def committed(self, partitions: list[TopicPartition], wait_s: float) -> list[Any]:
        return [_Committed(p.partition, self.committed_offsets.get(p.partition, -1001), self.error) for p in partitions]

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned += [(p.partition, p.offset) for p in partitions]


class _Committed:
    topic = "t"
    metadata = "m"

    def __init__(self, partition: int, offset: int, error: KafkaError | None) -> None:
        self.partition, self.offset, self.error = partition, offset, error


def places(*partitions: int) -> list[TopicPartition]:
    return [TopicPartition("t", partition) for partition in partitions]


def log_on(*script: Callable[[KafkaLog, Consumer], list[Message]]) -> tuple[KafkaLog, Consumer]:
    log = KafkaLog("nowhere:1", "g", "t", "0")
    consumer = Consumer(*(lambda consumer, step=step: step(log, consumer) for step in script))
    log._consumer = consumer
    return log, consumer


def assign(log: KafkaLog, consumer: Consumer, *partitions: int) -> list[Message]:
    log._on_assign(consumer, places(*partitions))
    return []


def revoke(log: KafkaLog, consumer: Consumer, *partitions: int) -> list[Message]:
    log._on_revoke(consumer, places(*partitions))
    return []


def test_records_of_a_partition_that_leaves_during_the_poll_are_not_returned() -> None:
    log, _ = log_on(
        lambda log, consumer: assign(log, consumer, 0, 1) or [Message(1, 0)],
        lambda log, consumer: revoke(log, consumer, 1) or [Message(0, 0)],
    )
    assert [(r.partition, r.offset) for r in log.poll(10, 10)] == [(0, 0)]


def test_a_partition_that_left_and_came_back_within_one_poll_needs_a_new_session() -> None:
    """Its first record would come twice: once read before it left, once from where it starts again."""
    log, _ = log_on(
        lambda log, consumer: assign(log, consumer, 0) or [Message(0, 0)],
        lambda log, consumer: revoke(log, consumer, 0) or assign(log, consumer, 0) or [Message(0, 0)],
    )
    with pytest.raises(Transient, match="left and came back"):
        log.poll(10, 10)


def test_what_left_and_came_back_between_polls_is_told_in_that_order() -> None:
    log, consumer = log_on()
    assign(log, consumer, 0, 1)
    log.take_assignment()
    revoke(log, consumer, 1)
    consumer.committed_offsets[1] = 7
    assign(log, consumer, 1)
    assert log.take_assignment() == Assignment({1: CommittedOffset(7, "m")}, [1])
    assert log.take_assignment() is None


def test_what_came_and_left_before_anybody_looked_is_not_told() -> None:
    log, consumer = log_on()
    assign(log, consumer, 0, 1)
    revoke(log, consumer, 1)
    assert log.take_assignment() == Assignment({0: CommittedOffset(None, "m")}, [])


def test_reading_starts_where_the_metadata_was_read() -> None:
    log, consumer = log_on()
    consumer.committed_offsets = {0: 5}
    assign(log, consumer, 0, 1)
    assert consumer.assigned == [(0, 5), (1, -2)], "-2: the beginning"


def test_a_partition_whose_offset_cannot_be_had_is_not_begun_from_the_start() -> None:
    """Nothing committed, or an answer that failed: taken for the other, a whole log is repeated."""
    log, consumer = log_on(lambda log, consumer: assign(log, consumer, 0))
    consumer.error = KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT)
    with pytest.raises(Transient, match="UNSTABLE_OFFSET_COMMIT"):
        log.poll(10, 10)
    assert consumer.assigned == []
    with pytest.raises(Transient, match=r"assigning t\[0\]: UNSTABLE_OFFSET_COMMIT"):
        assign(log, consumer, 0)


def test_a_broker_that_does_not_tell_what_was_committed_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real client: what its ``committed`` raises, nobody could catch outside of the callback."""
    monkeypatch.setattr(kafka_log, "CALL_WAIT_S", 0.05)
    silent = RealConsumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0})
    log, _ = log_on()
    try:
        with pytest.raises(Transient, match="assigning t: _TIMED_OUT"):
            log._on_assign(silent, places(0))
    finally:
        silent.close()
