"""Where topics end now, asked over a connection of its own.

A consumer's own connection answers in order, so behind a fetch that waits for records the same question takes as long
as that fetch may wait: a second.
"""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from services.mesh.errors import Transient

_CALL_WAIT_S = 10.0


class CommittedEnds:
    """The next committed offset of every partition of ``topics``; each call asks anew."""

    def __init__(self, kafka: str, topics: Sequence[str]) -> None:
        self._kafka, self._topics = kafka, tuple(topics)
        self._admin: AdminClient | None = None
        self._asked: dict[TopicPartition, OffsetSpec] = {}

    def __call__(self) -> dict[tuple[str, int], int]:
        """(topic, partition) -> offset. Raises Transient."""
        try:
            admin = self._connected()
            found = admin.list_offsets(self._asked, isolation_level=IsolationLevel.READ_COMMITTED)
            return {(tp.topic, tp.partition): future.result(_CALL_WAIT_S).offset for tp, future in found.items()}
        except (KafkaException, KeyError, TimeoutError) as error:
            self._admin = None
            raise Transient(f"ends of {', '.join(self._topics)}: {error}") from error

    def _connected(self) -> AdminClient:
        if self._admin is None:
            admin = AdminClient({"bootstrap.servers": self._kafka})
            known = admin.list_topics(timeout=_CALL_WAIT_S).topics
            self._asked = {
                TopicPartition(name, partition): OffsetSpec.latest()
                for name in self._topics
                for partition in known[name].partitions
            }
            self._admin = admin
        return self._admin
