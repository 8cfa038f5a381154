"""Real stage processes, killed, stopped and doubled: what they copy is there exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from services.mesh.adapters.kafka_log import SESSION_TIMEOUT_MS
from services.mesh.adapters.kafka_reader import reader_settings
from services.platform.servers import Servers

pytestmark = [pytest.mark.connected, pytest.mark.faults]

PARTITIONS = 4
STAGE = Path(__file__).with_name("copy_stage.py")


class Copies:
    """Topics of a test's own, a feeder, and the processes that copy."""

    def __init__(self, bootstrap: str, name: str, directory: Path) -> None:
        self.bootstrap = bootstrap
        self.name = name
        self._directory = directory
        self.input, self.output = f"{name}.in", f"{name}.out"
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for made in admin.create_topics([NewTopic(t, PARTITIONS, 1) for t in (self.input, self.output)]).values():
            made.result(10)
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
        self.fed = 0
        self.children: list[subprocess.Popen[bytes]] = []
        self._slots: dict[int, int] = {}  # by process id

    def start(self, slot: int = 0, fault: str = "") -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "WEIR_KAFKA": self.bootstrap,
            "WEIR_SLOT": str(slot),
            "WEIR_HEALTH_FILE": str(self._directory / f"health.{slot}"),
            "COPY_NAME": self.name,
            "COPY_TOPICS": f"{self.input},{self.output}",
            "COPY_FAULT": fault,
            "COPY_DIED": str(self._directory / "died"),
        }
        log = (self._directory / f"log.{slot}").open("ab")
        child = subprocess.Popen([sys.executable, str(STAGE)], env=env, stderr=log)
        log.close()
        self.children.append(child)
        self._slots[child.pid] = slot
        return child

    def feed(self, count: int) -> None:
        for _ in range(count):
            self._producer.produce(self.input, b"%d" % self.fed, b"k%d" % (self.fed % 50))
            self.fed += 1
        self._producer.flush(10)

    def feed_for(self, seconds: float) -> None:
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            self.feed(10)
            time.sleep(0.03)

    def copied(self) -> Counter[int]:
        """How often each record is in the output, as a reader of committed records sees it."""
        consumer = Consumer(reader_settings(self.bootstrap, f"{self.name}.check"))
        consumer.assign([TopicPartition(self.output, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
        found: Counter[int] = Counter()
        ended: set[int] = set()
        deadline_s = time.monotonic() + 20
        while len(ended) < PARTITIONS:
            assert time.monotonic() < deadline_s, "the output's end is not reached; does the broker still run?"
            for message in consumer.consume(1_000, 0.05):
                if message.error() is None:
                    found[int(message.value())] += 1
                else:
                    assert message.error().code() == KafkaError._PARTITION_EOF
                    ended.add(message.partition())
        consumer.close()
        return found

    def wait_for_all(self, wait_s: float = 90) -> Counter[int]:
        until(lambda: len(self.copied()) >= self.fed, wait_s, self.account)
        return self.copied()

    def account(self) -> str:
        """Where the copying stands, partition by partition, and what became of each process, with its last words."""
        lines = [f"{len(self.copied())} of {self.fed} copied", *self._positions()]
        lines += [f"process {c.pid} of slot {self._slots[c.pid]}: exit status {c.poll()}" for c in self.children]
        for slot in sorted(set(self._slots.values())):
            lines += [f"--- the last of log.{slot}", *self.log(slot).splitlines()[-40:]]
        return "\n".join(lines)

    def _positions(self) -> Iterator[str]:
        settings = {"bootstrap.servers": self.bootstrap, "group.id": self.name}
        committed = Consumer({**settings, "isolation.level": "read_committed"})
        uncommitted = Consumer({**settings, "isolation.level": "read_uncommitted"})
        for partition in range(PARTITIONS):
            source, target = TopicPartition(self.input, partition), TopicPartition(self.output, partition)
            taken = committed.committed([source], 10)[0].offset
            end = committed.get_watermark_offsets(source, 10)[1]
            stable, last = (consumer.get_watermark_offsets(target, 10)[1] for consumer in (committed, uncommitted))
            yield f"partition {partition}: committed {taken} of {end}; output stable to {stable} of {last}"
        committed.close()
        uncommitted.close()

    def health(self, slot: int, path: str) -> tuple[int, str]:
        port = json.loads((self._directory / f"health.{slot}").read_text())["port"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def log(self, slot: int) -> str:
        return (self._directory / f"log.{slot}").read_text()

    def close(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()


def until(done: Callable[[], bool], wait_s: float = 30, account: Callable[[], str] = lambda: "") -> None:
    deadline_s = time.monotonic() + wait_s
    while not done():
        assert time.monotonic() < deadline_s, f"still not after {wait_s:.0f} s\n{account()}"
        time.sleep(0.2)


@pytest.fixture
def copies(servers: Servers, own_name: str, tmp_path: Path) -> Iterator[Copies]:
    made = Copies(servers.endpoints.kafka, own_name, tmp_path)
    yield made
    made.close()


def test_ten_kills_and_a_zombie_change_nothing(copies: Copies) -> None:
    random = Random(3)
    children = {slot: copies.start(slot) for slot in range(2)}
    copies.feed_for(2)
    for _ in range(10):
        slot = random.randrange(2)
        children[slot].kill()
        children[slot].wait()
        children[slot] = copies.start(slot)
        copies.feed_for(random.uniform(0.2, 1.2))
    until(lambda: len(copies.copied()) > copies.fed / 2, account=copies.account)
    children[0].send_signal(signal.SIGSTOP)
    copies.feed_for(SESSION_TIMEOUT_MS / 1000 + 2)
    others = copies.wait_for_all()
    assert len(others) == copies.fed, "the other took over what the silent one held"
    children[0].send_signal(signal.SIGCONT)
    copies.feed_for(2)
    found = copies.wait_for_all()
    assert found == dict.fromkeys(range(copies.fed), 1)


def test_the_control_without_transactions_a_kill_doubles_records(copies: Copies) -> None:
    copies.feed(20)
    assert copies.start(fault="two_steps").wait(30) == -signal.SIGKILL
    copies.start(fault="two_steps")
    copies.feed(20)
    assert max(copies.wait_for_all().values()) > 1, "the check would not have noticed"


def test_sigterm_drains_and_a_restart_goes_on_at_once(copies: Copies) -> None:
    child = copies.start()
    copies.feed_for(2)
    until(lambda: copies.health(0, "/health/ready")[0] == 200, account=copies.account)
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 0
    assert "drained and stopped" in copies.log(0)
    began_s = time.monotonic()
    copies.start()
    copies.feed(10)
    assert copies.wait_for_all(SESSION_TIMEOUT_MS / 1000) == dict.fromkeys(range(copies.fed), 1)
    assert time.monotonic() - began_s < SESSION_TIMEOUT_MS / 1000, "a static member does not wait out its session"


def test_of_two_processes_with_one_slot_one_gives_up(copies: Copies) -> None:
    first = copies.start()
    copies.feed_for(1.5)
    second = copies.start()
    deadline_s = time.monotonic() + 30
    while first.poll() is None and second.poll() is None:
        assert time.monotonic() < deadline_s, "they fight for ever"
        copies.feed_for(0.2)
    assert {first.poll(), second.poll()} == {78, None}
    assert "does another process hold this slot?" in copies.log(0)
    copies.feed(20)
    assert copies.wait_for_all() == dict.fromkeys(range(copies.fed), 1)


def test_health_tells_alive_ready_and_progress(copies: Copies) -> None:
    copies.start()
    copies.feed(30)
    assert copies.wait_for_all() == dict.fromkeys(range(30), 1)
    assert copies.health(0, "/health/alive")[0] == 200
    assert copies.health(0, "/health/ready") == (200, "ready\n")
    progress = json.loads(copies.health(0, "/health/progress")[1])
    assert (progress["records"], progress["partitions"]) == (30, [0, 1, 2, 3])
    assert 'weir_records_total{stage="' in copies.health(0, "/metrics")[1]
    assert copies.health(0, "/nonsense")[0] == 404
