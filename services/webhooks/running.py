"""One subscription's life: reads decisions, sends them, writes down what is settled; begins anew when that fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from random import Random
from ssl import SSLContext
from typing import Final

from aiokafka.errors import KafkaError, ProducerFenced

from services.mesh.codec import Codec, schema
from services.mesh.errors import Poison
from services.mesh.excerpt import Excerpt
from services.mesh.ports import InRecord
from services.mesh.topics import DECISIONS
from services.webhooks.circuit import Circuit
from services.webhooks.desk import Desk
from services.webhooks.lanes import Delivery
from services.webhooks.message import body_of, message_id_of
from services.webhooks.posting import Poster
from services.webhooks.settings import WebhookSettings
from services.webhooks.subscription import Subscription
from services.webhooks.subscription_log import SubscriptionLog
from services.webhooks.telling import Teller
from services.webhooks.verdict import Answer

SETTLE_S: Final = 0.5  # what was taken since then is sent again after a crash
# Its parent allows the process 3 s: for requests on their way, then for writing down what they led to, and at last for
# a connection that cannot be closed.
STOP_S_MAX: Final = 1.0
LEAVE_S_MAX: Final = 1.5
_READ_MS: Final = 250
_ROOM_S: Final = 0.05  # every partition is full: until one has room
_AGAIN_S: Final = 1.0
_FENCED_S: Final = 30.0  # whoever fenced us is at work; two must not take turns
_SCHEMA: Final = DECISIONS.schemas[0]


class Runner:
    """Runs until told to stop, whatever happens to the broker or the receiver."""

    def __init__(
        self, subscription: Subscription, kafka: str, settings: WebhookSettings, teller: Teller, tls: SSLContext
    ) -> None:
        self.subscription = subscription
        self.is_open = False  # it reads and writes the log
        self._kafka, self._teller, self._schedule = kafka, teller, settings.schedule
        self._poster = Poster(subscription, settings.timeout_s, settings.at_once, tls)
        # It outlives a connection to the log: a receiver is down whatever happens to the broker.
        self._circuit = Circuit(settings.probes, settings.at_once)
        self._gone: Answer | None = None
        self._chance = Random(time.time_ns())
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Send nothing more; ``run`` returns when what is on its way is settled, or soon."""
        self._stop.set()

    async def run(self) -> None:
        """Until stopped."""
        name = self.subscription.name
        try:
            while not self._stop.is_set():
                wait_s, error = _AGAIN_S, await self._served()
                self.is_open = False
                match error:
                    case None:
                        pass
                    case ProducerFenced():
                        wait_s = _FENCED_S
                        logging.error("webhook=%s another process serves it; again in %.0f s", name, wait_s)
                    case KafkaError() | OSError():
                        logging.warning("webhook=%s again in %.0f s: %r", name, wait_s, error)
                        self._teller.reopened(error)
                    case _:
                        raise error
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), wait_s)
        finally:
            self._teller.ended()
            await self._poster.close()

    async def _served(self) -> BaseException | None:
        """How one connection to the log has ended; soon when told to stop, whatever it waits for."""
        serving, stopped = asyncio.create_task(self._serve()), asyncio.create_task(self._stop.wait())
        await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((serving,), timeout=LEAVE_S_MAX)
        for task in (serving, stopped):
            task.cancel()
        await asyncio.wait((serving, stopped), timeout=LEAVE_S_MAX)
        return None if serving.cancelled() or not serving.done() else serving.exception()

    async def _serve(self) -> None:
        """One connection to the log, until stopped. Raises KafkaError, OSError."""
        log = SubscriptionLog(self.subscription, self._kafka)
        try:
            desk = Desk(self.subscription.name, await log.open(), self._schedule, self._circuit, self._gone)
            self.is_open = True
            session = _Session(log, desk, self.subscription, self._poster, self._teller, self._chance, self._stop)
            try:
                await session.run()
            finally:
                self._gone = desk.gone
        finally:
            await log.close()


class _Session:
    """What happens between two openings of the log: three loops around one desk."""

    def __init__(
        self, log: SubscriptionLog, desk: Desk, subscription: Subscription, poster: Poster, teller: Teller,
        chance: Random, stop: asyncio.Event,
    ) -> None:  # fmt: skip
        self._log, self._desk, self._subscription = log, desk, subscription
        self._poster, self._teller, self._chance, self._stop = poster, teller, chance, stop
        self._backlog: dict[int, deque[InRecord]] = {partition: deque() for partition in desk.positions()}
        self._requests: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()  # something was read, or an answer has come
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # by a bug, in a request
        self._writing: asyncio.Task[None] | None = None
        self._action = Excerpt(schema(_SCHEMA), ("action",))
        self._codec = Codec(_SCHEMA)

    async def run(self) -> None:
        """Until stopped, and then until what is on its way is settled. Raises KafkaError, OSError."""
        loops = [asyncio.create_task(loop) for loop in (self._read(), self._send(), self._settle())]
        stopped = asyncio.create_task(self._stopped())
        try:
            await asyncio.wait((*loops, stopped, self._broken), return_when=asyncio.FIRST_COMPLETED)
            for ended in (*loops, self._broken):
                if ended.done():
                    ended.result()
            await _cancelled(loops)
            if self._requests:
                await asyncio.wait(self._requests, timeout=STOP_S_MAX)
            await self._write()
        finally:
            await _cancelled([*loops, stopped, *self._requests, *([self._writing] if self._writing else [])])

    async def _stopped(self) -> None:
        await self._stop.wait()

    async def _read(self) -> None:
        while True:
            now_s = time.monotonic()
            for partition, records in self._backlog.items():
                while records and self._desk.room(partition):
                    self._take(records.popleft(), now_s)
            self._moved.set()
            open_ones = [partition for partition, records in self._backlog.items() if not records]
            if not open_ones:
                await asyncio.sleep(_ROOM_S)
                continue
            found = await self._log.read(open_ones, _READ_MS)
            for partition, read in found.items():
                self._backlog[partition].extend(read)
            self._teller.read(sum(map(len, found.values())))

    def _take(self, record: InRecord, now_s: float) -> None:
        try:
            (action,) = self._action.of(record.value)
            wanted = action in self._subscription.actions
        except Poison:
            wanted = True  # it becomes a dead letter where it would have been sent
        self._desk.read(record, wanted=wanted, now_s=now_s)

    async def _send(self) -> None:
        while True:
            self._moved.clear()
            while (delivery := self._desk.next(time.monotonic())) is not None:
                request = asyncio.create_task(self._post(delivery))
                self._requests.add(request)
                request.add_done_callback(self._ended)
            next_s = self._desk.next_s()
            wait_s = None if next_s is None else max(0.0, next_s - time.monotonic())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), wait_s)

    def _ended(self, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        self._moved.set()
        if not request.cancelled() and (error := request.exception()) is not None and not self._broken.done():
            self._broken.set_exception(error)

    async def _post(self, delivery: Delivery) -> None:
        value = delivery.record.value
        try:
            body = body_of(delivery.record, self._codec)
        except Poison as poison:
            self._desk.given_up(delivery, poison, time.monotonic())
            return
        answer = await self._poster.post(message_id_of(self._subscription.name, value or b""), body)
        was_open = self._desk.circuit.is_open
        self._desk.answered(delivery, answer, time.monotonic(), self._chance.random())
        self._teller.answered(answer, self._desk, was_open=was_open)

    async def _settle(self) -> None:
        while True:
            await asyncio.sleep(SETTLE_S)
            for partition, records in self._backlog.items():
                position = await self._log.position(partition)
                if not records:  # all of what was handed out is taken in
                    self._desk.passed(partition, position)
            await self._write()

    async def _write(self) -> None:
        """A write is never given up half way: the next one builds on it."""
        if self._writing is not None:
            await self._writing  # begun by a loop that was told to end
        settlement = self._desk.settlement()
        if settlement is not None:
            self._writing = asyncio.create_task(self._log.write(settlement))
            await asyncio.shield(self._writing)
            self._writing = None
            self._teller.settled(settlement)
        self._teller.stands(self._desk, {partition: self._log.end(partition) for partition in self._backlog})


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    """Wait until none of them runs; what they raise has been said or no longer matters."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
