"""Reading a topic's values from its start outside any group, each time to its present end: for jobs that learn."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from services.mesh.adapters.kafka_reader import FROM_FIRST, reader_settings
from services.mesh.errors import Transient

_BATCH_RECORDS_MAX = 2_000
_WAIT_S = 0.2
_STILL_S_MAX = 30.0
_CALL_WAIT_S = 10.0


class TopicFollower:
    """Committed values of ``topic``; ``name`` is what the broker calls this reader. Raises Transient."""

    def __init__(self, bootstrap: str, topic: str, name: str) -> None:
        self._topic = topic
        self._consumer = Consumer(reader_settings(bootstrap, name))
        try:
            found = self._consumer.list_topics(topic, timeout=_CALL_WAIT_S).topics[topic].partitions
        except KafkaException as error:
            self._consumer.close()
            raise Transient(f"partitions of {topic}: {error}") from error
        self.partitions = sorted(found)
        self._at_end: set[int] = set()  # no record since the end was last reached
        self.offsets: dict[int, tuple[int, int]] = {}  # partition -> first offset read, and the one after the last
        self._consumer.assign([TopicPartition(topic, p, FROM_FIRST) for p in self.partitions])

    def to_end(self) -> Iterator[bytes]:
        """Values not yet read. Raises Transient when the broker stops answering before the end."""
        deadline_s = time.monotonic() + _STILL_S_MAX
        try:
            while True:
                messages = self._consumer.consume(_BATCH_RECORDS_MAX, _WAIT_S)
                for message in messages:
                    error = message.error()
                    if error is None:
                        partition, offset = message.partition(), message.offset()
                        self._at_end.discard(partition)
                        first, _ = self.offsets.get(partition, (offset, offset))
                        self.offsets[partition] = (first, offset + 1)
                        if message.value() is not None:
                            yield message.value()
                    elif error.code() == KafkaError._PARTITION_EOF:
                        self._at_end.add(message.partition())
                if len(self._at_end) == len(self.partitions):
                    return
                if messages:
                    deadline_s = time.monotonic() + _STILL_S_MAX
                elif time.monotonic() > deadline_s:
                    raise Transient(f"{self._topic}: nothing came for {_STILL_S_MAX:.0f} s before its end")
        except KafkaException as error:
            raise Transient(f"reading {self._topic}: {error}") from error

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()
