"""The Faust application: one agent, raw bytes in batches, one worker that owns everything or checks nothing.

Drift compares everybody with a reference, so it needs every partition. When a second worker takes some of them, both
stand by until one has them all again, and that one rebuilds its state from the log. An offset is committed after what
its record led to was published.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import faust
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted

from services.drift.intake import READ, Intake, Record
from services.drift.monitor import Monitor
from services.drift.rebuild import Past, rebuild
from services.drift.report import write_report
from services.drift.settings import DriftSettings
from services.mesh.adapters.faust_worker import unread
from services.mesh.codec import Codec
from services.mesh.errors import Transient
from services.mesh.records import DriftAlert
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DRIFT_ALERTS

_BATCH_RECORDS_MAX = 500
_BATCH_WAIT_S = 0.25
_TURN_S = 0.25
_RETRY_S = 1.0
_REPORT_EVERY_S = 5.0
# A replay of months is never read to its end before it is over: it is checked now and then all the same.
_CHECK_EVERY_S = 5.0
# Longer than a rebalance and a fetch; shorter than anybody would wait for.
_STALLED_S = 120.0
EXIT_BUG = 70
Result = TypeVar("Result")


class Worker:
    """What the agent and the timer share. ``past_of`` reads a topic's past, ``ends`` where it ends now."""

    def __init__(
        self,
        app: faust.App,
        settings: DriftSettings,
        telemetry: StageTelemetry,
        *,
        past_of: Callable[[str], Past],
        published: Callable[[], list[DriftAlert]],
        ends: Callable[[], dict[tuple[str, int], int]],
    ) -> None:
        self._app, self._settings, self._telemetry = app, settings, telemetry
        self._past_of, self._published, self._ends = past_of, published, ends
        self._alerts = app.topic(
            DRIFT_ALERTS.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        self._codec = Codec(DRIFT_ALERTS.schemas[0])
        self._lock = asyncio.Lock()
        self._intake: Intake | None = None  # None: state has to be rebuilt
        self._moves = 0  # how often partitions have moved
        self._known: set[tuple[str, str]] = set()  # (alert_id, status) that were published
        self._pending: list[tuple[Any, Callable[[Any], Awaitable[bool]]]] = []  # taken, not acknowledged
        self._checked_s = 0.0
        self._heard_ms, self._heard_s = 0, 0.0
        self._reported: tuple[int, int, int] | None = None
        self._reported_s = 0.0
        self._moved_records, self._moved_s = -1, 0.0

    def forget(self) -> None:
        """Partitions have moved: what is in memory may lack what another worker took."""
        self._intake = None
        self._pending = []
        self._moves += 1
        self._telemetry.ready(False)

    async def take(self, events: Sequence[Any], acknowledge: Callable[[Any], Awaitable[bool]]) -> None:
        """One batch. It waits while another worker has a part of the partitions.

        Nothing is checked yet: labels of a day may be among what is still to be read.
        """
        generation = self._app.consumer_generation_id
        # What was fetched before a rebalance is fetched again after it, together with what came before it.
        events = [event for event in events if event.message.generation_id == generation]
        while self._app.consumer_generation_id == generation:
            async with self._lock:
                intake = await self._state_at_last()
                if intake is not None:
                    for event in events:
                        message = event.message
                        intake.take(Record(message.topic, message.partition, message.offset, event.value))
                    self._pending += [(event, acknowledge) for event in events]
                    return
            await asyncio.sleep(_TURN_S)

    async def turn(self) -> None:
        """Between batches: state after a rebalance, health, report."""
        async with self._lock:
            try:
                intake = await self._state()
            except Transient as transient:
                intake = None
                logging.warning("no state yet: %s", transient)
            self._telemetry.alive()
            if intake is None:
                self._telemetry.health.idle = False
                return
            now_s = asyncio.get_running_loop().time()
            is_read = await self._is_read(intake)
            if is_read or now_s - self._checked_s >= _CHECK_EVERY_S:
                self._checked_s = now_s
                await self._publish(intake.monitor.due())
                await self._publish(intake.monitor.silence(self._quiet_minutes(intake, now_s)))
                await self._acknowledge()
            self._telemetry.health.idle = is_read
            self._tell(intake)
            self._end_if_stalled(now_s)
            self._report(intake, now_s)

    async def _is_read(self, intake: Intake) -> bool | None:
        """Whether nothing is left to read; None: nobody knows, while the broker is away or partitions move."""
        try:
            ends = await asyncio.get_running_loop().run_in_executor(None, self._ends)
            return not await unread(self._app, intake.taken, ends)
        except (KafkaError, Transient) as error:
            logging.warning("ends of topics: %r", error)
            return None

    def _quiet_minutes(self, intake: Intake, now_s: float) -> float:
        """Wall time since event time moved last."""
        if intake.monitor.clock_ms != self._heard_ms:
            self._heard_ms, self._heard_s = intake.monitor.clock_ms, now_s
        return (now_s - self._heard_s) / 60

    async def _acknowledge(self) -> None:
        """What has led to all that it leads to."""
        pending, self._pending = self._pending, []
        for event, acknowledge in pending:
            await acknowledge(event)

    def _report(self, intake: Intake, now_s: float) -> None:
        known = len(intake.monitor.checks), len(intake.monitor.ledger.history), self._telemetry.health.records
        every_s = _TURN_S if self._telemetry.health.idle else _REPORT_EVERY_S
        if known != self._reported and now_s - self._reported_s >= every_s:
            self._reported, self._reported_s = known, now_s
            write_report(intake.monitor, self._settings.directory)

    def _end_if_stalled(self, now_s: float) -> None:
        """Faust consumers were seen to die without a word (faust-streaming/faust#175): records wait and none comes."""
        health = self._telemetry.health
        if health.idle is not False or health.records != self._moved_records:
            self._moved_records, self._moved_s = health.records, now_s
        elif now_s - self._moved_s > _STALLED_S:
            logging.critical("fatal: records wait and none has come for %.0f s", now_s - self._moved_s)
            logging.shutdown()
            os._exit(EXIT_BUG)

    async def _state_at_last(self) -> Intake | None:
        """As ``_state``, however long the broker is away: a batch at hand can wait."""
        while True:
            try:
                return await self._state()
            except Transient as transient:
                logging.warning("no state yet, again in %.0f s: %s", _RETRY_S, transient)
                self._telemetry.alive()
                await asyncio.sleep(_RETRY_S)

    async def _state(self) -> Intake | None:
        """State that is good for what comes next; None while another worker has a part of the partitions."""
        if self._intake is not None:
            return self._intake
        try:
            owned = {(tp.topic, tp.partition) for tp in self._app.consumer.assignment()}
        except ConsumerNotStarted:
            return None
        loop, moves = asyncio.get_running_loop(), self._moves
        ends = await loop.run_in_executor(None, self._ends)
        if owned != ends.keys():
            self._telemetry.health.last_error = (
                f"owns {len(owned)} of {len(ends)} partitions: drift runs as one worker; stop the other"
            )
            return None
        intake = Intake(Monitor(self._settings), self._telemetry)
        published = await loop.run_in_executor(None, self._published)
        count, fresh = await loop.run_in_executor(
            None, rebuild, intake, self._past_of, ends, published, self._telemetry.alive
        )
        if self._moves != moves:
            return None
        self._known = {(alert["alert_id"], alert["status"]) for alert in published}
        logging.info("drift: state from %d records, %d alerts hold", count, len(intake.monitor.ledger.open))
        await self._publish(fresh)
        self._intake = intake
        self._telemetry.owns(sorted({partition for _, partition in owned}))
        self._telemetry.ready(True)
        self._telemetry.health.last_error = ""
        return intake

    async def _publish(self, alerts: Sequence[DriftAlert]) -> None:
        for alert in alerts:
            if (alert["alert_id"], alert["status"]) in self._known:
                continue
            logging.info("drift alert %s: %s", alert["status"], alert["text"])
            while True:
                try:
                    sent = await self._alerts.send(key=alert["subject"].encode(), value=self._codec.encode(alert))
                    await sent
                    break
                except KafkaError as error:  # the broker is away: nothing is committed meanwhile
                    logging.warning("alert %s again in %.0f s: %r", alert["alert_id"], _RETRY_S, error)
                    self._telemetry.alive()
                    await asyncio.sleep(_RETRY_S)
            self._known.add((alert["alert_id"], alert["status"]))
            self._telemetry.metrics.add("weir_drift_alerts", 1, alert["kind"])

    def _tell(self, intake: Intake) -> None:
        monitor, health = intake.monitor, self._telemetry.health
        health.event_time_ms = monitor.clock_ms
        health.versions["model"] = monitor.models.champion
        self._telemetry.metrics.set("weir_drift_alerts_open", len(monitor.ledger.open))
        for stage, coverage in monitor.days.coverage.items():
            self._telemetry.metrics.set("weir_profile_uncounted", coverage.missing, stage)


def follow(app: faust.App, worker: Worker) -> None:
    """Attach the agent, the timer and the rebalance listener to ``app``."""
    names = [topic.name for topic in READ]
    topic = app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(topic, concurrency=1, name="drift")
    async def take(stream: Any) -> None:
        async for events in stream.noack_take(_BATCH_RECORDS_MAX, within=_BATCH_WAIT_S):
            await _or_end(worker.take(events, stream.ack))

    async def turns(_: faust.App) -> None:
        while not app.should_stop:
            await _or_end(worker.turn())
            await app.sleep(_TURN_S)

    app.task(turns)

    @app.on_partitions_revoked.connect(weak=False)
    async def revoked(*_: Any, **__: Any) -> None:
        worker.forget()

    @app.on_partitions_assigned.connect(weak=False)
    async def assigned(*_: Any, **__: Any) -> None:
        worker.forget()


async def _or_end(step: Awaitable[Result]) -> Result:
    """An exception that left an agent would be acknowledged with its batch and lost, so it ends the process instead.

    Offsets stay where they were and the supervisor starts the process anew.
    """
    try:
        return await step
    except asyncio.CancelledError:
        raise
    except BaseException:
        logging.critical("fatal: drift cannot go on", exc_info=True)
        logging.shutdown()
        os._exit(EXIT_BUG)
        raise
