"""Committed records of any topic, by offset, outside any group: for rebuilding state from what was produced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from services.mesh.adapters.kafka_log import CALL_WAIT_S, TRANSACTION_TIMEOUT_MS, KafkaLog
from services.mesh.errors import Transient
from services.mesh.ports import InRecord

# Whatever a dead process left open is aborted by the broker after the transaction time-out, checked every 10 s.
_OPEN_WAIT_S = TRANSACTION_TIMEOUT_MS / 1000 + 12.0
_LOOK_AGAIN_S = 0.05


class KafkaReader:
    """Reads ``topic``; opens a client a call, since it is needed at assignments only."""

    def __init__(self, bootstrap: str, topic: str, name: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._name = name
        self._log = KafkaLog(bootstrap, name, topic, "reader")

    def ends(self, partition: int) -> tuple[int, int]:
        """First offset kept and the one after the last, once no transaction is open there. Raises Transient."""
        admin = AdminClient({"bootstrap.servers": self._bootstrap, "client.id": f"{self._name}.ends"})
        deadline_s = time.monotonic() + _OPEN_WAIT_S
        while True:
            committed = self._offset(admin, partition, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
            if committed == self._offset(admin, partition, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED):
                return self._offset(admin, partition, OffsetSpec.earliest(), IsolationLevel.READ_COMMITTED), committed
            if time.monotonic() > deadline_s:
                raise Transient(
                    f"{self._topic}[{partition}]: a transaction stays open at {committed} for {_OPEN_WAIT_S:.0f} s; "
                    "see kafka-transactions.sh find-hanging"
                )
            time.sleep(_LOOK_AGAIN_S)

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        """Records with ``start <= offset < end``. Raises Transient."""
        return self._log.read(partition, start, end)

    def _offset(self, admin: AdminClient, partition: int, spec: Any, isolation: IsolationLevel) -> int:
        place = TopicPartition(self._topic, partition)
        try:
            answers = admin.list_offsets({place: spec}, isolation_level=isolation, request_timeout=CALL_WAIT_S)
            return int(answers[place].result().offset)
        except KafkaException as error:
            raise Transient(f"asking for the ends of {self._topic}[{partition}]: {error}") from error
