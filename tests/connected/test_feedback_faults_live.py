"""Real feedback processes on a real broker, killed, stopped, doubled, robbed of their files: the same labels, once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from services.mesh.adapters.kafka_log import SESSION_TIMEOUT_MS
from services.mesh.codec import Codec
from services.mesh.headers import WEIR, Hop, pack_hop
from services.mesh.partitioner import Partitioner
from services.mesh.topics import DAY_MS, DECISIONS, LABELS, OUTCOMES, UPDATES_TERMINAL, Topic
from services.mesh.topology import FEEDBACK
from services.platform.deploy import deploy
from services.platform.outcome_account import settle_outcomes
from services.platform.scan import committed_records
from services.platform.servers import running

pytestmark = [pytest.mark.connected, pytest.mark.faults, pytest.mark.timeout(300)]

PARTITIONS = 4
CUSTOMERS = [f"c-{number}" for number in range(40)]
START_MS = 1_700_000_000_000
MINUTE_MS = 60_000
EXAMPLE = json.loads(
    (Path(__file__).parents[2] / "schemas/examples/decision.v1/ordinary.json").read_text()
) | {"vector": b"1234"}  # fmt: skip
DECISION, OUTCOME, LABEL = (
    Codec(file) for file in ("decision.v1.avsc", "payments/outcome.v1.avsc", "labelled.v1.avsc")
)


class Joins:
    """Decisions and outcomes from outside, and the processes that join them."""

    def __init__(self, kafka: str, directory: Path) -> None:
        self.kafka = kafka
        self.files = directory / "feedback"
        self._directory = directory
        self._producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True, "linger.ms": 5})
        self._partitioner = Partitioner(PARTITIONS)
        self._sent: Counter[tuple[str, int]] = Counter()
        self._random = Random(7)
        self.decided: list[tuple[str, str]] = []
        self.told: set[str] = set()
        self.children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, slot: int) -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "WEIR_KAFKA": self.kafka,
            "WEIR_SLOT": str(slot),
            "WEIR_PARTITIONS": str(PARTITIONS),
            "WEIR_FEEDBACK_DIR": str(self.files),
        }
        with (self._directory / f"log.{slot}").open("ab") as log:
            child = subprocess.Popen([sys.executable, "-m", "services.feedback"], env=env, stderr=log)
        self.children[slot] = child
        return child

    def kill(self, slot: int) -> None:
        self.children[slot].kill()
        self.children[slot].wait()

    def feed(self, events: int) -> None:
        """Events a minute apart; of most an outcome, some before their event, some twice, some of nobody's event."""
        for _ in range(events):
            number = len(self.decided)
            event, customer = f"e-{number}", self._random.choice(CUSTOMERS)
            if self._random.random() < 0.2:
                self._tell(f"early {event}", event, customer)
            self._send(DECISIONS, customer, DECISION.encode(EXAMPLE | {
                "event_id": event, "customer_id": customer, "event_time_ms": START_MS + number * MINUTE_MS,
            }))  # fmt: skip
            self.decided.append((event, customer))
            if self._random.random() < 0.7:
                event, customer = self._random.choice(self.decided)
                name = f"{len(self.told)} {event}"
                for _ in range(self._random.choice((1, 1, 1, 2))):
                    self._tell(name, event, customer)
            if self._random.random() < 0.05:
                self._tell(f"{len(self.told)} nobody", "nobody", customer)
        assert self._producer.flush(20) == 0

    def feed_for(self, seconds: float) -> None:
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            self.feed(20)
            time.sleep(0.05)

    def lag(self) -> int:
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": FEEDBACK.name})
        try:
            left = 0
            for topic in FEEDBACK.inputs:
                where = [TopicPartition(topic.name, partition) for partition in range(PARTITIONS)]
                for place in consumer.committed(where, 10):
                    left += self._sent[topic.name, place.partition] - max(0, place.offset)
            return left
        finally:
            consumer.close()

    def settle(self, wait_s: float = 60) -> None:
        deadline_s = time.monotonic() + wait_s
        while self.lag():
            assert time.monotonic() < deadline_s, f"lag {self.lag()}\n{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        return "\n".join(path.read_text()[-3_000:] for path in sorted(self._directory.glob("log.*")))

    def read(self, topic: Topic, starts: Any = None) -> Iterator[Any]:
        return committed_records(self.kafka, topic, starts, time.monotonic() + 30)

    def check(self) -> None:
        """Every outcome in one place, once; versions in a row; terminals told as often as labels changed."""
        decided = {b"%c%b%c%b" % (2 * len(e), e.encode(), 2 * len(c), c.encode()) for e, c in self.decided}
        everything = {topic.name: dict.fromkeys(range(PARTITIONS), 1 << 40) for topic in (DECISIONS, OUTCOMES)}
        everything[DECISIONS.name] = {}

        def read(topic: Topic, starts: Any) -> Iterator[Any]:
            return self.read(topic, starts) if starts is None else iter(())

        ledger = settle_outcomes(read, everything, decided)
        assert ledger.is_good, ledger
        assert ledger.accepted == len(self.told)
        assert ledger.joined + sum(ledger.orphans.values()) + ledger.pending == len(self.told)
        assert ledger.joined > 0.8 * len(self.told)
        versions: dict[str, list[int]] = {}
        changes = 0
        latest: dict[str, str] = {}
        for message in self.read(LABELS):
            label = LABEL.decode(message.value())
            versions.setdefault(label["event_id"], []).append(label["label_version"])
            changes += latest.get(label["event_id"]) != label["label"]
            latest[label["event_id"]] = label["label"]
        assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
        assert sum(1 for _ in self.read(UPDATES_TERMINAL)) == changes

    def _tell(self, name: str, event: str, customer: str) -> None:
        self.told.add(name)
        label = "fraud" if len(name) % 2 else "genuine"
        self._send(OUTCOMES, customer, OUTCOME.encode({
            "outcome_id": name, "event_id": event, "customer_id": customer, "label": label, "source": "analyst",
            "observed_time_ms": START_MS + DAY_MS, "revises": None, "source_partition": 0, "source_offset": 0,
            "raw_append_time_ms": 0,
        }))  # fmt: skip

    def _send(self, topic: Topic, customer: str, value: bytes) -> None:
        partition = self._partitioner.partition_of(customer.encode())
        offset = self._sent[topic.name, partition]
        self._sent[topic.name, partition] += 1
        hop = pack_hop(Hop(partition, offset, partition, offset, 0))
        while True:
            try:
                self._producer.produce(topic.name, value, customer.encode(), partition, headers=[(WEIR, hop)])
                return
            except BufferError:
                self._producer.poll(0.1)


@pytest.fixture
def joins(tmp_path: Path) -> Iterator[Joins]:
    with running(tmp_path / "data") as servers:
        deploy(servers.endpoints.kafka, servers.endpoints.schema_registry, PARTITIONS)
        made = Joins(servers.endpoints.kafka, tmp_path)
        yield made
        for child in made.children.values():
            if child.poll() is None:
                child.kill()
            child.wait()


def test_kills_a_zombie_and_lost_files_change_nothing(joins: Joins) -> None:
    random = Random(3)
    for slot in range(2):
        joins.start(slot)
    joins.feed_for(3)
    for number in range(6):
        slot = random.randrange(2)
        joins.kill(slot)
        if number % 3 == 2:
            # Away at one moment: the other one goes on with files that nobody will find again, and may make new ones.
            joins.files.rename(joins.files.with_name(f"lost-{number}"))
        joins.start(slot)
        joins.feed_for(random.uniform(0.5, 2.0))
    joins.settle()
    joins.check()
    joins.children[0].send_signal(signal.SIGSTOP)
    joins.feed_for(SESSION_TIMEOUT_MS / 1000 + 2)
    joins.settle()
    joins.children[0].send_signal(signal.SIGCONT)
    joins.feed_for(2)
    joins.settle()
    joins.check()
    for slot in range(2):
        joins.kill(slot)
    shutil.rmtree(joins.files)
    joins.start(0)
    joins.feed(200)
    joins.settle()
    joins.check()
