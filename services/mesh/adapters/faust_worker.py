"""A Faust application that reads what the mesh commits, and only that, in batches of raw bytes.

Faust reads uncommitted records unless its exactly-once mode is on, and that mode loses and doubles under rebalance
(faust-streaming/faust#517, #323). So: at least once, its consumer made to read committed here; whoever uses it drops
repeats. Its tables, web server, leader election and topic creation are off: no truth lives in Faust.
"""

from __future__ import annotations

from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver

# Well below the 300 s after which Faust says that a stream hangs; a worker stuck for so long is put out of its group.
_POLL_INTERVAL_S_MAX = 120.0
_SESSION_S = 15.0


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
