"""How far the mesh has come: follows ``decisions.v1`` and asks the stages what no decision will come for.

Of a decision only the packed header is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.mesh import headers
from services.mesh.topics import DECISIONS, EVENTS_RAW, OUTCOMES_RAW
from services.simulator.reading import reader

_BARRIER_POLL_S = 0.05
_BARRIER_STILL_S = 0.5  # a stage that stands still so long may have only markers before it
_PROBE_MS = 300
_OUTCOMES_POLL_S = 0.2

Origin = Callable[[Any], tuple[int, int]]
"""From a record of ``decisions.v1`` to its origin: partition and offset in ``events.raw.v1``."""


def origin_of(record: Any) -> tuple[int, int]:
    """The origin in a record's ``weir`` header; (0, -1), which settles nothing, when it has none."""
    packed = headers.find(record.headers, headers.WEIR)
    if packed is None:
        return 0, -1
    hop = headers.unpack_hop(packed)
    return hop.origin_partition, hop.origin_offset


Look = Callable[[int, int, Sequence[bytes]], None]
"""Takes decisions: partition, offset behind the last, and their values."""


async def follow_decisions(
    kafka: str,
    partitions: int,
    origin: Origin,
    decided: Callable[[int, int], None],
    ready: asyncio.Event,
    look: Look | None = None,
    starts: Mapping[int, int] | None = None,
) -> None:
    """Report the origins of committed decisions until cancelled; sets ``ready`` once it misses nothing.

    ``look`` sees them before they are reported, those from ``starts`` on (offsets by partition) that are there already
    before ``ready`` is set.
    """
    async with reader(kafka, "read_committed") as consumer:
        followed = _all(DECISIONS.name, partitions)
        consumer.assign(followed)
        await consumer.seek_to_end(*followed)
        ends = {where: await consumer.position(where) for where in followed}
        for where in followed:
            if starts is not None and starts.get(where.partition, ends[where]) < ends[where]:
                consumer.seek(where, starts[where.partition])
        while True:
            if not ready.is_set() and all([await consumer.position(where) >= end for where, end in ends.items()]):
                ready.set()
            fetched = await consumer.getmany(timeout_ms=1_000 if ready.is_set() else _PROBE_MS)
            for where, records in fetched.items():
                if look is not None and records:
                    look(where.partition, records[-1].offset + 1, [record.value or b"" for record in records])
                for record in records:
                    decided(*origin(record))


async def settle_gaps(lags: Lags, has_gaps: Callable[[], bool], passed: Callable[[int, int], None]) -> None:
    """While decisions overtake records that have none, find out by barriers which never will; until cancelled."""
    while True:
        await asyncio.sleep(_BARRIER_POLL_S)
        if has_gaps():
            try:
                for partition, offset in (await lags.barrier()).items():
                    passed(partition, offset)
            except KafkaError:
                await lags.close()  # a broker that restarts; asked again


async def follow_outcomes(lags: Lags, unread: Callable[[int], None]) -> None:
    """Report how many outcomes the mesh has still to take, until cancelled. ``lags`` are of the stages they pass."""
    before, still_s = 0, 0.0
    while True:
        try:
            count = await lags.unread()
            still_s = still_s + _OUTCOMES_POLL_S if count == before else 0.0
            before = count
            if count and still_s >= _BARRIER_STILL_S and await lags.all_zero():
                count = 0  # markers, and what a process that was killed had written
            unread(count)
        except KafkaError:
            await lags.close()
        await asyncio.sleep(_OUTCOMES_POLL_S)


class Lags:
    """How far the stages have read; opened when first asked."""

    def __init__(self, kafka: str, partitions: int, stages: Sequence[tuple[str, str]]) -> None:
        """``stages`` are pairs of consumer group and the topic that it reads, each of so many ``partitions``."""
        self._kafka, self._partitions, self._stages = kafka, partitions, stages
        self._open = AsyncExitStack()
        self._clients: tuple[Any, Any] | None = None

    async def all_zero(self) -> bool:
        """True when no stage has a committed record left to read; False too when that cannot be told now."""
        try:
            admin, consumer = await self._connected()
            unread: dict[TopicPartition, int] = {}
            for group, topic in self._stages:
                unread |= await self._unread(admin, consumer, group, topic)
            return not unread or await _only_markers(consumer, unread)
        except KafkaError:
            await self.close()  # a broker that restarts; the caller asks again
            return False

    async def unread(self) -> int:
        """Offsets that the stages have not committed, markers included. Raises KafkaError."""
        admin, consumer = await self._connected()
        count = 0
        for group, topic in self._stages:
            ends = await consumer.end_offsets(_all(topic, self._partitions))
            offsets = await self._committed(admin, group, topic)
            count += sum(max(0, end - offsets[where]) for where, end in ends.items())
        return count

    async def barrier(self) -> dict[int, int]:
        """By raw partition, an offset below which everything is settled; returns once that is so.

        What the first stage has judged by now went into its output by now; once each later stage has taken what its
        input held when the one before had, all of it is decided, refused or known to be a repeat. Raises KafkaError.
        """
        admin, consumer = await self._connected()
        (group, topic), *later = self._stages
        judged = await self._committed(admin, group, topic)
        for group, topic in later:
            ends = await consumer.end_offsets(_all(topic, self._partitions))
            await self._until_taken(admin, consumer, group, topic, ends)
        return {where.partition: offset for where, offset in judged.items()}

    async def _until_taken(
        self, admin: Any, consumer: Any, group: str, topic: str, ends: dict[TopicPartition, int]
    ) -> None:
        before: dict[TopicPartition, int] = {}
        still_s = 0.0
        while True:
            taken = await self._committed(admin, group, topic)
            behind = {where: taken[where] for where, end in ends.items() if taken[where] < end}
            still_s = still_s + _BARRIER_POLL_S if behind == before else 0.0
            if not behind or (still_s >= _BARRIER_STILL_S and await _only_markers(consumer, behind)):
                return
            before = behind
            await asyncio.sleep(_BARRIER_POLL_S)

    async def _committed(self, admin: Any, group: str, topic: str) -> dict[TopicPartition, int]:
        wanted = _all(topic, self._partitions)
        found = await admin.list_consumer_group_offsets(group, partitions=wanted)
        return {where: max(0, found[where].offset) if where in found else 0 for where in wanted}

    async def close(self) -> None:
        """Disconnect."""
        self._clients = None
        await self._open.aclose()

    async def _connected(self) -> tuple[Any, Any]:
        if self._clients is None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka, client_id="simulator")
            await admin.start()
            self._open.push_async_callback(admin.close)
            self._clients = admin, await self._open.enter_async_context(reader(self._kafka, "read_committed"))
        return self._clients

    async def _unread(self, admin: Any, consumer: Any, group: str, topic: str) -> dict[TopicPartition, int]:
        """Offset at which the group goes on, of each partition that does not end there."""
        ends = await consumer.end_offsets(_all(topic, self._partitions))
        offsets = await self._committed(admin, group, topic)
        # Where only transactions write, one offset is the marker of the last one: a record would have one behind it.
        marker = 0 if topic in (EVENTS_RAW.name, OUTCOMES_RAW.name) else 1
        return {where: offsets[where] for where, end in ends.items() if offsets[where] < end - marker}


async def _only_markers(consumer: Any, unread: dict[TopicPartition, int]) -> bool:
    """Whether nothing but transaction markers and aborted records lies behind the offsets, as a stage would see it."""
    consumer.assign(list(unread))
    for partition, offset in unread.items():
        consumer.seek(partition, offset)
    return not await consumer.getmany(timeout_ms=_PROBE_MS, max_records=1)


def _all(topic: str, partitions: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(partitions)]
