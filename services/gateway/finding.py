"""What became of one event: its decision, its refusal, or nothing yet. By offsets, never by a scan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.gateway.recent import Key, Recent, Where
from services.gateway.verdicts import Decided, DecisionReader, Refused, refusal_in
from services.mesh.adapters.aiokafka_closing import let_go
from services.mesh.adapters.aiokafka_reading import groupless_consumer
from services.mesh.adapters.lookup_reader import IndexCorrupt, IndexReader
from services.mesh.errors import Fatal, Transient
from services.mesh.lookup_entries import Place, ids_in
from services.mesh.partitioner import Partitioner
from services.mesh.prefix import ids_of
from services.mesh.topics import DEAD_LETTERS, DECISIONS

_READ_S_MAX: Final = 5.0
_FETCH_BYTES: Final = 65_536  # one decision is 1 to 3 kB; a fetch brings what lies behind it too
_FETCH_WAIT_MS: Final = 50
_OPEN_S_MAX: Final = 5.0

Result = TypeVar("Result")


class Index:
    """The lookup service's file, asked from a thread of its own: SQLite may wait for its writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._reader: IndexReader | None = None

    async def progress(self) -> Mapping[Where, int]:
        """How far it has read; empty where there is no file."""
        try:
            return await self._asked(lambda reader: reader.progress())
        except Transient:
            return {}

    async def find(self, event_id: str, customer_id: str) -> tuple[list[Place], Mapping[Where, int]]:
        """Places of records that may be about it, and how far the index had read. Raises Transient without a file."""
        return await self._asked(lambda reader: (reader.find(event_id, customer_id), reader.progress()))

    def close(self) -> None:
        """Close the file."""
        self._thread.submit(self._closed).result()
        self._thread.shutdown()

    async def _asked(self, question: Callable[[IndexReader], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, question)

    def _ask(self, question: Callable[[IndexReader], Result]) -> Result:
        try:
            if self._reader is None:
                self._reader = IndexReader(self._path)
            return question(self._reader)
        except (Fatal, IndexCorrupt) as error:
            # Not there yet, or put aside by its writer, who builds it anew.
            self._closed()
            raise Transient(str(error)) from error

    def _closed(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class OneByOne:
    """Reads single records by their place; one connection, one at a time."""

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._consumer: Any = None
        self._turn = asyncio.Lock()

    async def read(self, place: Place) -> Any | None:
        """The record there; None when the log no longer keeps it. Raises Transient when the broker does not answer."""
        async with self._turn:
            try:
                return await asyncio.wait_for(self._read(place), _READ_S_MAX)
            except (TimeoutError, KafkaError) as error:
                await self._closed()
                raise Transient(f"reading {place.topic}[{place.partition}]@{place.offset}: {error!r}") from error

    async def close(self) -> None:
        """Disconnect."""
        async with self._turn:
            await self._closed()

    async def _read(self, place: Place) -> Any | None:
        consumer = await self._connected()
        where = TopicPartition(place.topic, place.partition)
        consumer.assign([where])
        consumer.seek(where, place.offset)
        found = await consumer.getmany(where, timeout_ms=round(_READ_S_MAX * 1_000), max_records=1)
        consumer.pause(where)  # it would fetch what lies behind
        record = next(iter(found.get(where, ())), None)
        return record if record is not None and record.offset == place.offset else None

    async def _connected(self) -> Any:
        if self._consumer is None:
            consumer = groupless_consumer(
                self._kafka, "gateway", fetch_max_wait_ms=_FETCH_WAIT_MS, max_partition_fetch_bytes=_FETCH_BYTES
            )
            try:
                await asyncio.wait_for(consumer.start(), _OPEN_S_MAX)
            except BaseException:
                await let_go(consumer.stop)
                raise
            self._consumer = consumer
        return self._consumer

    async def _closed(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await let_go(consumer.stop)


class Finder:
    """Looks an event up in what was followed lately, and in the index."""

    def __init__(self, index: Index, records: OneByOne, recent: Recent, partitions: int) -> None:
        self._index, self._records, self._recent = index, records, recent
        self._partitioner = Partitioner(partitions)
        self._decisions = DecisionReader()

    async def find(self, event_id: str, customer_id: str) -> Decided | Refused | None:
        """What became of it; None: nothing is known to have become of it, up to now.

        Raises Transient when that cannot be told: index or broker do not answer, or the index is far behind.
        """
        key = (event_id.encode(), customer_id.encode())
        # Notes before index: what is dropped from the notes meanwhile is then in the index.
        latest, refused = (self._recent.place(topic.name, key) for topic in (DECISIONS, DEAD_LETTERS))
        if latest is not None and (found := await self._read(latest, key)) is not None:
            return found
        indexed, progress = await self._index.find(event_id, customer_id)
        for topic in (DECISIONS, DEAD_LETTERS):  # a decision outweighs refusals of other bodies
            places = {place for place in (*indexed, refused) if place is not None and place.topic == topic.name}
            for place in sorted(places, key=lambda each: each.offset, reverse=True):
                found = await self._read(place, key)
                if found is not None:
                    return found
        self._check_no_gap(key[1], progress)
        return None

    async def _read(self, place: Place, key: Key) -> Decided | Refused | None:
        record = await self._records.read(place)
        if record is None:
            return None
        if place.topic == DECISIONS.name:
            return self._decisions.read(record.value) if ids_of(record.value) == key else None
        ids = ids_in(place.topic, record.value, record.headers)
        refused = refusal_in(record.value, record.headers)
        return refused if ids == key and refused.is_of_an_event else None

    def _check_no_gap(self, customer_id: bytes, progress: Mapping[Where, int]) -> None:
        partition = self._partitioner.partition_of(customer_id)
        for topic in (DECISIONS, DEAD_LETTERS):
            where = (topic.name, partition)
            if not self._recent.covers(where, progress.get(where, 0)):
                raise Transient(
                    f"{topic.name}[{partition}] is indexed to {progress.get(where, 0)}, and what lies behind is no "
                    "longer remembered"
                )
