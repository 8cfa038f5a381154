"""Start the outside world; see ``--help``. Progress goes to standard output, one JSON object a line."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict

import orjson
from aiokafka import AIOKafkaProducer

from services.mesh.errors import Fatal, Transient, WeirError
from services.mesh.topics import DECISIONS, EVENTS_RAW, OUTCOMES, OUTCOMES_RAW, TOPICS
from services.mesh.topology import DRIFT, EVENT_CHAIN, FEEDBACK, OUTCOME_INTAKE, RETRAINING, Stage
from services.simulator.analysts import Analysts
from services.simulator.chunk import Source
from services.simulator.delays import Chargebacks, Delays
from services.simulator.dirty import DirtyRates
from services.simulator.feed import Feed
from services.simulator.flight import Flight
from services.simulator.holding import DayHolds, Holds
from services.simulator.ledger import Checkpoint, Ledger
from services.simulator.producing import TopicWriter, open_producer
from services.simulator.reading import require_topics
from services.simulator.recovery import committed_ends, ends_of, find_sent
from services.simulator.scores import ScoreReader
from services.simulator.sender import Sender
from services.simulator.settings import Settings, read_settings
from services.simulator.sources import open_source
from services.simulator.state_file import StateFile
from services.simulator.watching import Lags, follow_decisions, follow_outcomes, origin_of, settle_gaps
from services.simulator.world import World, WorldSettings
from services.simulator.world_source import WorldSource
from services.simulator.worlds import DRIFT as DRIFT_WORLD
from services.simulator.worlds import world_named

REPORT_S = 0.5
# Everything must have stopped within 10 s: 6 for the sender to come to its end, 2 to close, 2 to spare.
STOP_S_MAX = 6.0
SETTLE_S_MAX = 4.0
CLOSE_S_MAX = 2.0
FOLLOW_S_MAX = 30.0
# Whose work decides what the next event finds. Review's does not: people come to it when they come.
_SETTLING = (*EVENT_CHAIN, OUTCOME_INTAKE, FEEDBACK)


def source_of(settings: Settings) -> Source:
    """The input that the settings name."""
    if settings.input is not None:
        return open_source(settings.input, settings.label_delay_ms)
    size = WorldSettings(seed=settings.seed, customers=settings.customers, terminals=settings.terminals)
    delays = Chargebacks if settings.world == DRIFT_WORLD else Delays
    return WorldSource(
        World(world_named(settings.world, size, settings.shift_day)),
        delays(label_delay_ms=settings.label_delay_ms),
        days=settings.days,
        history_days=settings.history_days,
        dirty=DirtyRates.evenly(settings.dirty),
    )


async def send(settings: Settings) -> None:
    """Everything from opening the source to the last acknowledgement, or until told to stop."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    sending, stopped = asyncio.create_task(_connect_and_send(settings, stopping)), asyncio.create_task(stopping.wait())
    await asyncio.wait({sending, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not sending.done():
        await asyncio.wait({sending}, timeout=STOP_S_MAX)
    sending.cancel()  # a broker that does not answer; what it did not acknowledge is looked for at the next start
    with suppress(asyncio.CancelledError):
        await sending


async def _connect_and_send(settings: Settings, stopping: asyncio.Event) -> None:
    source, state = source_of(settings), StateFile(settings.state)
    await require_topics(settings.kafka, [topic.name for topic in TOPICS])
    producer = await open_producer(settings.kafka)
    try:
        await _send(settings, source, state, producer, stopping)
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(producer.stop(), CLOSE_S_MAX)


async def _send(
    settings: Settings, source: Source, state: StateFile, producer: AIOKafkaProducer, stopping: asyncio.Event
) -> None:
    partitions = {topic.name: len(await producer.partitions_for(topic.name)) for topic in (EVENTS_RAW, OUTCOMES_RAW)}
    data_partitions = partitions[EVENTS_RAW.name]
    start = state.load(source.name) or Checkpoint(offsets=await ends_of(settings.kafka, partitions))
    state.save(source.name, start)
    ledger = Ledger(start)
    lags, barriers = (Lags(settings.kafka, data_partitions, _inputs(EVENT_CHAIN)) for _ in range(2))  # one client each
    everything = Lags(settings.kafka, data_partitions, _inputs(_SETTLING))
    outcome_stages = [(OUTCOME_INTAKE.name, OUTCOMES_RAW.name), (FEEDBACK.name, OUTCOMES.name)]
    outcome_lags = Lags(settings.kafka, data_partitions, outcome_stages)
    analysts = Analysts(settings.reviewed, state.load_notebook(source.name)) if settings.reviewed else None
    if analysts is not None and not analysts.offsets:
        analysts.offsets = await committed_ends(settings.kafka, DECISIONS.name, data_partitions)
    feed = Feed(source, start.position, start.released_until_ms, analysts)
    flight = Flight(data_partitions, settings.window_ms)
    sender = Sender(
        feed,
        TopicWriter(producer, EVENTS_RAW.name, data_partitions),
        TopicWriter(producer, OUTCOMES_RAW.name, partitions[OUTCOMES_RAW.name]),
        flight,
        ledger,
        settings.speed,
        already_sent=await find_sent(settings.kafka, start.offsets),
        idle=lags.all_zero,
        stopping=stopping,
        history_until_ms=source.history_until_ms,
        never_ahead_of_clock=settings.input is None,
        holds=_holds(settings, feed, everything, stopping, lambda: _keep(state, source, analysts)),
    )
    following = asyncio.Event()
    follower = asyncio.create_task(
        follow_decisions(
            settings.kafka,
            data_partitions,
            origin_of,
            sender.decided,
            following,
            None if analysts is None else ScoreReader(analysts).look,
            None if analysts is None else analysts.offsets,
        )
    )
    settler = asyncio.create_task(settle_gaps(barriers, flight.has_gaps, sender.passed))
    outcomes_follower = asyncio.create_task(follow_outcomes(outcome_lags, sender.outcomes_unread))
    reporter = asyncio.create_task(_report(sender, ledger, state, source, start))
    try:
        await _first(following, follower)
        if settings.for_s is not None:
            asyncio.get_running_loop().call_later(settings.for_s, stopping.set)
        await _unless_failed(asyncio.create_task(sender.run()), follower, reporter, settler, outcomes_follower)
        await sender.settle(SETTLE_S_MAX)
    finally:
        for task in (reporter, follower, settler, outcomes_follower):
            task.cancel()
            with suppress(asyncio.CancelledError, WeirError):
                await task
        for client in (lags, barriers, outcome_lags, everything):
            await client.close()
        state.save(source.name, ledger.checkpoint)
        _say(sender, ledger, source, start, done=True)


def _inputs(stages: Sequence[Stage]) -> list[tuple[str, str]]:
    return [(stage.name, topic.name) for stage in stages for topic in stage.inputs]


def _holds(
    settings: Settings, feed: Feed, stages: Lags, stopping: asyncio.Event, keep: Callable[[], None]
) -> Holds | None:
    """Event time waits each midnight, if it is to wait at all."""
    if settings.hold is None:
        return None

    def midnight(at_ms: int) -> None:
        feed.evening(at_ms)
        keep()

    control = [settings.hold / f"{participant.name}.json" for participant in (DRIFT, RETRAINING)]
    return DayHolds(stages, control, stopping, midnight, mornings=bool(settings.reviewed))


def _keep(state: StateFile, source: Source, analysts: Analysts | None) -> None:
    if analysts is not None:
        state.save_notebook(source.name, analysts.notebook)


async def _first(following: asyncio.Event, follower: asyncio.Task[None]) -> None:
    """Wait until decisions are followed, so that none made of our records is missed."""
    waiting = asyncio.create_task(following.wait())
    await asyncio.wait({waiting, follower}, timeout=FOLLOW_S_MAX, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if follower.done():
        follower.result()
    if not following.is_set():
        raise Transient(f"decisions.v1: cannot be read within {FOLLOW_S_MAX:.0f} s; is the broker healthy?")


async def _unless_failed(sending: asyncio.Task[None], *helpers: asyncio.Task[None]) -> None:
    """Until sending ends; a helper that ends before it has failed, and its error is ours."""
    try:
        done, _ = await asyncio.wait({sending, *helpers}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
    for task in done:
        task.result()


async def _report(sender: Sender, ledger: Ledger, state: StateFile, source: Source, start: Checkpoint) -> None:
    while True:
        await asyncio.sleep(REPORT_S)
        state.save(source.name, ledger.checkpoint)
        _say(sender, ledger, source, start, done=False)


def _say(sender: Sender, ledger: Ledger, source: Source, start: Checkpoint, *, done: bool) -> None:
    counts = sender.counts
    line = {
        **asdict(counts),
        "in_flight": sender.in_flight,
        "sent_before": start.sent,
        "sent_in_all": ledger.checkpoint.sent,
        "total": source.records_expected,
        "wall_s": round(time.time(), 3),
        "done": done,
    }
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """Exit status 0 when everything that was to be sent is sent, or sending was stopped.

    78 (EX_CONFIG) when the input or the settings are at fault, and would be again; 75 (EX_TEMPFAIL) when the broker is.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say of a failure, our own error says
    try:
        asyncio.run(send(read_settings()))
    except WeirError as error:
        sys.stderr.write(f"simulator: {error}\n")
        return os.EX_CONFIG if isinstance(error, Fatal) else os.EX_TEMPFAIL
    return 0


if __name__ == "__main__":
    sys.exit(main())
