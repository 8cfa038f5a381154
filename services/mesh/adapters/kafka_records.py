"""Sending records on behalf of a person: all of them or none, and known to be in the log when it returns.

One Kafka transaction a call: an outcome never stands without the audit entry that says whose it is.
``aiokafka_records.py`` does the same for asyncio.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaException, Producer

from services.mesh.errors import Transient
from services.mesh.ports import OutRecord

TRANSACTION_TIMEOUT_MS = 10_000
_WAIT_S = 15.0


class RecordSender:
    """One connection; not for several threads at once. Use it as a context or ``close`` it."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self._settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "client.id": name,
            # Nobody else ever takes this sender over, so no id has to be stable: an open transaction times out.
            "transactional.id": f"{name}.{uuid.uuid4().hex}",
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
        }
        self._producer: Any = None

    def send(self, records: Sequence[OutRecord]) -> None:
        """Produce ``records`` in one transaction. Raises Transient: all or none of them are in the log, repeat it."""
        if not records:
            return
        try:
            if self._producer is None:
                self._producer = Producer(self._settings)
                self._producer.init_transactions(_WAIT_S)
            self._producer.begin_transaction()
            for topic, key, value, partition, headers in records:
                where = {} if partition is None else {"partition": partition}
                self._producer.produce(topic, value, key, headers=headers, **where)
            self._producer.commit_transaction(_WAIT_S)
        except (KafkaException, BufferError) as error:
            self.close()
            topics = ", ".join(dict.fromkeys(record.topic for record in records))
            raise Transient(f"sending to {topics}: {error}; repeat it, a repeat is harmless") from error

    def close(self) -> None:
        """Abort what is open and let go."""
        if self._producer is not None:
            with suppress(KafkaException):
                self._producer.abort_transaction(2.0)
            self._producer.purge()
            self._producer = None

    def __enter__(self) -> RecordSender:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()
