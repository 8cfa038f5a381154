"""One input topic or two, and an output topic, with the same handles on the twin and on Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.adapters.kafka_log import KafkaLog
from services.mesh.adapters.kafka_messages import record_of
from services.mesh.adapters.kafka_reader import reader_settings
from services.mesh.adapters.memory import ManualClock, MemoryBroker, MemoryJournal, MemoryLog
from services.mesh.errors import Transient
from services.mesh.ports import LANE, CommittedOffset, InRecord, Journal, OutRecord, TransactionalLog

PARTITIONS = 4
WAIT_S = 20.0
OPENED: list[TransactionalLog] = []  # by the current test, which may fail before it closes them


class LogWorld(Protocol):
    """What outlives every process."""

    output: str

    def log(self, slot: str = "0") -> TransactionalLog:
        """A new process's log, not opened yet."""
        ...

    def produce(self, partition: int, values: Sequence[bytes], *, transactional: bool = False) -> None:
        """Append to the input topic; a transaction leaves its marker behind."""
        ...

    def abort(self, partition: int, values: Sequence[bytes]) -> None:
        """Append to the input topic in a transaction that is aborted."""
        ...

    def everything(self, topic: str = "") -> list[InRecord]:
        """Every committed record, of the output topic unless told otherwise."""
        ...

    def journal(self) -> Journal:
        """A new process's journal on partition 0 of the input topic."""
        ...

    def close(self) -> None: ...


class MemoryLogWorld:
    output = "out"

    def __init__(self, inputs: int = 1) -> None:
        self._broker = MemoryBroker(PARTITIONS, ManualClock())
        self._inputs = ["in", "more"][:inputs]

    def log(self, slot: str = "0") -> TransactionalLog:
        return MemoryLog(self._broker, "group", self._inputs, slot)

    def produce(self, partition: int, values: Sequence[bytes], *, transactional: bool = False) -> None:
        topic, partition = self._inputs[partition // LANE], partition % LANE
        for value in values:
            self._broker.produce(topic, b"k", value, partition, [("h", b"1")])
        if transactional:
            self._broker._ends[topic, partition] += 1

    def abort(self, partition: int, values: Sequence[bytes]) -> None:
        self._broker.abort([OutRecord("in", b"k", value, partition, []) for value in values])

    def everything(self, topic: str = "") -> list[InRecord]:
        return self._broker.all_records(topic or self.output)

    def journal(self) -> Journal:
        return MemoryJournal(self._broker, "in")

    def close(self) -> None:
        pass


class KafkaLogWorld:
    """Topics, a group and transactional ids of a test's own."""

    def __init__(self, bootstrap: str, name: str, inputs: int = 1) -> None:
        self.bootstrap = bootstrap
        self.name = name
        self.inputs, self.output = [f"{name}.in", f"{name}.more"][:inputs], f"{name}.out"
        self.input = self.inputs[0]
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        config = {"message.timestamp.type": "LogAppendTime"}
        topics = [NewTopic(topic, PARTITIONS, 1, config=config) for topic in (*self.inputs, self.output)]
        for created in self.admin.create_topics(topics).values():
            created.result(10)
        # Created is not yet known everywhere: a member that joins before would be told that its topic is not there.
        wait_s = time.monotonic() + 10
        while any(self.admin.list_topics(topic, 10).topics[topic].error for topic in (*self.inputs, self.output)):
            assert time.monotonic() < wait_s, "the broker does not know the topics that it created"
            time.sleep(0.05)
        self._transactions = 0
        self._plain = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def log(self, slot: str = "0") -> KafkaLog:
        return KafkaLog(self.bootstrap, self.name, self.inputs, slot)

    def produce(self, partition: int, values: Sequence[bytes], *, transactional: bool = False) -> None:
        producer = self._transaction() if transactional else self._plain
        self._send(producer, partition, values)
        if transactional:
            producer.commit_transaction(10)

    def abort(self, partition: int, values: Sequence[bytes]) -> None:
        producer = self._transaction()
        self._send(producer, partition, values)
        producer.abort_transaction(10)

    def everything(self, topic: str = "") -> list[InRecord]:
        consumer = Consumer(reader_settings(self.bootstrap, f"{self.name}.check"))
        topic = topic or self.output
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
        found: list[InRecord] = []
        ended: set[int] = set()
        deadline_s = time.monotonic() + WAIT_S
        while len(ended) < PARTITIONS:
            assert time.monotonic() < deadline_s, f"{topic}: its end is not reached; does the broker still run?"
            for message in consumer.consume(1_000, 0.05):
                error = message.error()
                if error is None:
                    found.append(record_of(message))
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    ended.add(message.partition())
        consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))

    def journal(self) -> Journal:
        return KafkaJournal(self.bootstrap, self.input, f"{self.name}.journal")

    def close(self) -> None:
        self.admin.delete_topics([*self.inputs, self.output])

    def _transaction(self) -> Producer:
        self._transactions += 1
        settings = {"bootstrap.servers": self.bootstrap, "transactional.id": f"{self.name}.{self._transactions}"}
        producer = Producer(settings)
        producer.init_transactions(10)
        producer.begin_transaction()
        return producer

    def _send(self, producer: Producer, partition: int, values: Sequence[bytes]) -> None:
        for value in values:
            topic = self.inputs[partition // LANE]
            producer.produce(topic, value, b"k", partition % LANE, headers=[("h", b"1")])
        assert producer.flush(10) == 0


class Member:
    """A process that follows its assignment, and checks at each poll what the port says of it."""

    def __init__(self, log: TransactionalLog) -> None:
        OPENED.append(log)
        self.log = log
        self.owned: dict[int, CommittedOffset] = {}
        self.removed: list[int] = []
        self.records: list[InRecord] = []
        self.told = False
        log.open()

    def turn(self, records_max: int = 500) -> list[InRecord]:
        batch = self.log.poll(records_max, 10)
        change = self.log.take_assignment()
        if change is not None:
            self.told = True
            self.removed += change.removed
            for partition in change.removed:
                assert partition in self.owned
                del self.owned[partition]
            for partition, committed in change.added.items():
                assert partition not in self.owned
                self.owned[partition] = committed
        for record in batch:
            assert record.partition in self.owned, "a record of a partition that is not ours"
        self.records += batch
        return batch

    def commit(self, batch: Sequence[InRecord], topic: str, metadata: str = "") -> None:
        """Copy ``batch`` to ``topic``, each record named by its place."""
        outputs = [
            OutRecord(topic, b"k", b"%d:%d" % (r.partition, r.offset), r.partition % LANE, [("h", b"")]) for r in batch
        ]
        ends = {record.partition: record.offset + 1 for record in batch}
        self.log.commit(outputs, {p: CommittedOffset(end, metadata) for p, end in ends.items()})


class Copier(Member):
    """Copies what it polls, at once, as a stage does; opens anew when the moment was wrong."""

    def __init__(self, log: TransactionalLog, topic: str, metadata: str = "", below: int = 1 << 60) -> None:
        super().__init__(log)
        self._topic = topic
        self._metadata = metadata
        self._below = below
        self.reopened = 0

    def turn(self, records_max: int = 500) -> list[InRecord]:
        try:
            batch = [record for record in super().turn(records_max) if record.offset < self._below]
            if batch:
                self.commit(batch, self._topic, self._metadata)
        except Transient:
            self.reopened += 1
            self.owned.clear()
            self.log.close()
            self.log.open()
            return []
        return batch


def until(done: Callable[[], bool], *members: Member, wait_s: float = WAIT_S) -> None:
    """Turn all ``members`` until ``done``."""
    deadline_s = time.monotonic() + wait_s
    while not done():
        assert time.monotonic() < deadline_s, [member.owned for member in members]
        for member in members:
            member.turn()
