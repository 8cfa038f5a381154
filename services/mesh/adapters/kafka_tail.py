"""The end of a topic's partitions, as it grows: for whoever wants to hear what others write, outside any group."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.mesh.adapters.kafka_messages import is_end, is_passing, record_of
from services.mesh.adapters.kafka_reader import reader_settings
from services.mesh.errors import Transient
from services.mesh.ports import InRecord

_POLL_RECORDS_MAX = 1_000


class KafkaTail:
    """Follows partitions of ``topic``, each from an offset on."""

    def __init__(self, bootstrap: str, topic: str, name: str) -> None:
        self._topic = topic
        # What is heard this way is not urgent; an idle tail asks twice a second.
        self._settings = reader_settings(bootstrap, name) | {"fetch.wait.max.ms": 500, "queued.min.messages": 1_000}
        self._consumer: Any = None

    def follow(self, partition: int, offset: int) -> None:
        """Hear ``partition`` from ``offset`` on. Raises Transient."""
        try:
            if self._consumer is None:
                self._consumer = Consumer(self._settings)
            self._consumer.incremental_assign([TopicPartition(self._topic, partition, offset)])
        except KafkaException as error:
            raise Transient(f"following {self._topic}[{partition}]: {error}") from error

    def leave(self, partition: int) -> None:
        """Hear ``partition`` no more."""
        if self._consumer is not None:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def poll(self) -> list[InRecord]:
        """Committed records that have come since; never waits. Raises Transient."""
        if self._consumer is None:
            return []
        records: list[InRecord] = []
        for message in self._consumer.consume(_POLL_RECORDS_MAX, 0):
            error = message.error()
            if error is None:
                records.append(record_of(message))
            elif not is_end(error) and not is_passing(error):
                raise Transient(f"following {self._topic}: {error.str()}")
        return records

    def close(self) -> None:
        """Let go."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
