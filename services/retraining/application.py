"""The Faust application around the pure controller: reads labels and alerts, asks it what to do, does it.

No truth is here. What was decided is in ``models.v1``; what is known of labels is worked out from ``labels.v1``, read
whole at the start and then as it comes; a record that comes again is dropped by event and label version.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faust

from services.mesh.adapters.faust_worker import start_at, unread
from services.mesh.adapters.kafka_append import append
from services.mesh.adapters.kafka_ends import CommittedEnds
from services.mesh.adapters.kafka_follower import TopicFollower
from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.codec import Codec
from services.mesh.errors import Poison, Transient
from services.mesh.feature_set import FeatureSetPin
from services.mesh.model_registry import Registry, bundle_of
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DRIFT_ALERTS, LABELS, MODELS
from services.mesh.topology import RETRAINING
from services.retraining import records
from services.retraining.controller import step
from services.retraining.events import Action, Event, Move, State, Tick, Train
from services.retraining.evidence import Evidence
from services.retraining.handover import RELEASE
from services.retraining.judge import BundleJudge
from services.retraining.known import Known
from services.retraining.labels import LabelReader
from services.retraining.outcome import outcome_of
from services.retraining.settings import RetrainingSettings

EXIT_BUG, EXIT_LATER = 70, 75
_BATCH_RECORDS_MAX = 2_000
_BATCH_WAIT_S = 0.25
_TURN_S = 0.25
_RETRY_S = 1.0
_RESTORED_RECORDS = 20_000


class Loop:
    """State, and everything that touches the world. One asyncio loop, so nothing here needs a lock."""

    def __init__(
        self, kafka: str, settings: RetrainingSettings, features: FeatureSetPin, telemetry: StageTelemetry
    ) -> None:
        self._kafka, self._settings, self._features, self.telemetry = kafka, settings, features, telemetry
        self._reader = LabelReader(features, with_vectors=True)
        self._releases, self._alerts = Codec(MODELS.schemas[0]), Codec(DRIFT_ALERTS.schemas[0])
        self._journal = KafkaJournal(kafka, MODELS.name, "retraining.models")
        self.ends = CommittedEnds(kafka, (LABELS.name, DRIFT_ALERTS.name))
        self._journal_end = -1
        self._registry = Registry()
        self._known = Known(settings.rules.label_delay_ms)
        self._evidence = Evidence(settings.rules.label_delay_ms)
        self._judges: dict[str, BundleJudge] = {}
        self._trainer: asyncio.Task[None] | None = None
        self._ended: list[Event] = []  # trainings that have ended and wait for their turn
        self.was_robbed = False  # another worker owns partitions that were ours
        self.state = State()
        self.taken: dict[tuple[str, int], int] = {}  # (topic, partition) -> last offset

    def restore(self) -> None:
        """Journal, labels and alerts from their start to their end, without acting. Raises Transient."""
        self._take_releases(self._journal.read_to_end())
        for topic in (LABELS, DRIFT_ALERTS):
            follower = TopicFollower(self._kafka, topic.name, f"retraining.{topic.name}")
            chunk: list[bytes] = []
            try:
                for value in follower.to_end():
                    chunk.append(value)
                    if len(chunk) == _RESTORED_RECORDS:
                        self._restored(topic.name, chunk)
                        chunk = []
                        self.telemetry.alive()
                self._restored(topic.name, chunk)
                for partition in follower.partitions:
                    self.taken[(topic.name, partition)] = follower.offsets.get(partition, (0, 0))[1] - 1
            finally:
                follower.close()
        try:
            start_at(self._kafka, RETRAINING.name, {place: offset + 1 for place, offset in self.taken.items()})
        except Transient as transient:
            # A member that was killed counts until its session ends. Then some records come again, and are dropped.
            logging.info("%s: goes on where it was", transient)
        for left in self._settings.directory.glob(".*"):
            shutil.rmtree(left)  # of a trainer that was killed

    def take_labels(self, values: Sequence[bytes]) -> None:
        """A batch of labels.v1."""
        labels = self._reader.read(values)
        if labels.damaged:
            logging.error("%d records of %s do not decode: skipped", labels.damaged, LABELS.name)
            self.telemetry.metrics.add("weir_rejects", labels.damaged, "undecodable")
        if labels.foreign:
            logging.warning("%d labels are of another feature set: skipped", labels.foreign)
        fresh = self._known.take(labels)
        self._evidence.take(labels if fresh.all() else labels.only(fresh))
        health = self.telemetry.health
        health.records += len(values)
        health.event_time_ms = self._known.clock_ms
        self.telemetry.metrics.add("weir_records", len(values))
        self.telemetry.metrics.add("weir_repeats", len(labels) - int(fresh.sum()))

    def take_alerts(self, values: Sequence[bytes]) -> None:
        """Records of drift-alerts.v1."""
        for value in values:
            try:
                alert = self._alerts.decode(value)
            except Poison as poison:
                logging.error("%s: skipped: %s", DRIFT_ALERTS.name, poison)
                self.telemetry.metrics.add("weir_rejects", 1, "undecodable")
                continue
            self._step(records.alerted(alert))  # type: ignore[arg-type]

    async def turn(self) -> None:
        """Let the controller act on what has come; ends when it has nothing more to do now."""
        self.telemetry.alive()
        self._take_releases(self._journal.poll())
        self._evidence.close(self._known.clock_ms, self._in_play())
        while self._ended:
            await self._perform(self._step(self._ended.pop(0)))
        if self._known.clock_ms == 0:
            return  # no label yet: no time, no schedule
        while actions := self._step(self._tick()):
            await self._perform(actions)
            self._evidence.keep({self.state.champion, *(trial.model_version for trial in self.state.trials)})
        self.telemetry.in_force("model", self.state.champion)

    @property
    def is_training(self) -> bool:
        """Whether a trainer runs, or its result waits."""
        return bool(self.state.training) or bool(self._ended)

    async def close(self) -> None:
        """End the trainer: it leaves nothing half done."""
        self._journal.close()
        if self._trainer is not None:
            self._trainer.cancel()
            await asyncio.gather(self._trainer, return_exceptions=True)

    def _restored(self, topic: str, values: Sequence[bytes]) -> None:
        if not values:
            return
        if topic == LABELS.name:
            self.take_labels(values)
            self._evidence.close(self._known.clock_ms, self._in_play())
        else:
            self.take_alerts(values)

    def _in_play(self) -> dict[str, BundleJudge]:
        """The champion and whoever runs beside it, each loaded once."""
        names = [self.state.champion, *(trial.model_version for trial in self.state.trials)]
        bundles = {name: self._registry.bundles[name] for name in names if name in self._registry.bundles}
        self._judges = {
            name: self._judges[name] if name in self._judges else BundleJudge(bundle)
            for name, bundle in bundles.items()
        }
        return self._judges

    def _tick(self) -> Tick:
        """What is known now."""
        since_ms = self.state.trained_ms[-1] if self.state.trained_ms else 0
        return Tick(
            clock_ms=self._known.clock_ms,
            counts=self._known.counts(since_ms),
            standings={
                trial.model_version: self._evidence.standing(
                    self.state.champion, trial.model_version, self.state.since_ms(trial)
                )
                for trial in self.state.trials
            },
        )

    def _step(self, event: Event) -> list[Action]:
        self.state, actions = step(self.state, event, self._settings.rules)
        return actions

    def _take_releases(self, found: Sequence[Any]) -> None:
        for record in found:
            self._journal_end = max(self._journal_end, record.offset)
            try:
                release = self._releases.decode(record.value)
            except Poison as poison:
                logging.error("%s@%d skipped: %s", MODELS.name, record.offset, poison)
                continue
            self._step(records.released(release, self._registry))  # type: ignore[arg-type]

    async def _perform(self, actions: Sequence[Action]) -> None:
        self.telemetry.health.idle = False  # until a turn has found nothing more to do
        for action in actions:
            match action:
                case Move():
                    await self._move(action)
                case Train():
                    logging.info("training: %s", action.why)
                    self._trainer = asyncio.create_task(self._train(action))

    async def _move(self, move: Move) -> None:
        """Append, and wait until it has come back: the next decision rests on it."""
        bundle = None
        if move.folder and move.move != "note":
            content = (Path(move.folder) / RELEASE).read_bytes()
            bundle = bundle_of(self._releases.decode(content))  # type: ignore[arg-type]
        value = self._releases.encode(records.release(move, bundle))
        while True:
            try:
                _, offset = await asyncio.to_thread(append, self._kafka, MODELS, move.model_version, value)
                break
            except Transient as transient:
                # A repeat of a move that did go through is void: it expects what it has replaced.
                logging.warning("%s of %s again in a moment: %s", move.move, move.model_version, transient)
                self.telemetry.alive()
                await asyncio.sleep(_RETRY_S)
        logging.info("%s %s: %s", move.move, move.model_version, move.why)
        while self._journal_end < offset:
            self.telemetry.alive()
            self._take_releases(self._journal.poll())
            await asyncio.sleep(0.01)

    async def _train(self, train: Train) -> None:
        """Run the trainer; whatever becomes of it is an event."""
        rules, settings = self._settings.rules, self._settings
        argv = [sys.executable, "-m", "services.retraining.trainer", "--kafka", self._kafka]
        argv += ["--signing-key", str(settings.signing_key), "--directory", str(settings.directory)]
        argv += ["--label-delay", f"{rules.label_delay_ms}ms", "--validation", f"{settings.validation_ms}ms"]
        argv += ["--learn", f"{settings.learn_ms}ms"]
        argv += ["--cut-off-ms", str(train.cut_off_ms), "--threads", str(settings.threads), "--why", train.why]
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        self._ended.append(outcome_of(process.returncode or 0, output))


def follow(app: faust.App, loop: Loop) -> None:
    """Attach the agents and the timer to ``app``."""

    def raw(name: str) -> Any:
        return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(raw(LABELS.name), concurrency=1, name="retraining.labels")
    async def labels(stream: Any) -> None:
        async for events in stream.take_events(_BATCH_RECORDS_MAX, within=_BATCH_WAIT_S):
            _taken(loop, loop.take_labels, events)

    @app.agent(raw(DRIFT_ALERTS.name), concurrency=1, name="retraining.alerts")
    async def alerts(stream: Any) -> None:
        async for events in stream.take_events(_BATCH_RECORDS_MAX, within=_BATCH_WAIT_S):
            _taken(loop, loop.take_alerts, events)

    async def turn(_: faust.App) -> None:
        await turned(app, loop)

    app.timer(interval=_TURN_S, name="retraining.turn")(turn)

    @app.on_before_shutdown.connect(weak=False)
    async def closing(*_: Any, **__: Any) -> None:
        await loop.close()


async def turned(app: faust.App, loop: Loop) -> None:
    """One turn, and whether anything is left to do.

    Only who owns every partition knows every label, so only that worker acts. One that has lost some to another worker
    and gets them back has missed what the other one took: it ends, and its next start reads everything.
    """
    health = loop.telemetry.health
    owns = loop.taken.keys() <= {(tp.topic, tp.partition) for tp in app.consumer.assignment()}
    if not owns or loop.was_robbed:
        if owns:
            _end("partitions came back from another worker: starting anew", EXIT_LATER)
        loop.was_robbed = health.ready
        health.idle = False
        loop.telemetry.alive()
        return
    try:
        await loop.turn()
        ends = await asyncio.to_thread(loop.ends)
        health.idle = not loop.is_training and not await unread(app, loop.taken, ends)
        health.ready = True
    except Transient as transient:
        health.idle = False
        health.last_error = str(transient)
        logging.warning("a turn later: %s", transient)


def _taken(loop: Loop, take: Any, events: Sequence[Any]) -> None:
    """Hand a batch on. An exception that left an agent would be lost with its batch: it ends the process instead."""
    is_taken = False
    loop.telemetry.health.idle = False  # until a turn has looked at what this batch leads to
    try:
        take([event.value for event in events if event.value is not None])
        is_taken = True
    finally:
        if not is_taken:
            _end("a batch could not be taken", EXIT_BUG)
    for event in events:
        message = event.message
        loop.taken[(message.topic, message.partition)] = message.offset


def _end(why: str, status: int) -> None:
    """End now; the supervisor starts the process anew, offsets stand where they were."""
    logging.critical("fatal: %s", why, exc_info=status == EXIT_BUG)
    logging.shutdown()
    os._exit(status)
