"""One subscription's connection to the log: where it stands, what comes next, and writing down what is settled.

It assigns itself every partition instead of joining its group: there is one process, a start after a crash waits for no
session to run out, and whoever is late is fenced by the transactional id. Kafka's own tools still show the group's
offsets and lag.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from services.mesh.adapters.aiokafka_closing import let_go
from services.mesh.adapters.aiokafka_reading import groupless_consumer
from services.mesh.ports import InRecord
from services.mesh.topics import DEAD_LETTER_BYTES_MAX, DECISIONS
from services.webhooks.desk import Settlement
from services.webhooks.progress import Mark, fresh, mark_in
from services.webhooks.subscription import Subscription

_READ_RECORDS_MAX: Final = 500
_FETCH_WAIT_MS: Final = 500  # one question to the broker each half second while nothing happens
_FETCH_BYTES_MAX: Final = 262_144  # a partition; 8 of them are 2 MB a subscription
_CALL_S_MAX: Final = 10.0
_CLOSE_S_MAX: Final = 0.4
_RETRY_MS: Final = 100
_REPEAT_S: Final = 0.15  # more than that
_TRANSACTION_TIMEOUT_MS: Final = 10_000


class SubscriptionLog:
    """Opened once; any error of Kafka's ends it. Raises KafkaError and TimeoutError (an OSError)."""

    def __init__(self, subscription: Subscription, kafka: str) -> None:
        self._subscription, self._kafka = subscription, kafka
        self._producer: Any = None
        self._consumer: Any = None

    async def open(self) -> dict[int, Mark]:
        """Fence whoever was here before, and begin where things stand: by partition."""
        group = self._subscription.group
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka,
            client_id=group,
            transactional_id=group,
            transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            max_request_size=2 * DEAD_LETTER_BYTES_MAX,
        )
        # An open transaction of an earlier life is settled when this returns: the offsets read next are the last ones.
        await asyncio.wait_for(self._producer.start(), _CALL_S_MAX)
        self._consumer = groupless_consumer(
            self._kafka,
            group,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            retry_backoff_ms=_RETRY_MS,
            max_partition_fetch_bytes=_FETCH_BYTES_MAX,
        )
        await asyncio.wait_for(self._consumer.start(), _CALL_S_MAX)
        partitions = await self._producer.partitions_for(DECISIONS.name)
        wheres = [TopicPartition(DECISIONS.name, partition) for partition in sorted(partitions)]
        marks = await asyncio.wait_for(self._marks(wheres), _CALL_S_MAX)
        self._consumer.assign(wheres)
        for where in wheres:
            self._consumer.seek(where, marks[where.partition].offset)
        return marks

    async def read(self, partitions: list[int], wait_ms: int) -> dict[int, list[InRecord]]:
        """What comes next in ``partitions``; empty after ``wait_ms``."""
        wheres = [TopicPartition(DECISIONS.name, partition) for partition in partitions]
        found = await self._consumer.getmany(*wheres, timeout_ms=wait_ms, max_records=_READ_RECORDS_MAX)
        return {where.partition: list(map(_record, records)) for where, records in found.items()}

    async def position(self, partition: int) -> int:
        """The first offset that was not handed out; markers of transactions are passed over."""
        return int(await self._consumer.position(TopicPartition(DECISIONS.name, partition)))

    def end(self, partition: int) -> int | None:
        """Where committed decisions end, as far as the last fetch told."""
        end: int | None = self._consumer.last_stable_offset(TopicPartition(DECISIONS.name, partition))
        return end

    async def write(self, settlement: Settlement) -> None:
        """Dead letters and offsets, all or nothing."""
        await asyncio.wait_for(self._write(settlement), _CALL_S_MAX)

    async def close(self) -> None:
        """Let go, whatever the clients say to it."""
        if self._consumer is not None:
            # A fetch that has failed and waits to be repeated would keep its connection. So nothing new is fetched, and
            # what waits is let end, before it is stopped.
            self._consumer.pause(*self._consumer.assignment())
            await asyncio.sleep(_REPEAT_S)
        for client in (self._consumer, self._producer):
            if client is not None:
                await let_go(client.stop, _CLOSE_S_MAX)

    async def _marks(self, wheres: list[Any]) -> dict[int, Mark]:
        """What is committed; where nothing is, the first decision since the subscription asks for them."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka, client_id=self._subscription.group)
        try:
            await admin.start()
            committed = await admin.list_consumer_group_offsets(self._subscription.group, partitions=wheres)
        finally:
            await admin.close()
        marks = {}
        for where in wheres:
            found = committed.get(where)
            mark = mark_in(found.offset, found.metadata, self._subscription.created_ms) if found is not None else None
            if mark is not None:
                marks[where.partition] = mark
        missing = [where for where in wheres if where.partition not in marks]
        if missing:
            starts = await self._starts(missing)
            await self._write(Settlement(starts, []))  # from here on, whatever happens
            marks |= starts
        return marks

    async def _starts(self, wheres: list[Any]) -> dict[int, Mark]:
        # The ends first: what is appended in between is found by its time.
        ends = await self._consumer.end_offsets(wheres)
        since = await self._consumer.offsets_for_times(dict.fromkeys(wheres, self._subscription.since_ms))
        return {w.partition: fresh(ends[w] if since.get(w) is None else since[w].offset) for w in wheres}

    async def _write(self, settlement: Settlement) -> None:
        """Raises ProducerFenced when another process has taken over, and only then."""
        began_s = time.monotonic()
        try:
            await self._in_one_transaction(settlement)
        except ProducerFenced as error:
            # The broker gives up a transaction that is too old, and fences its producer by that: one that was open
            # when the broker died, say.
            if time.monotonic() - began_s >= _TRANSACTION_TIMEOUT_MS / 1_000:
                raise TimeoutError("the broker has given up a transaction of ours that took too long") from error
            raise

    async def _in_one_transaction(self, settlement: Settlement) -> None:
        created_ms = self._subscription.created_ms
        offsets = {
            TopicPartition(DECISIONS.name, partition): OffsetAndMetadata(mark.offset, mark.metadata(created_ms))
            for partition, mark in settlement.marks.items()
        }
        async with self._producer.transaction():
            sent = [
                await self._producer.send(
                    letter.topic, letter.value, letter.key, letter.partition, headers=list(letter.headers)
                )
                for letter in settlement.letters
            ]
            await asyncio.gather(*sent)
            if offsets:
                await self._producer.send_offsets_to_transaction(offsets, self._subscription.group)


def _record(record: Any) -> InRecord:
    return InRecord(
        record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, record.headers
    )
