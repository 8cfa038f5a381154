"""Follows decisions and dead letters as they become visible, but only while somebody asks.

Read committed, outside any group. It begins where the index ends, so that index and notes together leave no gap, and
falls asleep when nobody has asked for ``ASLEEP_AFTER_S``: a mesh that nobody asks over HTTP pays nothing for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.gateway.recent import Recent, Where
from services.gateway.verdicts import DecisionReader, refusal_in
from services.gateway.waiting import Waiters
from services.mesh.adapters.aiokafka_closing import let_go
from services.mesh.adapters.aiokafka_reading import groupless_consumer
from services.mesh.errors import Poison, Transient
from services.mesh.lookup_entries import ids_in
from services.mesh.prefix import ids_of
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DEAD_LETTERS, DECISIONS

ASLEEP_AFTER_S: Final = 60.0
FORGET_EVERY_S: Final = 1.0
# At most so far before the end: 2 s of a fast mesh. Beyond, the index is asked again later.
BACK_MAX: Final = 20_000
_TURN_MS: Final = 500
_CATCHING_UP_MS: Final = 50
_RETRY_S: Final = 0.5
_OPEN_S_MAX: Final = 10.0

Progress = Callable[[], Awaitable[Mapping[Where, int]]]
"""How far the index has read, asked again each time; empty where there is none."""


class Follower:
    """Notes where records lie in ``recent``, and tells ``waiters`` what they wait for."""

    def __init__(
        self, kafka: str, partitions: int, progress: Progress, recent: Recent, waiters: Waiters, tell: StageTelemetry
    ) -> None:
        self._kafka, self._partitions, self._progress = kafka, partitions, progress
        self._recent, self._waiters, self._telemetry = recent, waiters, tell
        self._decisions = DecisionReader()
        self._awake = asyncio.Event()  # follows, and misses nothing from now on
        self._wanted = asyncio.Event()
        self._asked_s = float("-inf")
        self._next: dict[Where, int] = {}

    @property
    def is_awake(self) -> bool:
        """Whether it follows."""
        return self._awake.is_set()

    async def wake(self, limit_s: float) -> None:
        """Return once it misses nothing. Raises Transient when that takes longer than ``limit_s``."""
        self._asked_s = time.monotonic()
        self._wanted.set()
        if not self._awake.is_set():
            try:
                await asyncio.wait_for(self._awake.wait(), limit_s)
            except TimeoutError:
                raise Transient(f"decisions cannot be followed yet, after {limit_s:g} s") from None

    async def run(self) -> None:
        """Until cancelled, whatever happens to the broker."""
        while True:
            await self._wanted.wait()
            try:
                await self._follow()
            except (KafkaError, OSError) as error:
                self._telemetry.reopened(repr(error))
                logging.warning("following again in %.1f s: %r", _RETRY_S, error)
                await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        consumer = groupless_consumer(self._kafka, "gateway", fetch_max_wait_ms=_TURN_MS)
        try:
            await asyncio.wait_for(consumer.start(), _OPEN_S_MAX)
            ends = await self._place(consumer)
            await self._read(consumer, ends)
        except TimeoutError as error:
            raise OSError(f"broker {self._kafka} does not answer") from error
        finally:
            self._awake.clear()
            await let_go(consumer.stop)

    async def _place(self, consumer: Any) -> dict[TopicPartition, int]:
        """Where the last connection was, or else where the index ends; returns where the partitions end now."""
        wheres = [
            TopicPartition(t.name, number) for t in (DECISIONS, DEAD_LETTERS) for number in range(self._partitions)
        ]
        consumer.assign(wheres)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(wheres)
        if not self._next:
            indexed = await self._progress()
            for where in wheres:
                place, end = (where.topic, where.partition), ends[where]
                self._next[place] = max(min(indexed.get(place, end), end), end - BACK_MAX, 0)
            self._recent.begin(self._next)
        for where in wheres:
            consumer.seek(where, self._next[where.topic, where.partition])
        return ends

    async def _read(self, consumer: Any, ends: Mapping[TopicPartition, int]) -> None:
        forget_s = time.monotonic() + FORGET_EVERY_S
        while True:
            # Whoever wakes us may be asking for what lies before those ends.
            if not self.is_awake and all([await consumer.position(where) >= end for where, end in ends.items()]):
                self._awake.set()
            fetched = await consumer.getmany(timeout_ms=_TURN_MS if self.is_awake else _CATCHING_UP_MS)
            for where, records in fetched.items():
                self._take(where.topic, where.partition, records)
            now_s = time.monotonic()
            if now_s >= forget_s:
                forget_s = now_s + FORGET_EVERY_S
                self._recent.drop_before(await self._progress())
            if now_s - self._asked_s > ASLEEP_AFTER_S and not len(self._waiters):
                self._wanted.clear()
                self._next.clear()
                self._recent.begin({})
                return

    def _take(self, topic: str, partition: int, records: list[Any]) -> None:
        where = (topic, partition)
        if topic == DECISIONS.name:
            self._take_decisions(where, records)
        else:
            self._take_refusals(where, records)
        self._next[where] = records[-1].offset + 1
        metrics, health = self._telemetry.metrics, self._telemetry.health
        metrics.add("weir_records", len(records))
        metrics.set("weir_input_age_seconds", max(0.0, time.time() - records[-1].timestamp / 1_000))
        health.records += len(records)

    def _take_decisions(self, where: Where, records: list[Any]) -> None:
        for record in records:
            try:
                key = ids_of(record.value or b"")
                self._recent.note(where, record.offset, key)
                if self._waiters.wants(key):
                    self._waiters.tell(key, self._decisions.read(record.value))
            except (ValueError, Poison) as error:  # anybody can write to a topic; the scan counts it
                logging.warning("%s[%d]@%d is no decision: %s", *where, record.offset, error)

    def _take_refusals(self, where: Where, records: list[Any]) -> None:
        for record in records:
            key = ids_in(where[0], record.value, record.headers)
            if key is None or key.customer_id is None:
                continue
            refused = refusal_in(record.value, record.headers)
            if refused.is_of_an_event:
                self._recent.note(where, record.offset, (key.event_id, key.customer_id))
                self._waiters.tell((key.event_id, key.customer_id), refused)
