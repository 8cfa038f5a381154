"""Follows the control topics from their start, whatever happens to the broker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.console.look import administrator, partitions_of, reader
from services.mesh.adapters.aiokafka_closing import let_go
from services.mesh.codec import Codec
from services.mesh.errors import Poison
from services.mesh.topics import Topic

AGAIN_S: Final = 2.0
_POLL_MS: Final = 1_000

Take = Callable[[dict[str, Any], int], None]
"""Is given each decoded record and when it was appended, in the order of its partition."""


class Follower:
    """One topic; a connection that broke is opened anew where it was."""

    def __init__(self, kafka: str, topic: Topic, take: Take) -> None:
        self._kafka, self._topic, self._take = kafka, topic, take
        self._codec = Codec(topic.schemas[0])
        self._next: dict[TopicPartition, int] = {}
        self.caught_up = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError, TimeoutError, AssertionError, ValueError) as error:
                logging.warning("following %s: %s; again in %.0f s", self._topic.name, error, AGAIN_S)
            await asyncio.sleep(AGAIN_S)

    async def _follow(self) -> None:
        consumer = reader(self._kafka)
        await consumer.start()
        try:
            await asyncio.sleep(0)
            partitions = await self._partitions()
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            for where in partitions:
                if where in self._next:
                    consumer.seek(where, self._next[where])
                else:
                    await consumer.seek_to_beginning(where)
            while True:
                found = await consumer.getmany(timeout_ms=_POLL_MS)
                for where, records in found.items():
                    for record in records:
                        self._note(where, record)
                    await asyncio.sleep(0)  # a long journal must not keep the page waiting
                if not found or all(self._next.get(where, 0) >= end - 1 for where, end in ends.items()):
                    self.caught_up = True
        finally:
            await let_go(consumer.stop)

    async def _partitions(self) -> list[TopicPartition]:
        admin = administrator(self._kafka)
        await admin.start()
        try:
            return (await partitions_of(admin, [self._topic.name]))[self._topic.name]
        finally:
            await admin.close()

    def _note(self, where: TopicPartition, record: Any) -> None:
        self._next[where] = record.offset + 1
        try:
            self._take(self._codec.decode(record.value), record.timestamp)
        except Poison as poison:
            logging.warning("%s[%d]@%d: %s", where.topic, where.partition, record.offset, poison)
