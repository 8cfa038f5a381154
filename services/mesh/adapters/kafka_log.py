"""TransactionalLog on confluent-kafka: one consumer, one transactional producer, one thread.

Why these settings (measured on 2 busy cores; see README, decisions):

* ``linger.ms=50`` with an explicit flush before the offsets: one-record batches saturate the broker.
* ``retry.backoff.ms=1``: the default 100 waits out every commit behind the previous one's markers.
* static membership and a stable transactional id for each slot: a restarted process takes over at once, and fences what
  its predecessor left open (1 s instead of 14 s).
* the ``range`` assignor, one rebalance: everybody lets go of everything, then all of it is handed out. The cooperative
  one needs a second rebalance for whatever moves. A static member that restarts between the two is given its half of
  the first, and no other follows: what it was to let go of is nobody's from then on, and no error tells.
* librdkafka speaks the transaction protocol of before KIP-890, where a delayed commit can outlive its producer's
  patience. So any unclear error closes producer and consumer and opens both anew (the epoch bump fences what is in
  flight), and ``watermark.py`` is the second defence.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from zlib import crc32

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from services.mesh.adapters.kafka_reader import KafkaReader
from services.mesh.errors import Fatal, Fenced, Transient
from services.mesh.pace import AT_ONCE, Pace
from services.mesh.ports import CALL_WAIT_S, LANE, Assignment, CommittedOffset, InRecord, OutRecord, in_record

# A transaction older than this is the broker's to abort: nobody waits longer for one.
TRANSACTION_TIMEOUT_MS = round(1_000 * CALL_WAIT_S)
# Static members keep their share for this long when they die; the supervisor restarts one within 2 s.
SESSION_TIMEOUT_MS = 10_000
# Longest pause between polls: a rebuild of state works in slices, so only a hanging step comes near it.
POLL_INTERVAL_MAX_MS = 120_000
IDLE_WAIT_S = 0.25
_FENCED_CODES = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.PRODUCER_FENCED,
    }
)
_FENCED_TEXT = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()


class KafkaLog:
    """One slot of a stage's group."""

    def __init__(
        self, bootstrap: str, group: str, topics: str | Sequence[str], slot: str, pace: Pace = AT_ONCE
    ) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topics = (topics,) if isinstance(topics, str) else tuple(topics)
        self._topic = " and ".join(self._topics)  # for messages
        self._base = {topic: number * LANE for number, topic in enumerate(self._topics)}
        self._slot = slot
        self._pace = pace
        self._readers = [KafkaReader(bootstrap, topic, f"{group}.{slot}.read") for topic in self._topics]
        self._consumer: Any = None
        self._producer: Any = None
        self._group_metadata: Any = None
        self._added: dict[int, CommittedOffset] = {}
        self._removed: list[int] = []
        self._joined = False
        self._left: set[int] = set()  # partitions that were taken from us during the current poll
        self._idle = True
        self._was_cut_off = False

    def open(self) -> None:
        """See the port."""
        self._added, self._removed, self._joined, self._idle = {}, [], False, True
        try:
            self._producer = Producer(self._producer_settings())
            self._producer.init_transactions(CALL_WAIT_S)
            self._producer.poll(0)  # what it met on its way here is over
            self._was_cut_off = False
            self._consumer = Consumer(self._consumer_settings())
            self._consumer.subscribe(
                list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
        except KafkaException as error:
            raise _translate(error, f"opening {self._group} on {self._bootstrap}") from error

    def close(self) -> None:
        """See the port. Never raises: whatever fails here is fenced by the next open."""
        if self._producer is not None:
            # No transaction may be open, or the broker may be gone: both are what closing is for.
            with suppress(KafkaException):
                self._producer.abort_transaction(2.0)
            self._producer.purge()
        if self._consumer is not None:
            with suppress(KafkaException, RuntimeError):
                self._consumer.close()
        self._consumer = self._producer = None

    def poll(self, records_max: int, wait_ms: int) -> list[InRecord]:
        """See the port. After an empty poll it waits for one record alone, which costs next to nothing."""
        self._left.clear()
        if self._was_cut_off:
            raise Transient(f"polling {self._topic}: no broker could be reached since the last poll")
        try:
            waits_for_one = self._idle and wait_ms > 0
            messages = self._consumer.consume(1, IDLE_WAIT_S) if waits_for_one else []
            if messages or not waits_for_one:
                messages += self._consumer.consume(records_max - len(messages), wait_ms / 1000)
            if messages:  # a commit belongs to the batch polled last: in a later generation it must be refused
                self._group_metadata = self._consumer.consumer_group_metadata()
        except KafkaException as error:
            raise _translate(error, f"polling {self._topic}") from error
        self._idle = not messages
        return self._still_ours([record for record in map(self._record, messages) if record is not None])

    def take_assignment(self) -> Assignment | None:
        """See the port. A member that joined and was given nothing is told so, too: it is a ready stand-in."""
        if not self._joined and not self._added and not self._removed:
            return None
        change = Assignment(self._added, self._removed)
        self._added, self._removed, self._joined = {}, [], False
        return change

    def commit(self, outputs: Sequence[OutRecord], offsets: Mapping[int, CommittedOffset]) -> None:
        """See the port."""
        producer = self._producer
        deadline_s = time.monotonic() + CALL_WAIT_S
        try:
            producer.begin_transaction()
            for topic, key, value, partition, headers in outputs:
                self._produce(topic, key, value, -1 if partition is None else partition, headers, deadline_s)
            if outputs and producer.flush(_left_s(deadline_s)):
                raise Transient(f"{self._group}: broker took over {CALL_WAIT_S:.0f} s to accept a batch")
            if self._was_cut_off:
                raise Transient(f"committing {self._group}: no broker could be reached for a while")
            moves = [TopicPartition(*self._place(n), c.offset, c.metadata) for n, c in offsets.items()]
            if moves:  # none when a stage tells something between two batches
                producer.send_offsets_to_transaction(moves, self._group_metadata, _left_s(deadline_s))
            producer.commit_transaction(_left_s(deadline_s))
        except KafkaException as error:
            raise _translate(error, f"committing {self._group}") from error

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        """See the port."""
        reader = self._readers[partition // LANE]
        found = reader.read(partition % LANE, start, end)
        return found if partition < LANE else _numbered(found, partition)

    def pause(self, partitions: Sequence[int]) -> None:
        """See the port."""
        try:
            self._consumer.pause([TopicPartition(*self._place(number)) for number in partitions])
        except KafkaException as error:
            raise _translate(error, f"pausing {self._topic}{list(partitions)}") from error

    def _place(self, number: int) -> tuple[str, int]:
        return self._topics[number // LANE], number % LANE

    def _still_ours(self, records: list[InRecord]) -> list[InRecord]:
        """``records`` without those of partitions that left while they were gathered: another process has them."""
        if not self._left:
            return records
        back = self._left.intersection(self._added)
        if any(record.partition in back for record in records):
            # Read before it left or after it came back? Its reading position is right in a new session only.
            raise Transient(f"{self._topic}{sorted(back)} left and came back within one poll")
        return [record for record in records if record.partition not in self._left]

    def _produce(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int, headers: Any, deadline_s: float
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=headers)
                return
            except BufferError:
                self._producer.poll(0.01)  # the client's queue is bounded: wait for the broker
                if time.monotonic() > deadline_s:
                    raise Transient(f"{self._group}: the producer's queue is full for {CALL_WAIT_S:.0f} s") from None

    def _record(self, message: Message) -> InRecord | None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return None
            raise _translate(KafkaException(error), f"reading {self._topic}")
        topic = message.topic()
        return in_record(
            (
                topic,
                self._base[topic] + message.partition(),
                message.offset(),
                message.timestamp()[1],
                message.key(),
                message.value(),
                message.headers() or (),
            )
        )

    def _on_assign(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Start each partition exactly where its metadata was read: one answer of the broker decides both.

        Raises Transient: what `committed` itself raises would leave this callback as something that nobody can catch.
        """
        self._joined = True
        try:
            found = consumer.committed(partitions, CALL_WAIT_S) if partitions else []
        except KafkaException as error:
            raise _translate(error, f"assigning {self._topic}") from error
        for place in found:
            if place.error is not None:
                # Reading on as if nothing were committed would repeat the whole log without its watermarks.
                raise _translate(KafkaException(place.error), f"assigning {self._topic}[{place.partition}]")
            committed = None if place.offset < 0 else place.offset
            self._added[self._base[place.topic] + place.partition] = CommittedOffset(committed, place.metadata or "")
        consumer.assign(
            [TopicPartition(p.topic, p.partition, p.offset if p.offset >= 0 else OFFSET_BEGINNING) for p in found]
        )

    def _on_revoke(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        for number in (self._base[gone.topic] + gone.partition for gone in partitions):
            self._left.add(number)
            # Added and gone again before anybody took it: nobody has to let go of it.
            if self._added.pop(number, None) is None:
                self._removed.append(number)

    def _note_error(self, error: KafkaError) -> None:
        """With a callback set, fatal errors are raised by the call in progress; all others pass by themselves.

        But for one: a producer that lived through a restart of its broker waits in its next
        send_offsets_to_transaction for ever, whatever time it was given (librdkafka 2.16 on Kafka 4.3).
        """
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._was_cut_off = True

    def _producer_settings(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self._bootstrap,
            "client.id": f"{self._group}.{self._slot}",
            "transactional.id": f"weir.{self._group}.{self._slot}",
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": 50,
            "batch.num.messages": 10_000,
            "batch.size": 1_048_576,
            "message.max.bytes": 16_777_216,
            "retry.backoff.ms": 1,
            "retry.backoff.max.ms": 20,
            "error_cb": self._note_error,
        }

    def _member(self) -> str:
        """Who we are to the group. A member is given its share of before when it restarts, whatever it then asks for:
        a slot whose inputs have changed is another member, or nobody would read the new ones."""
        return f"{self._group}.{self._slot}.{crc32(' '.join(self._topics).encode()):08x}"

    def _consumer_settings(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self._bootstrap,
            "client.id": f"{self._group}.{self._slot}",
            "group.id": self._group,
            "group.instance.id": self._member(),
            "partition.assignment.strategy": "range",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Every start is explicit (_on_assign): out of range can only mean that retention overtook us. Say so.
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": 1_000,
            "max.poll.interval.ms": POLL_INTERVAL_MAX_MS,
            "fetch.wait.max.ms": self._pace.fetch_wait_ms,
            "fetch.min.bytes": self._pace.fetch_bytes_min,
            "fetch.error.backoff.ms": 5,
            "queued.min.messages": 5_000,
            "queued.max.messages.kbytes": 16_384,
            "retry.backoff.ms": 20,
            "error_cb": self._note_error,
        }


def _numbered(batches: Iterator[list[InRecord]], number: int) -> Iterator[list[InRecord]]:
    """The same records with their partition's number in a log of several inputs."""
    for batch in batches:
        yield [record._replace(partition=number) for record in batch]


def _left_s(deadline_s: float) -> float:
    """Seconds to the deadline; never 0, which would mean "do not wait at all"."""
    return max(0.1, deadline_s - time.monotonic())


def _translate(error: KafkaException, doing: str) -> Transient | Fatal:
    cause = error.args[0]
    text = f"{doing}: {cause.name()}: {cause.str()}"
    # A consumer's fatal errors all come as _FATAL; only the text says which one it is.
    if cause.code() in _FENCED_CODES or (cause.code() == KafkaError._FATAL and _FENCED_TEXT in cause.str()):
        return Fenced(text)
    if cause.code() == KafkaError._AUTO_OFFSET_RESET:
        return Fatal(
            f"{text}; the log no longer holds what was to be read next: retention was shorter than the outage. "
            "Set the group's offset, or delete the partition's stored state, on purpose"
        )
    if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return Fatal(f"{text}; an output is above its topic's max.message.bytes: raise it, repeating will not help")
    if cause.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
        return Fatal(f"{text}; grant this service's principal its topics")
    return Transient(text)
