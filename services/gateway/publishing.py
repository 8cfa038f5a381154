"""The way into the log: appended when the broker has acknowledged it on all its replicas, and not a moment before.

The producer is idempotent, so its own retries neither repeat nor reorder; it retries for as long as the process lives.
Whoever waits is told after ``ack_wait_s`` that nothing is known. A producer whose delivery has failed for good has a
hole in its sequence and is replaced.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from services.mesh.errors import Fatal, Transient
from services.mesh.partitioner import Partitioner
from services.mesh.ports import Header
from services.mesh.topics import Topic

SENDER: Final = "sender"  # header: the name of the token that posted the record
# A broker that hangs is left for a new connection after this long; what was sent to it is sent again.
REQUEST_TIMEOUT_MS: Final = 5_000
_RETRY_MS: Final = 50
_STOP_S_MAX: Final = 1.0


class NotSent(Transient):
    """The record never left this process."""


class Delivery(NamedTuple):
    """A record on its way, and the producer that answers for it."""

    producer: Any
    future: asyncio.Future[Any]


class Publisher:
    """One producer, and its successors."""

    def __init__(self, kafka: str, partitions: int, ack_wait_s: float) -> None:
        self._kafka, self._ack_wait_s = kafka, ack_wait_s
        self._partitioner = Partitioner(partitions)
        self._producer: Any = None
        self._opening = asyncio.Lock()
        self.is_reachable = False  # the latest word from the broker was an answer
        self.why_away = "not connected yet"

    async def open(self, topics: Sequence[Topic]) -> None:
        """Connect. Raises Transient when the broker does not answer, Fatal when ``topics`` have other partitions."""
        producer = await self._connected()
        for topic in topics:
            found = await producer.partitions_for(topic.name)
            if len(found) != self._partitioner.partitions:
                raise Fatal(
                    f"WEIR_PARTITIONS={self._partitioner.partitions}: {topic.name} has {len(found)}; with another "
                    "count customers would change their partition: tell every service the same"
                )

    async def append(
        self, topic: str, key: bytes, value: bytes, headers: Sequence[Header], wait_s: float | None = None
    ) -> None:
        """Append one record; returns once it is acknowledged. Raises NotSent, or Transient: nobody knows.

        ``wait_s``: less than the usual wait, where the caller has less time.
        """
        limit_s = self._ack_wait_s if wait_s is None else min(wait_s, self._ack_wait_s)
        began_s = time.monotonic()
        delivery = await self._handed_over(topic, key, value, headers, limit_s)
        await self._acknowledged(delivery, limit_s - (time.monotonic() - began_s))

    async def append_all(
        self, topic: str, records: Sequence[tuple[bytes, bytes]], headers: Sequence[Header]
    ) -> list[Transient | None]:
        """Append records (key, value), acknowledged together; for each, None or why nothing is promised."""
        end_s = time.monotonic() + self._ack_wait_s
        handed_over: list[Delivery | Transient] = []
        for key, value in records:
            try:
                left_s = end_s - time.monotonic()
                handed_over.append(await self._handed_over(topic, key, value, headers, left_s))
            except Transient as error:
                handed_over.append(error)
        results: list[Transient | None] = []
        for delivery in handed_over:
            if isinstance(delivery, Transient):
                results.append(delivery)
                continue
            try:
                await self._acknowledged(delivery, end_s - time.monotonic())
                results.append(None)
            except Transient as error:
                results.append(error)
        return results

    async def ask(self) -> None:
        """Find out whether the broker answers."""
        try:
            producer = await self._connected()
            await asyncio.wait_for(producer.client.fetch_all_metadata(), self._ack_wait_s)
            self._answers()
        except (TimeoutError, Transient, KafkaError) as error:
            self._is_away(f"{error!r}")

    async def close(self) -> None:
        """Wait a moment for what is on its way, then leave."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)

    async def _connected(self) -> Any:
        if self._producer is not None:
            return self._producer
        async with self._opening:
            if self._producer is None:
                self._producer = await self._started()
                self._answers()
            return self._producer

    async def _started(self) -> Any:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka,
            client_id="gateway",
            enable_idempotence=True,
            acks="all",
            linger_ms=0,  # while one request is on its way the next batch fills by itself
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=_RETRY_MS,
        )
        try:
            await asyncio.wait_for(producer.start(), self._ack_wait_s)
        except (KafkaError, TimeoutError) as error:
            await _stopped(producer)
            self._is_away(f"{error!r}")
            raise NotSent(f"broker {self._kafka} does not answer: {error!r}") from error
        except asyncio.CancelledError:
            await _stopped(producer)
            raise
        return producer

    async def _handed_over(
        self, topic: str, key: bytes, value: bytes, headers: Sequence[Header], limit_s: float
    ) -> Delivery:
        producer: Any = None

        async def send() -> asyncio.Future[Any]:
            nonlocal producer
            producer = await self._connected()
            partition = self._partitioner.partition_of(key)
            # Waits where the partition's batch is full: a broker that is away, or one that is too slow.
            sent: asyncio.Future[Any] = await producer.send(
                topic, value, key=key, partition=partition, headers=list(headers)
            )
            return sent

        try:
            future = await asyncio.wait_for(send(), max(0.0, limit_s))
            return Delivery(producer, future)
        except (KafkaTimeoutError, TimeoutError) as error:
            self._is_away("takes nothing more")
            raise NotSent(f"broker {self._kafka} takes nothing at the moment") from error
        except KafkaError as error:
            await self._give_up(producer, error)
            raise NotSent(f"broker {self._kafka}: {error!r}") from error

    async def _acknowledged(self, delivery: Delivery, limit_s: float) -> None:
        # Not wait_for: that would cancel the delivery, which goes on whoever has stopped waiting.
        done, _ = await asyncio.wait([delivery.future], timeout=max(0.0, limit_s))
        if not done:
            self._is_away("has not acknowledged in time")
            raise Transient(f"broker {self._kafka} has not acknowledged in time")
        error = delivery.future.exception()
        if error is not None:
            await self._give_up(delivery.producer, error)
            raise Transient(f"broker {self._kafka}: {error!r}") from error
        self._answers()

    async def _give_up(self, producer: Any, error: BaseException) -> None:
        self._is_away(f"{error!r}")
        if producer is not None and producer is self._producer:
            logging.warning("producer given up: %r", error)
            self._producer = None
            await _stopped(producer)

    def _answers(self) -> None:
        self.is_reachable, self.why_away = True, ""

    def _is_away(self, why: str) -> None:
        self.is_reachable, self.why_away = False, why


async def _stopped(producer: Any) -> None:
    with suppress(KafkaError, TimeoutError):
        await asyncio.wait_for(producer.stop(), _STOP_S_MAX)
