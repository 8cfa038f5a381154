"""The sending loop against a log in memory: pace, window, truth, stop, failure."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import orjson
import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from services.mesh.errors import Transient
from services.mesh.partitioner import Partitioner
from services.simulator.delays import Delays
from services.simulator.feed import Feed
from services.simulator.flight import Flight
from services.simulator.holding import Holds
from services.simulator.ledger import Checkpoint, Ledger
from services.simulator.producing import TopicWriter
from services.simulator.recovery import AlreadySent, fingerprint
from services.simulator.rhythm import DAY_MS, HOUR_MS
from services.simulator.sender import Sender
from services.simulator.speed import PerSecond, Speed, Unpaced
from services.simulator.world import World, WorldSettings
from services.simulator.world_source import WorldSource

PARTITIONS = 4
UNPACED = Unpaced()


class Acknowledgement(NamedTuple):
    offset: int


class MemoryLog:
    """A producer whose batches land in lists, acknowledged at once."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.records: dict[str, list[list[tuple[bytes, bytes]]]] = {}
        self.failure = failure
        self.on_append: Callable[[int, int], None] = lambda partition, offset: None

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(1_000_000, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[Acknowledgement]:
        log = self.records.setdefault(topic, [[] for _ in range(PARTITIONS)])[partition]
        future: asyncio.Future[Acknowledgement] = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            future.set_exception(self.failure)
            return future
        first = len(log)
        records = MemoryRecords(bytes(batch._build()))
        while (part := records.next_batch()) is not None:
            log += [(record.key, record.value) for record in part]
        future.set_result(Acknowledgement(first))
        if topic == "events":
            for offset in range(first, len(log)):
                self.on_append(partition, offset)
        return future

    def sent(self, topic: str) -> list[dict[str, Any]]:
        return [orjson.loads(value) for log in self.records.get(topic, []) for _, value in log]


class Bench(NamedTuple):
    sender: Sender
    log: MemoryLog
    ledger: Ledger
    stopping: asyncio.Event


def bench(
    *,
    days: int = 2,
    speed: Speed = UNPACED,
    window_ms: int = 6 * HOUR_MS,
    deciding: bool = True,
    idle: bool = False,
    log: MemoryLog | None = None,
    already_sent: AlreadySent | None = None,
    history_until_ms: int | None = None,
    holds: Holds | None = None,
) -> Bench:
    world = World(WorldSettings(customers=400, terminals=200, fraud_share=0.05))
    source = WorldSource(world, Delays(label_delay_ms=DAY_MS // 4), days=days)
    log = log or MemoryLog()
    ledger, stopping = Ledger(Checkpoint()), asyncio.Event()
    sender = Sender(
        Feed(source), TopicWriter(log, "events", PARTITIONS), TopicWriter(log, "outcomes", PARTITIONS),  # type: ignore[arg-type]
        Flight(PARTITIONS, window_ms), ledger, speed,
        already_sent=already_sent or AlreadySent({}), idle=_answer(idle), stopping=stopping,
        history_until_ms=history_until_ms, holds=holds,
    )  # fmt: skip
    if deciding:  # a mesh that decides on the next turn of the loop
        log.on_append = lambda partition, offset: asyncio.get_running_loop().call_soon(
            sender.decided, partition, offset
        )  # type: ignore[assignment,return-value]
    return Bench(sender, log, ledger, stopping)


def _answer(idle: bool) -> Callable[[], Awaitable[bool]]:
    async def answer() -> bool:
        return idle

    return answer


async def run_for(bench: Bench, seconds: float | None = None) -> None:
    if seconds is not None:
        asyncio.get_running_loop().call_later(seconds, bench.stopping.set)
    await bench.sender.run()
    assert await bench.sender.settle(1.0)


def test_every_event_is_sent_once_to_its_customers_partition() -> None:
    run = bench()
    sender, log, ledger = run.sender, run.log, run.ledger
    asyncio.run(run_for(run))
    world = World(WorldSettings(customers=400, terminals=200, fraud_share=0.05))
    expected = sum(len(world.day(day)[0]) for day in range(2))
    assert len({event["event_id"] for event in log.sent("events")}) == len(log.sent("events")) == expected
    partitioner = Partitioner(PARTITIONS)
    for topic in ("events", "outcomes"):
        for partition, records in enumerate(log.records[topic]):
            for key, value in records:
                assert partitioner.partition_of(key) == partition
                assert orjson.loads(value)["customer_id"] == key.decode()
    assert ledger.checkpoint.sent == sender.counts.sent == sender.counts.acknowledged == expected


def test_outcomes_are_exactly_those_that_event_time_has_reached() -> None:
    run = bench()
    log = run.log
    asyncio.run(run_for(run))
    now_ms = max(event["event_time_ms"] for event in log.sent("events"))
    observed = [outcome["observed_time_ms"] for outcome in log.sent("outcomes")]
    assert observed
    assert max(observed) <= now_ms
    genuine_and_ripe = {e["event_id"] for e in log.sent("events") if e["event_time_ms"] <= now_ms - 6 * DAY_MS // 4}
    assert genuine_and_ripe <= {outcome["event_id"] for outcome in log.sent("outcomes")}


def test_a_mesh_that_decides_nothing_gets_one_window_and_no_more() -> None:
    run = bench(deciding=False)
    sender, log, _ = run.sender, run.log, run.ledger
    asyncio.run(run_for(run, 0.5))
    times = [event["event_time_ms"] for event in log.sent("events")]
    assert 5 * HOUR_MS < max(times) - min(times) <= 6 * HOUR_MS
    assert sender.counts.waiting == "window"


def test_when_all_stages_are_idle_the_window_moves_on() -> None:
    run = bench(deciding=False, idle=True)
    log = run.log
    asyncio.run(run_for(run, 1.6))
    times = [event["event_time_ms"] for event in log.sent("events")]
    assert max(times) - min(times) > 12 * HOUR_MS


def test_news_of_outcomes_are_no_sign_that_decisions_still_come() -> None:
    run = bench(deciding=False, idle=True)

    async def both() -> None:
        async def news() -> None:
            while not run.stopping.is_set():
                run.sender.outcomes_unread(0)
                await asyncio.sleep(0.05)

        await asyncio.gather(run_for(run, 1.6), news())

    asyncio.run(both())
    times = [event["event_time_ms"] for event in run.log.sent("events")]
    assert max(times) - min(times) > 12 * HOUR_MS


def test_events_a_second_are_kept() -> None:
    run = bench(speed=PerSecond(400.0), days=30)
    sender, _, _ = run.sender, run.log, run.ledger
    asyncio.run(run_for(run, 1.0))
    assert sender.counts.sent == pytest.approx(400, rel=0.15)


def test_history_is_not_paced_and_ends_to_the_record() -> None:
    end_ms = WorldSettings().first_day_ms + 12 * HOUR_MS
    run = bench(speed=PerSecond(10.0), history_until_ms=end_ms, window_ms=30 * HOUR_MS)
    asyncio.run(run_for(run, 0.8))
    live = sum(event["event_time_ms"] >= end_ms for event in run.log.sent("events"))
    assert run.sender.counts.sent - live > 100
    assert 1 <= live <= 12
    assert run.sender.counts.phase == "live"


def test_what_the_log_holds_from_before_a_crash_is_not_sent_again() -> None:
    run = bench()
    whole_log = run.log
    asyncio.run(run_for(run))
    half = {
        (topic, partition): Counter(fingerprint(value) for _, value in records[: len(records) // 2])
        for topic, logs in whole_log.records.items()
        for partition, records in enumerate(logs)
    }
    run = bench(already_sent=AlreadySent(half))
    again, log, _ = run.sender, run.log, run.ledger
    asyncio.run(run_for(run))
    for topic, logs in whole_log.records.items():
        for partition, records in enumerate(logs):
            assert log.records[topic][partition] == records[len(records) // 2 :]
    assert again.counts.repeats_avoided == sum(counter.total() for counter in half.values())


def test_an_undeliverable_record_ends_the_run_with_its_cause() -> None:
    run = bench(log=MemoryLog(failure=RuntimeError("disk full")))
    with pytest.raises(Transient, match=r"events: not delivered.*disk full"):
        asyncio.run(run_for(run))
    assert run.ledger.checkpoint.sent == 0


def test_a_stopped_sender_leaves_nothing_half_sent() -> None:
    run = bench(speed=PerSecond(300.0), days=30)
    sender, log, ledger = run.sender, run.log, run.ledger
    asyncio.run(run_for(run, 0.3))
    assert ledger.idle
    assert ledger.checkpoint.sent == len(log.sent("events")) == sender.counts.acknowledged


def test_events_do_not_run_away_from_outcomes_that_nobody_takes() -> None:
    """Features would know of a fraud days of event time after it was found out."""
    run = bench(days=3)
    sender, log = run.sender, run.log

    async def mesh_that_takes_no_outcomes() -> None:
        while not run.stopping.is_set():
            sender.outcomes_unread(sender.counts.outcomes)
            await asyncio.sleep(0.01)

    async def both() -> None:
        await asyncio.gather(run_for(run, 0.6), mesh_that_takes_no_outcomes())

    asyncio.run(both())
    assert sender.counts.waiting == "outcomes"
    oldest_ms = min(said["observed_time_ms"] for said in log.sent("outcomes"))
    newest_ms = max(event["event_time_ms"] for event in log.sent("events"))
    assert newest_ms <= oldest_ms + 2 * 6 * HOUR_MS, "the window, and what one slice may hold"
    run.stopping.clear()
    sender.outcomes_unread(0)
    asyncio.run(run_for(run))
    assert sender.counts.sent == sum(
        len(World(WorldSettings(customers=400, terminals=200, fraud_share=0.05)).day(day)[0]) for day in range(3)
    )


class Midnights:
    """Holds event time, and notes how far the mesh was when it let go."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []
        self.run: Bench | None = None

    def after(self, time_ms: int) -> int:
        return time_ms - time_ms % DAY_MS + DAY_MS

    async def hold(self, at_ms: int) -> None:
        assert self.run is not None
        newest = max(event["event_time_ms"] for event in self.run.log.sent("events"))
        self.seen.append((at_ms, newest, self.run.sender.in_flight))


def test_event_time_waits_at_midnight_until_all_before_it_is_decided() -> None:
    midnights = Midnights()
    run = midnights.run = bench(days=3, holds=midnights)
    asyncio.run(run_for(run))
    start = WorldSettings().first_day_ms
    assert [at for at, _, _ in midnights.seen] == [start + DAY_MS, start + 2 * DAY_MS]
    for at, newest, in_flight in midnights.seen:
        assert at - HOUR_MS < newest < at
        assert in_flight == 0
    assert len(run.log.sent("events")) == run.sender.counts.sent
