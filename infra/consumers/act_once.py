"""Acts on decisions of one kind through HTTP calls: what the consumers beside this file share. Copy it with them.

It needs confluent-kafka[avro,schemaregistry] and nothing of Weir's code. It reads `decisions.v1` in a consumer group of
its own, and leaves alone what has another action.

Each call goes out under an idempotency key made of the decision's identity (customer_id with event_id), so one whose
answer was lost can be repeated: the receiver has to act once a key. What is done is also noted in a file here, so that
a restart does not ask again. An offset is committed after the answer: at least once, never lost.

A call that fails in passing is repeated, later each time; after 4 minutes the process ends, to be started again
where it was. What the receiver refuses (4xx) goes to the topic `<group>.dead-letters` with its bytes and the reason.
"""

import hashlib
import json
import logging
import os
import random
import signal
import sqlite3
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext, SerializationError

FROM = os.environ.get("FROM", "now")  # the first time: decisions from now on, or with "earliest" all that are kept
TOPIC = "decisions.v1"
CALL_S_MAX = 10.0  # a receiver that works longer had better answer first, and work then
FIRST_WAIT_S, WAIT_S_MAX = 0.5, 30.0
# The broker takes a consumer for dead that asks for nothing for 5 minutes (max.poll.interval.ms); one call less.
TRYING_S_MAX = 240.0
# A decision stays in the log for 120 days, and can be read again for as long.
REMEMBERED_S = 130 * 86_400


class Refused(Exception):
    """The receiver will never take this call."""


Call = tuple[str, str, dict[str, Any]]
"""What to ask for: method, path below TARGET, body."""


@dataclass(frozen=True)
class Job:
    """Which decisions to act on, and how."""

    action: str
    call_for: Callable[[dict[str, Any]], Call]
    group: str

    @property
    def dead_letters(self) -> str:
        """The topic of what was refused."""
        return f"{self.group}.dead-letters"

    def key_of(self, decision: dict[str, Any]) -> str:
        """The same for every repeat, another for every decision: ("ab", "c") and ("a", "bc") differ too."""
        identity = json.dumps([self.group, decision["customer_id"], decision["event_id"]])
        return hashlib.sha256(identity.encode()).hexdigest()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, and look done."""

    def redirect_request(self, *_: Any) -> None:
        """Followed by nobody: the answer 3xx is a failure."""


HTTP = urllib.request.build_opener(NoRedirect)


def ask(key: str, method: str, path: str, body: dict[str, Any]) -> None:
    """Return when the receiver has done it. Raises Refused, and OSError after TRYING_S_MAX."""
    end_s, bound_s = time.monotonic() + TRYING_S_MAX, FIRST_WAIT_S
    while True:
        try:
            return ask_once(key, method, path, body)
        except OSError as error:
            wait_s = random.uniform(0, bound_s)  # full jitter: many that failed together do not return together
            if time.monotonic() + wait_s > end_s:
                raise
            logging.warning("%s %s: %s; again in %.1f s", method, path, error, wait_s)
            time.sleep(wait_s)
            bound_s = min(WAIT_S_MAX, 2 * bound_s)


def ask_once(key: str, method: str, path: str, body: dict[str, Any]) -> None:
    """One call. Raises Refused, OSError."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    if token := os.environ.get("TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    asked = urllib.request.Request(os.environ["TARGET"] + path, json.dumps(body).encode(), headers, method=method)
    try:
        HTTP.open(asked, timeout=CALL_S_MAX).close()
    except urllib.error.HTTPError as error:
        with error:
            if 400 <= error.code < 500 and error.code not in (408, 425, 429):
                raise Refused(f"{error.code} {error.read(500).decode(errors='replace')}") from error
        raise


class Done:
    """Keys of what is done or refused, in a file of SQLite's."""

    def __init__(self, path: str) -> None:
        self._file = sqlite3.connect(path, isolation_level=None)  # each statement is a transaction
        self._file.execute("CREATE TABLE IF NOT EXISTS done (key TEXT PRIMARY KEY, at_s REAL NOT NULL) WITHOUT ROWID")
        self._file.execute("DELETE FROM done WHERE at_s < ?", (time.time() - REMEMBERED_S,))

    def has(self, key: str) -> bool:
        """Whether it was noted."""
        return self._file.execute("SELECT 1 FROM done WHERE key = ?", (key,)).fetchone() is not None

    def note(self, key: str) -> None:
        """It is done."""
        self._file.execute("INSERT OR IGNORE INTO done VALUES (?, ?)", (key, time.time()))


def dead_letter(topic: str, producer: Producer, message: Any, origin: str, code: str, why: str) -> None:
    """The record as it was, and why; returns when the broker has it."""
    cause = [("error_code", code.encode()), ("error_message", why[:1_000].encode()), ("origin", origin.encode())]
    headers, failed = [*(message.headers() or ()), *cause], list[Any]()
    told = {"headers": headers, "on_delivery": lambda error, _: failed.append(error) if error else None}
    producer.produce(topic, message.value(), message.key(), **told)
    if producer.flush(CALL_S_MAX) or failed:
        raise KafkaException(*failed)
    logging.warning("refused, in %s: %s", topic, why)


def handle(job: Job, message: Any, decode: AvroDeserializer, done: Done, producer: Producer) -> None:
    """One decision, from its bytes to its effect."""
    origin = f"{message.topic()}[{message.partition()}]@{message.offset()}"
    try:
        decision = decode(message.value(), SerializationContext(TOPIC, MessageField.VALUE))
    except (SerializationError, EOFError, ValueError, TypeError, LookupError) as error:
        if not done.has(origin):
            dead_letter(job.dead_letters, producer, message, origin, "undecodable", repr(error))
            done.note(origin)
        return
    if decision is None or decision["action"] != job.action or done.has(key := job.key_of(decision)):
        return
    try:
        ask(key, *job.call_for(decision))
    except Refused as refused:
        dead_letter(job.dead_letters, producer, message, origin, "refused", str(refused))
    done.note(key)


def begin(consumer: Consumer, partitions: list[TopicPartition]) -> None:
    """Commit where a partition begins before anything is read: a crash before the first commit would skip what came."""
    for place in consumer.committed(partitions, CALL_S_MAX):
        if place.offset < 0:
            first, end = consumer.get_watermark_offsets(place, CALL_S_MAX)
            place.offset = first if FROM == "earliest" else end
            consumer.commit(offsets=[place], asynchronous=False)


def act_on(action: str, call_for: Callable[[dict[str, Any]], Call], group: str) -> None:
    """Ask for ``call_for`` of every decision with that ``action``, until SIGTERM. ``group``: unless GROUP is set."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    job = Job(action, call_for, os.environ.get("GROUP", group))
    kafka, stop = {"bootstrap.servers": os.environ.get("KAFKA", "127.0.0.1:9092")}, threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    admin = AdminClient(kafka)
    if job.dead_letters not in admin.list_topics(timeout=CALL_S_MAX).topics:
        admin.create_topics([NewTopic(job.dead_letters, 1)])[job.dead_letters].result(CALL_S_MAX)
    # A decision of a transaction that failed never was; committed each second is only what was handled.
    reading = {"group.id": job.group, "isolation.level": "read_committed", "enable.auto.offset.store": False}
    # Partitions of one that was killed are free after 6 s.
    consumer = Consumer(kafka | reading | {"auto.commit.interval.ms": 1_000, "session.timeout.ms": 6_000})
    producer = Producer(kafka | {"enable.idempotence": True, "acks": "all"})
    decode = AvroDeserializer(SchemaRegistryClient({"url": os.environ["REGISTRY"]}))
    done = Done(os.environ.get("DONE", f"{job.group}.sqlite"))
    consumer.subscribe([TOPIC], on_assign=begin)
    try:
        while not stop.is_set():
            message = consumer.poll(0.5)
            if message is None or message.error():
                continue  # the client mends its connections by itself
            handle(job, message, decode, done, producer)
            consumer.store_offsets(message)
    finally:
        consumer.close()  # commits what is stored
