"""``python -m services.lookup``: follows the indexed topics and writes the index, until SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from threading import Event as Flag
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from services.lookup.settings import LookupSettings
from services.mesh.adapters.health_server import HealthServer
from services.mesh.adapters.kafka_reader import reader_settings
from services.mesh.adapters.lookup_index import IndexWriter
from services.mesh.adapters.lookup_reader import IndexCorrupt
from services.mesh.adapters.process import EXIT_CONFIG, ProcessSettings, write_port
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.adapters.watchdog import watch
from services.mesh.errors import Fatal, Transient
from services.mesh.lookup_entries import ENTRY, INDEXED, TOPIC_NUMBERS, entry_of, ids_in
from services.mesh.niceness import LAST
from services.mesh.settings import Environment
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import DATA_RETENTION_MS, DEAD_LETTERS
from services.mesh.topology import LOOKUP

# A transaction of SQLite costs a millisecond: one a second, or one a hundred thousand entries when catching up.
FLUSH_S = 1.0
FLUSH_ENTRIES = 100_000
FORGET_S = 3_600.0
RETRY_S = 1.0
_BATCH_RECORDS_MAX = 2_000
_CONSUME_WAIT_S = 0.25  # also how long SIGTERM may wait
_CALL_WAIT_S = 10.0
# A second's delay is allowed, so the broker is asked seldom; the client's queue is bounded.
_BIG_FETCHES = {"fetch.wait.max.ms": 500, "fetch.min.bytes": 65_536, "queued.max.messages.kbytes": 16_384}


class Follower:
    """From the log into one index file."""

    def __init__(self, kafka: str, index: IndexWriter, consumer: Any, telemetry: StageTelemetry, stop: Flag) -> None:
        self._kafka, self._index, self._consumer = kafka, index, consumer
        self._telemetry, self._stop = telemetry, stop
        self._entries = bytearray()
        self._progress: dict[tuple[str, int], int] = {}
        self._newest_ms = 0
        self._records = 0

    def run(self) -> None:
        """Until stopped. Raises IndexCorrupt, Transient."""
        self._consumer.assign(self._starts())
        self._telemetry.ready(True)
        flush_s = forget_s = time.monotonic()
        while not self._stop.is_set():
            self._take(self._consumer.consume(_BATCH_RECORDS_MAX, _CONSUME_WAIT_S))
            now_s = time.monotonic()
            if now_s - flush_s >= FLUSH_S or len(self._entries) >= FLUSH_ENTRIES * ENTRY.size:
                flush_s = now_s
                self._flush()
            if now_s >= forget_s:
                forget_s = now_s + FORGET_S
                self._index.forget_before(time.time_ns() // 1_000_000 - DATA_RETENTION_MS)
            self._telemetry.alive()
        self._flush()

    def _starts(self) -> list[TopicPartition]:
        known = self._index.progress()
        starts = []
        for topic in INDEXED:
            found = self._consumer.list_topics(topic.name, timeout=_CALL_WAIT_S).topics[topic.name]
            if found.error is not None:
                raise Transient(f"topic {topic.name}: {found.error.str()}; was the deploy step run?")
            starts += [
                TopicPartition(topic.name, partition, known.get((topic.name, partition), OFFSET_BEGINNING))
                for partition in found.partitions
            ]
        return starts

    def _take(self, messages: list[Any]) -> None:
        for message in messages:
            error = message.error()
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if error is None:
                ids = ids_in(topic, message.value(), (message.headers() or ()) if topic == DEAD_LETTERS.name else ())
                if ids is not None:
                    self._entries += entry_of(ids, TOPIC_NUMBERS[topic], partition, offset)
                self._progress[topic, partition] = offset + 1
                self._newest_ms = max(self._newest_ms, message.timestamp()[1])
                self._records += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                self._progress[topic, partition] = offset  # behind the last transaction's marker
            elif not error.retriable() and error.code() != KafkaError._TRANSPORT:
                raise Transient(f"reading {topic}: {error.str()}")

    def _flush(self) -> None:
        if not self._progress:
            return
        self._index.add(bytes(self._entries), self._progress, self._newest_ms)
        health, metrics = self._telemetry.health, self._telemetry.metrics
        health.records += self._records
        health.batches += 1
        metrics.add("weir_records", self._records)
        metrics.add("weir_batches", 1)
        if self._records:
            metrics.set("weir_input_age_seconds", max(0.0, time.time() - self._newest_ms / 1_000))
        self._entries.clear()
        self._progress.clear()
        self._records = 0


def follow(settings: LookupSettings, kafka: str, telemetry: StageTelemetry, stop: Flag) -> None:
    """Follow until stopped, whatever happens to the broker or the file. Raises Fatal."""
    while not stop.is_set():
        try:
            consumer = Consumer(reader_settings(kafka, LOOKUP.name) | _BIG_FETCHES)
            with closing(consumer):
                cluster = consumer.list_topics(timeout=_CALL_WAIT_S).cluster_id
                with closing(IndexWriter(settings.file, str(cluster))) as index:
                    Follower(kafka, index, consumer, telemetry, stop).run()
        except IndexCorrupt as error:
            logging.error("%s", error)
            set_aside(settings.file)
        except (Transient, KafkaException, sqlite3.OperationalError) as error:
            telemetry.reopened(str(error))
            telemetry.alive()  # a broker that is down must not look like a loop that hangs
            logging.warning("again in %.0f s: %s", RETRY_S, error)
            stop.wait(RETRY_S)
        finally:
            telemetry.ready(False)


def set_aside(file: Path) -> None:
    """Rename a corrupt index (the latest replaces an earlier one) and forget its companions."""
    os.replace(file, f"{file}.corrupt")
    for suffix in ("-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)


def main() -> None:
    """Read the settings, serve health, follow."""
    environment, clock = Environment(os.environ), SystemClock()
    process, settings = ProcessSettings.read(environment), LookupSettings.read(environment)
    environment.check()
    os.nice(LAST)
    telemetry, stop = StageTelemetry(LOOKUP.name, clock), Flag()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: stop.set())
    health = HealthServer(telemetry, clock, process.health_host, process.health_port)
    if process.health_file:
        write_port(process.health_file, health.port)
    watch(telemetry)
    logging.info("lookup file=%s health=http://%s:%d", settings.file, process.health_host, health.port)
    try:
        follow(settings, process.kafka, telemetry, stop)
    finally:
        health.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        main()
    except Fatal as fatal:
        logging.error("fatal: %s", fatal)
        sys.exit(EXIT_CONFIG)
