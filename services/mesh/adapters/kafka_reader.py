"""Reading committed records of one topic outside any group: replays, rebuilds, scans of a stretch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from services.mesh.adapters.kafka_messages import is_end, is_passing, record_of
from services.mesh.errors import Fatal, Transient
from services.mesh.ports import InRecord

_BATCH_RECORDS_MAX = 1_000
# ``consume`` waits this long for a full batch, so the end of a stretch costs it once.
_CONSUME_WAIT_S = 0.02
_CALL_WAIT_S = 10.0
_SILENCE_S_MAX = 10.0
# Longer than any transaction of ours may stay open (10 s) and the broker's scan for dead ones.
_SETTLE_WAIT_S = 30.0
_SETTLE_POLL_S = 0.05
# From the first record that the log keeps, in a reader that resets to the earliest. librdkafka's OFFSET_BEGINNING means
# the same, and is looked up half a second after it was assigned.
FROM_FIRST = 0


class KafkaReader:
    """Stretches of ``topic``."""

    def __init__(self, bootstrap: str, topic: str, name: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._name = name

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        """Committed records with ``start <= offset < end``, in order, in batches; ends at the log's end too.

        Raises Transient; Fatal when ``start`` is not 0 and the log begins later.
        """
        if start >= end:
            return
        # Out of range must not mean "from the first": a hole in a replay would be silently wrong state.
        settings = reader_settings(self._bootstrap, self._name) | {"auto.offset.reset": "error"}
        consumer = Consumer(settings)
        try:
            consumer.assign([TopicPartition(self._topic, partition, start or OFFSET_BEGINNING)])
            ended = False
            heard_s = time.monotonic()
            while not ended:
                messages = consumer.consume(_BATCH_RECORDS_MAX, _CONSUME_WAIT_S)
                if messages:
                    heard_s = time.monotonic()
                elif time.monotonic() - heard_s > _SILENCE_S_MAX:
                    raise Transient(f"reading {self._topic}[{partition}]: no answer for {_SILENCE_S_MAX:.0f} s")
                records = [record for message in messages if (record := self._record(message)) is not None]
                wanted = [record for record in records if record.offset < end]
                ended = (
                    len(wanted) < len(records)
                    or any(_says_end(message) for message in messages)
                    or self._passed(consumer, partition, end)
                )
                if wanted:
                    yield wanted
                    heard_s = time.monotonic()  # whoever reads may take its time
        except KafkaException as error:
            raise Transient(f"reading {self._topic}[{partition}]: {error}") from error
        finally:
            consumer.close()

    def ends(self, partition: int) -> tuple[int, int]:
        """First offset kept, and the one after the last, once no transaction is open there. Raises Transient."""
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        deadline_s = time.monotonic() + _SETTLE_WAIT_S
        try:
            while True:
                stable = self._offset(admin, partition, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
                high = self._offset(admin, partition, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)
                if stable == high:
                    first = self._offset(admin, partition, OffsetSpec.earliest(), IsolationLevel.READ_COMMITTED)
                    return first, high
                if time.monotonic() > deadline_s:
                    raise Transient(
                        f"{self._topic}[{partition}]: a transaction has been open for {_SETTLE_WAIT_S:.0f} s at offset "
                        f"{stable}; find it with kafka-transactions.sh find-hanging"
                    )
                time.sleep(_SETTLE_POLL_S)
        except (KafkaException, TimeoutError) as error:
            raise Transient(f"ends of {self._topic}[{partition}]: {error}") from error

    def since(self, partition: int, time_ms: int) -> int:
        """First offset that was appended at ``time_ms`` or later, the end when there is none. Raises Transient."""
        admin, committed = AdminClient({"bootstrap.servers": self._bootstrap}), IsolationLevel.READ_COMMITTED
        try:
            found = self._offset(admin, partition, OffsetSpec.for_timestamp(max(0, time_ms)), committed)
            return self._offset(admin, partition, OffsetSpec.latest(), committed) if found < 0 else found
        except (KafkaException, TimeoutError) as error:
            raise Transient(f"first offset since {time_ms} of {self._topic}[{partition}]: {error}") from error

    def _offset(self, admin: Any, partition: int, spec: OffsetSpec, isolation: IsolationLevel) -> int:
        where = TopicPartition(self._topic, partition)
        found = admin.list_offsets({where: spec}, isolation_level=isolation)[where]
        return int(found.result(_CALL_WAIT_S).offset)

    def _passed(self, consumer: Any, partition: int, end: int) -> bool:
        position = consumer.position([TopicPartition(self._topic, partition)])[0].offset
        return bool(position != OFFSET_INVALID and position >= end)

    def _record(self, message: Any) -> InRecord | None:
        error = message.error()
        if error is None:
            return record_of(message)
        if is_end(error) or is_passing(error):
            return None
        place = f"{self._topic}[{message.partition()}]"
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise Fatal(
                f"{place}: {error.str()}; the log no longer holds what state is to be replayed from: delete the stored "
                "state of this partition, and it is rebuilt from what there is"
            )
        raise Transient(f"reading {place}: {error.str()}")


def reader_settings(bootstrap: str, name: str) -> dict[str, Any]:
    """Settings of a consumer that reads committed records outside any group and notices the end."""
    return {
        "bootstrap.servers": bootstrap,
        "client.id": name,
        "group.id": name,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 100,
        "queued.min.messages": 20_000,
        # A partition whose queue is full is asked for more only so much later: a second by default, and a faster reader
        # idles meanwhile (400,000 labels took 10.6 s to come, and now take 1.4 s).
        "fetch.queue.backoff.ms": 10,
    }


def _says_end(message: Any) -> bool:
    error = message.error()
    return error is not None and is_end(error)


def cluster_of(bootstrap: str) -> str:
    """The log's own name: what is kept beside it belongs to no other. Raises Transient."""
    try:
        return str(AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=_CALL_WAIT_S).cluster_id)
    except KafkaException as error:
        raise Transient(f"asking {bootstrap} for its cluster: {error}") from error


def partitions_of(bootstrap: str, topic: str) -> int:
    """How many partitions ``topic`` has. Raises Transient."""
    try:
        found = AdminClient({"bootstrap.servers": bootstrap}).list_topics(topic, timeout=_CALL_WAIT_S).topics[topic]
    except KafkaException as error:
        raise Transient(f"asking {bootstrap} for topic {topic}: {error}") from error
    if found.error is not None:
        raise Transient(f"topic {topic}: {found.error.str()}; was this mesh deployed?")
    return len(found.partitions)
