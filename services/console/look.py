"""One look at the log: how far every stage is behind, and the newest decisions. Bounded, whatever flows.

Outside any group, read_committed. Between looks nothing is fetched: partitions are paused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.mesh.adapters.aiokafka_closing import let_go
from services.mesh.adapters.aiokafka_reading import groupless_consumer
from services.mesh.codec import Codec
from services.mesh.errors import Poison, Transient
from services.mesh.topics import DEAD_LETTERS, DECISIONS
from services.mesh.topology import STAGES, Stage

CLIENT: Final = "weir.console"
SAMPLED_MAX: Final = 200  # decisions in one look: 5 ms of decoding
LOOK_S_MAX: Final = 4.0
_FETCH_WAIT_S: Final = 0.1
_FETCH_TRIES: Final = 5
_REQUEST_MS: Final = 3_000
# An offset gap that stands still holds markers and what killed processes left behind: its records are counted.
_STILL_LOOKS: Final = 3
_COUNTED_OFFSETS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What one look found."""

    lags: dict[str, int]  # by stage, records
    decisions: list[dict[str, Any]]  # sampled, with ``decision_append_time_ms``
    decided_in_all: int  # offsets of decisions.v1 that were ever written, markers included
    dead_letters: int  # offsets of dead-letters.v1 that are still kept, markers included
    partitions: int


def reader(kafka: str) -> Any:
    """A consumer outside any group; not started."""
    return groupless_consumer(
        kafka,
        CLIENT,
        request_timeout_ms=_REQUEST_MS,
        fetch_max_wait_ms=int(1_000 * _FETCH_WAIT_S),
        # A decision has about 1 kB, a record at most one megabyte: larger ones are fetched all the same, one by one.
        max_partition_fetch_bytes=65_536,
    )


def administrator(kafka: str) -> Any:
    """Asks about topics and groups; not started."""
    return AIOKafkaAdminClient(bootstrap_servers=kafka, client_id=CLIENT, request_timeout_ms=_REQUEST_MS)


async def partitions_of(admin: Any, names: Sequence[str]) -> dict[str, list[TopicPartition]]:
    """Every partition of the topics called ``names``; ValueError when one is not there."""
    told = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics(list(names))}
    if missing := [name for name in names if not told.get(name)]:
        raise ValueError(f"no topic {', '.join(missing)}; was this mesh deployed?")
    return {name: [TopicPartition(name, p) for p in sorted(one["partition"] for one in told[name])] for name in names}


class KafkaLook:
    """Looks, and opens its connections anew after any trouble."""

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._decision = Codec("decision.v1.avsc")
        self._consumer: Any = None
        self._admin: Any = None
        self._coordinators: dict[str, int] = {}
        self._partitions: dict[str, list[TopicPartition]] = {}
        self._seen: dict[TopicPartition, int] = {}
        self._stretches: dict[tuple[str, TopicPartition], tuple[tuple[int, int], int, int | None]] = {}

    async def look(self) -> Picture:
        """Raises Transient when the broker does not answer in time."""
        try:
            async with asyncio.timeout(LOOK_S_MAX):
                await self._open()
                return await self._look()
        except (KafkaError, OSError, TimeoutError, AssertionError, ValueError) as error:
            # aiokafka asserts on connections that closed under it.
            await self.close()
            raise Transient(f"broker {self._kafka}: {str(error) or type(error).__name__}") from error

    async def committed(self) -> dict[str, dict[int, int]]:
        """For each stage's input topics, by partition, the offset that its group has committed. Raises Transient."""
        try:
            async with asyncio.timeout(LOOK_S_MAX):
                await self._open()
                return {
                    topic.name: {where.partition: done[where] for where in self._partitions[topic.name]}
                    for stage in STAGES
                    for done in [await self._committed(stage)]
                    for topic in stage.inputs
                }
        except (KafkaError, OSError, TimeoutError, AssertionError, ValueError) as error:
            await self.close()
            raise Transient(f"broker {self._kafka}: {str(error) or type(error).__name__}") from error

    async def close(self) -> None:
        """Drop the connections."""
        consumer, admin = self._consumer, self._admin
        self._consumer = self._admin = None
        self._coordinators.clear()
        if consumer is not None:
            await let_go(consumer.stop)
        if admin is not None:
            await let_go(admin.close)

    async def _open(self) -> None:
        if self._consumer is not None:
            return
        self._consumer, self._admin = (
            reader(self._kafka),
            administrator(self._kafka),
        )
        await self._consumer.start()
        await self._admin.start()
        topics = {DECISIONS, DEAD_LETTERS, *(topic for stage in STAGES for topic in stage.inputs)}
        self._partitions = await partitions_of(self._admin, sorted(topic.name for topic in topics))
        self._consumer.assign(self._partitions[DECISIONS.name])
        self._consumer.pause(*self._partitions[DECISIONS.name])

    async def _look(self) -> Picture:
        every = [where for found in self._partitions.values() for where in found]
        ends = await self._consumer.end_offsets(every)
        letters = self._partitions[DEAD_LETTERS.name]
        starts = await self._consumer.beginning_offsets(letters)
        decided = self._partitions[DECISIONS.name]
        return Picture(
            lags={stage.name: await self._lag(stage, ends) for stage in STAGES},
            decisions=await self._sample(decided, ends),
            decided_in_all=sum(ends[where] for where in decided),
            dead_letters=sum(ends[where] - starts[where] for where in letters),
            partitions=len(decided),
        )

    async def _lag(self, stage: Stage, ends: Mapping[TopicPartition, int]) -> int:
        """Records that the stage has not committed; while they move, offsets, which a few markers are among."""
        done = await self._committed(stage)
        lag = 0
        for topic in stage.inputs:
            for where in self._partitions[topic.name]:
                offsets = ends[where] - done[where] - (1 if stage.marked else 0)
                key = (stage.name, where)
                if offsets <= 0:
                    self._stretches.pop(key, None)
                    continue
                lag += await self._counted(key, (done[where], ends[where]), offsets)
        return lag

    async def _counted(self, key: tuple[str, TopicPartition], stretch: tuple[int, int], offsets: int) -> int:
        before, looks, count = self._stretches.get(key, (stretch, 0, None))
        looks = looks + 1 if before == stretch else 0
        if before != stretch:
            count = None
        if looks >= _STILL_LOOKS and count is None and offsets <= _COUNTED_OFFSETS_MAX:
            count = await self._count(key[1], *stretch)
        self._stretches[key] = (stretch, looks, count)
        return offsets if count is None else count

    async def _count(self, where: TopicPartition, start: int, end: int) -> int:
        """Records that really lie from ``start`` to before ``end``."""
        consumer = reader(self._kafka)
        await consumer.start()
        try:
            consumer.assign([where])
            consumer.seek(where, start)
            return sum(record.offset < end for record in await _fetched(consumer, {where: end}))
        finally:
            await let_go(consumer.stop)

    async def _committed(self, stage: Stage) -> dict[TopicPartition, int]:
        wanted = [where for topic in stage.inputs for where in self._partitions[topic.name]]
        if stage.name not in self._coordinators:
            self._coordinators[stage.name] = await self._admin.find_coordinator(stage.name)
        found = await self._admin.list_consumer_group_offsets(
            stage.name, group_coordinator_id=self._coordinators[stage.name], partitions=wanted
        )
        return {where: max(0, found[where].offset) if where in found else 0 for where in wanted}

    async def _sample(
        self, partitions: Sequence[TopicPartition], ends: Mapping[TopicPartition, int]
    ) -> list[dict[str, Any]]:
        """The newest decisions since the last look, from every partition the same number at most."""
        each = max(1, SAMPLED_MAX // len(partitions))
        wanted: dict[TopicPartition, int] = {}
        for where in partitions:
            start = max(self._seen.get(where, 0), ends[where] - each)
            if start < ends[where]:
                self._consumer.seek(where, start)
                wanted[where] = ends[where]
            self._seen[where] = ends[where]
        if not wanted:
            return []
        self._consumer.resume(*wanted)
        try:
            records = await _fetched(self._consumer, wanted)
        finally:
            self._consumer.pause(*wanted)
        return [decision for record in records if (decision := self._decoded(record)) is not None]

    def _decoded(self, record: Any) -> dict[str, Any] | None:
        try:
            decision = self._decision.decode(record.value)
        except Poison:
            return None  # anybody can write to a topic; `weir status --verify` counts strangers
        decision["decision_append_time_ms"] = record.timestamp
        return decision


async def _fetched(consumer: Any, ends: Mapping[TopicPartition, int]) -> list[Any]:
    """What lies before ``ends`` from where the consumer stands, as far as a few fetches bring it."""
    records: list[Any] = []
    open_ones = dict(ends)
    for _ in range(_FETCH_TRIES):
        found = await consumer.getmany(*open_ones, timeout_ms=int(2_000 * _FETCH_WAIT_S))
        if not found:
            break
        for where, fetched in found.items():
            records += [record for record in fetched if record.offset < ends[where]]
            if fetched[-1].offset >= ends[where] - 2:  # the last offset is most often a transaction's marker
                open_ones.pop(where, None)
        if not open_ones:
            break
    return records
