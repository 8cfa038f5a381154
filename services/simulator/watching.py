"""How far the mesh has come: follows ``decisions.v1`` and, when nothing moves, asks whether anything still could.

Only the last few records of each fetched batch are looked at, and of those only the packed header: within a partition
decisions keep the order of the raw log to within milliseconds, so the highest origin is among the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.mesh import headers
from services.mesh.topics import DECISIONS

_LOOKED_AT = 8  # records at the end of a batch
_FETCH_WAIT_MS = 100
_PROBE_MS = 500

Origin = Callable[[Any], tuple[int, int]]
"""From a record of ``decisions.v1`` to its origin: partition and offset in ``events.raw.v1``."""


def origin_of(record: Any) -> tuple[int, int]:
    """The origin in a record's ``weir`` header; (0, -1), which settles nothing, when it has none."""
    packed = headers.find(record.headers, headers.WEIR)
    if packed is None:
        return 0, -1
    hop = headers.unpack_hop(packed)
    return hop.origin_partition, hop.origin_offset


async def follow_decisions(
    kafka: str, origin: Origin, decided: Callable[[int, int], None], ready: asyncio.Event
) -> None:
    """Report the newest origins of committed decisions until cancelled; sets ``ready`` once it misses nothing."""
    consumer = _reader(kafka)
    await consumer.start()
    try:
        partitions = [
            TopicPartition(DECISIONS.name, number) for number in consumer.partitions_for_topic(DECISIONS.name) or ()
        ]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        ready.set()
        while True:
            fetched = await consumer.getmany(timeout_ms=1_000)
            for records in fetched.values():
                for record in records[-_LOOKED_AT:]:
                    decided(*origin(record))
    finally:
        await consumer.stop()


class Lags:
    """Whether every stage has read all there is for it."""

    def __init__(self, kafka: str, stages: Sequence[tuple[str, str]]) -> None:
        """``stages`` are pairs of consumer group and the topic that it reads."""
        self._kafka, self._stages = kafka, stages

    async def all_zero(self) -> bool:
        """True when no stage has a committed record left to read; False too when that cannot be told now."""
        try:
            return await self._all_zero()
        except KafkaError:
            return False  # a broker that restarts; the caller asks again

    async def _all_zero(self) -> bool:
        admin, consumer = AIOKafkaAdminClient(bootstrap_servers=self._kafka), _reader(self._kafka)
        await admin.start()
        await consumer.start()
        try:
            unread: dict[TopicPartition, int] = {}
            for group, topic in self._stages:
                partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
                ends = await consumer.end_offsets(partitions)
                committed = await admin.list_consumer_group_offsets(group, partitions=partitions)
                for partition, end in ends.items():
                    offset = max(0, committed[partition].offset) if partition in committed else 0
                    if offset < end:
                        unread[partition] = offset
            return not unread or await _only_markers(consumer, unread)
        finally:
            await consumer.stop()
            await admin.close()


async def _only_markers(consumer: Any, unread: dict[TopicPartition, int]) -> bool:
    """Whether nothing but transaction markers and aborted records lies behind the offsets, as a stage would see it."""
    consumer.assign(list(unread))
    for partition, offset in unread.items():
        consumer.seek(partition, offset)
    return not await consumer.getmany(timeout_ms=_PROBE_MS, max_records=1)


def _reader(kafka: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=kafka,
        client_id="simulator",
        group_id=None,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        fetch_min_bytes=65_536,
        max_partition_fetch_bytes=1_048_576,
    )
