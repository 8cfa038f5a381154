"""A Faust application that reads what the mesh commits, and only that, in batches of raw bytes.

Faust reads uncommitted records unless its exactly-once mode is on, and that mode loses and doubles under rebalance
(faust-streaming/faust#517, #323). So: at least once, its consumer made to read committed here; whoever uses it drops
repeats. Its tables, web server, leader election and topic creation are off: no truth lives in Faust.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import faust
from confluent_kafka import Consumer, KafkaException, TopicPartition
from faust.transport.drivers import aiokafka as driver

from services.mesh.errors import Transient

# Well below the 300 s after which Faust says that a stream hangs; a worker stuck for so long is put out of its group.
_POLL_INTERVAL_S_MAX = 120.0
_SESSION_S = 15.0
# For tasks that are told to end when everything has stopped.
_TASKS_S_MAX = 0.5


class _CommittedThread(driver.AIOKafkaConsumerThread):
    """The thread that owns Faust's consumer."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Read when it starts, which is after this. Faust has no setting for it.
        assert consumer._isolation_level == "read_uncommitted", "Faust or aiokafka has changed: look here again"
        consumer._isolation_level = "read_committed"
        return consumer


class _CommittedConsumer(driver.Consumer):
    def _new_consumer_thread(self) -> Any:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)


class _CommittedTransport(driver.Transport):
    Consumer = _CommittedConsumer


def committed_app(name: str, kafka: str, data_dir: str) -> faust.App:
    """An application called ``name`` (its group) on ``kafka``; ``data_dir`` is where Faust may put files (it does not).

    Starts nothing and connects to nobody.
    """
    app = faust.App(
        name,
        broker=[f"kafka://{host}" for host in kafka.split(",")],
        datadir=data_dir,
        autodiscover=False,
        processing_guarantee="at_least_once",
        # An offset is committed once its record was taken by the agent: what is repeated after a crash stays short.
        broker_commit_interval=1.0,
        broker_commit_every=2_000,
        broker_max_poll_records=500,  # unbounded by default, which hangs rebalances (robinhood/faust#402)
        broker_session_timeout=_SESSION_S,
        broker_max_poll_interval=_POLL_INTERVAL_S_MAX,
        broker_request_timeout=30.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=8_388_608,  # models.v1 holds whole bundles
        stream_wait_empty=False,  # waiting for empty streams hangs rebalances, and what is repeated is dropped
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        producer_acks=-1,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    app.transport = _CommittedTransport(app.conf.broker_consumer, app)
    return app


class _Worker(faust.Worker):
    """Ends when its application has stopped. Faust sleeps for one to two seconds then, of the three that a stop has."""

    def _shutdown_loop(self) -> None:
        loop = self.loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=_TASKS_S_MAX))
        if self.crash_reason:
            raise self.crash_reason


def run_worker(app: faust.App, loop: asyncio.AbstractEventLoop, at_end: Callable[[], None]) -> NoReturn:
    """Work until SIGTERM; then the process ends, with ``at_end`` as the last thing that it does.

    What still runs in a thread is not waited for: a question to the broker, a rebuild of state. An append may be in the
    log then or not, as after a crash; the next start reads which.
    """
    status: Any = 0
    try:
        _Worker(app, loop=loop, loglevel="INFO", quiet=True, redirect_stdouts=False).execute_from_commandline()
    except SystemExit as ended:
        status = ended.code
    finally:
        at_end()
    logging.shutdown()
    os._exit(int(status or 0))


def start_at(kafka: str, name: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Let the group ``name`` go on at ``offsets``, (topic, partition) -> next: what was read in bulk is not read again.

    Only while no member of the group runs. Raises Transient.
    """
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": name, "enable.auto.commit": False})
    try:
        places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        consumer.commit(offsets=places, asynchronous=False)
    except KafkaException as error:
        raise Transient(f"offsets of group {name}: {error}") from error
    finally:
        consumer.close()


async def unread(app: faust.App, taken: Mapping[tuple[str, int], int], ends: Mapping[tuple[str, int], int]) -> bool:
    """Whether committed records wait that no agent has taken.

    ``taken``: (topic, partition) -> last offset taken; ``ends``: the next committed one of each (``CommittedEnds``).
    The consumer's position alone does not say: what it has fetched waits in Faust's queues. Nor do offsets: an aborted
    or a transaction's own record has one and is never handed out.
    """
    consumer: Any = app.consumer
    partitions = [tp for tp in consumer.assignment() if (tp.topic, tp.partition) in ends]
    if not {(tp.topic, tp.partition) for tp in partitions} == set(taken) == set(ends):
        return True  # not all of them are ours yet
    # All at once: each is a visit to the consumer's thread.
    positions = await asyncio.gather(*(consumer.position(tp) for tp in partitions))
    for tp, position in zip(partitions, positions, strict=True):
        where = (tp.topic, tp.partition)
        fetched, last = consumer._read_offset.get(tp), taken[where]
        # Where a group goes on, Faust takes the committed offset, the next one to come, for one that it has fetched.
        if fetched is not None and (fetched > last + 1 or (fetched > last and consumer.unacked)):
            return True
        if (position or 0) < ends[where]:
            return True
    return False
