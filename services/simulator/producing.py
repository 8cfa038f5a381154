"""The way out: whole batches to one topic, built per partition here and acknowledged once each.

aiokafka's ``send`` costs a future and a task switch for every record (20 us and more); its batch interface costs 1.2 us
a record and one future a batch, and tells the offset of each record. The producer is idempotent, so its retries
neither repeat nor reorder; it retries for as long as the process lives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from services.mesh.errors import Fatal, Transient
from services.mesh.partitioner import Partitioner
from services.mesh.topics import RAW_BYTES_MAX

BATCH_BYTES_MAX = RAW_BYTES_MAX - 1_024  # the topic's limit is for the batch, its header included
REQUEST_TIMEOUT_MS = 30_000

Acknowledged = Callable[[int], None]
"""Called with the batch's first offset, -1 when a retry hid it."""


async def open_producer(kafka: str) -> AIOKafkaProducer:
    """A started producer; Transient when the broker cannot be reached."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka,
        client_id="simulator",
        enable_idempotence=True,
        acks="all",
        max_batch_size=BATCH_BYTES_MAX,
        max_request_size=16 * BATCH_BYTES_MAX,
        linger_ms=0,  # we linger ourselves: a batch is handed over when it is complete
        retry_backoff_ms=50,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    try:
        await producer.start()
    except KafkaConnectionError as error:
        await producer.stop()
        raise Transient(f"kafka={kafka}: cannot be reached ({error}); is the mesh up (weir up)?") from error
    return producer


class TopicWriter:
    """Sends records to one topic."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partitions: int) -> None:
        self.topic, self.partitions = topic, partitions
        self._producer = producer
        self._partitioner = Partitioner(partitions)
        self.failure: Exception | None = None

    def by_partition(self, keys: Sequence[bytes | None], values: Sequence[bytes]) -> list[list[int]]:
        """Indices of the records that belong to each partition, in order."""
        rows: list[list[int]] = [[] for _ in range(self.partitions)]
        partition_of, partitions = self._partitioner.partition_of, self.partitions
        for index, key in enumerate(keys):
            # Without a key any partition will do, as long as a second run chooses the same one.
            partition = crc32(values[index]) % partitions if key is None else partition_of(key)
            rows[partition].append(index)
        return rows

    async def send(
        self,
        partition: int,
        rows: Sequence[int],
        keys: Sequence[bytes | None],
        values: Sequence[bytes],
        timestamp_ms: int,
        handed_over: Callable[[Sequence[int]], Acknowledged],
    ) -> None:
        """Send ``rows`` to ``partition``, in as few batches as they fit; returns when they are handed over.

        ``handed_over`` is called with each batch's rows before it leaves, and returns what its acknowledgement calls.
        """
        start = 0
        while start < len(rows):
            batch = self._producer.create_batch()
            end = start
            while end < len(rows):
                row = rows[end]
                if batch.append(key=keys[row], value=values[row], timestamp=timestamp_ms) is None:
                    break
                end += 1
            if end == start:
                size = len(values[rows[start]])
                raise Fatal(
                    f"{self.topic}: a record of {size:,} bytes (key {keys[rows[start]]!r}) fits no batch; shorten it"
                )
            acknowledged = handed_over(rows[start:end])
            try:
                future = await self._producer.send_batch(batch, self.topic, partition=partition)
            except KafkaError as error:
                told = f"{self.topic}[{partition}]: not delivered ({error!r}); is the broker healthy?"
                raise Transient(told) from error
            future.add_done_callback(lambda done, acknowledged=acknowledged: self._done(done, acknowledged))
            start = end

    def _done(self, future: Any, acknowledged: Acknowledged) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self.failure = self.failure or error
            return
        acknowledged(future.result().offset)
