"""Journal on confluent-kafka: one partition, from its start, outside any group."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.mesh.adapters.kafka_messages import is_end, is_passing, record_of
from services.mesh.adapters.kafka_reader import FROM_FIRST, reader_settings
from services.mesh.errors import Transient
from services.mesh.ports import InRecord

# A journal is small; when its end is not reached in this time the broker is not answering.
END_WAIT_S = 30.0
_POLL_RECORDS_MAX = 100
_TURN_S = 0.02  # a call waits so long for a full batch, so the end costs it once


class KafkaJournal:
    """Reads partition 0 of ``topic``."""

    def __init__(self, bootstrap: str, topic: str, name: str) -> None:
        self._topic = topic
        self._settings = reader_settings(bootstrap, name)
        self._consumer: Any = None
        self._ended = False

    def read_to_end(self) -> list[InRecord]:
        """See the port."""
        self.close()
        self._consumer = Consumer(self._settings)
        self._consumer.assign([TopicPartition(self._topic, 0, FROM_FIRST)])
        self._ended = False
        records: list[InRecord] = []
        deadline_s = time.monotonic() + END_WAIT_S
        while not self._ended:
            records += self._consume(_TURN_S)
            if time.monotonic() > deadline_s:
                raise Transient(f"{self._topic}: its end was not reached in {END_WAIT_S:.0f} s")
        return records

    def poll(self) -> list[InRecord]:
        """See the port."""
        return self._consume(0)

    def close(self) -> None:
        """See the port."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _consume(self, wait_s: float) -> list[InRecord]:
        records: list[InRecord] = []
        for message in self._consumer.consume(_POLL_RECORDS_MAX, wait_s):
            error = message.error()
            if error is None:
                records.append(record_of(message))
            elif is_end(error):
                self._ended = True
            elif not is_passing(error):
                raise Transient(f"reading {self._topic}: {KafkaException(error)}")
        return records
