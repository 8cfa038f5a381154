"""Sending records on behalf of a person, for asyncio: what ``kafka_records.py`` is for everybody else."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.mesh.adapters.kafka_records import TRANSACTION_TIMEOUT_MS
from services.mesh.errors import Transient
from services.mesh.ports import OutRecord

_WAIT_S = 15.0


class AsyncRecordSender:
    """One connection for one event loop; calls wait for each other."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self._bootstrap = bootstrap
        self._name = name
        self._producer: AIOKafkaProducer | None = None
        self._turn = asyncio.Lock()

    async def send(self, records: Sequence[OutRecord]) -> None:
        """Produce ``records`` in one transaction. Raises Transient: all or none of them are in the log, repeat it."""
        if not records:
            return
        async with self._turn:
            try:
                await asyncio.wait_for(self._send(records), _WAIT_S)
            except (KafkaError, TimeoutError) as error:
                await self._close()
                topics = ", ".join(dict.fromkeys(record.topic for record in records))
                raise Transient(f"sending to {topics}: {error!r}; repeat it, a repeat is harmless") from error

    async def close(self) -> None:
        """Let go."""
        async with self._turn:
            await self._close()

    async def _send(self, records: Sequence[OutRecord]) -> None:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                client_id=self._name,
                transactional_id=f"{self._name}.{uuid.uuid4().hex}",
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            )
            await producer.start()
            self._producer = producer
        async with self._producer.transaction():
            sent = [
                await self._producer.send(topic, value, key, partition, headers=headers)
                for topic, key, value, partition, headers in records
            ]
            await asyncio.gather(*sent)

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(producer.stop(), _WAIT_S)
