"""The consumers that users copy: a decision leads to one action, whatever is lost on the way and whoever is killed."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from webhook_world import ROOT, Call, Decider, Receiver, Reply, Running, partitions_of_the_mesh, until

from services.mesh.adapters.log_reader import LogReader
from services.mesh.headers import find
from services.mesh.ports import InRecord
from services.mesh.topics import DECISIONS, Topic
from services.platform.deploy import deploy
from services.platform.endpoints import Endpoints
from services.platform.servers import Servers

pytest_plugins = ["fresh_registry"]
pytestmark = [pytest.mark.connected, pytest.mark.faults, pytest.mark.timeout(180)]
CONSUMERS = {"block_card": ("decline", "/blocks"), "open_case": ("review", "/cases"), "adjust_limit": ("challenge", "")}


@pytest.fixture(scope="module")
def mesh(servers: Servers, fresh_registry: str) -> Endpoints:
    """The shared broker with the mesh's topics, and a registry with its schemas."""
    kafka = servers.endpoints.kafka
    deploy(kafka, fresh_registry, partitions_of_the_mesh(kafka))
    return replace(servers.endpoints, schema_registry=fresh_registry)


class Bank:
    """Acts once a key, as a receiver has to; loses answers, fails, and refuses what it does not know."""

    def __init__(self) -> None:
        self.acted = set[str]()  # keys
        self.asked: Counter[str] = Counter()
        self.refuses: set[str] = set()
        self.event_of: dict[str, str] = {}
        self._turn = threading.Lock()

    def __call__(self, call: Call) -> Reply:
        with self._turn:
            self.asked[call.id] += 1
            self.event_of[call.id] = call.event_id
            if call.event_id in self.refuses:
                return Reply(404)
            kind = int(call.event_id.rpartition("-")[2]) % 4
            if call.number == 1 and kind == 0:
                return Reply(503)  # before it acted
            self.acted.add(call.id)  # once, however often it is asked
            return Reply(0) if call.number == 1 and kind == 1 else Reply(200, after_s=0.05)


RUN = uuid.uuid4().hex[:8]


def group_of(name: str) -> str:
    """Nobody else's on the shared broker."""
    return f"{name.replace('_', '-')}-{RUN}"


def started(name: str, mesh: Endpoints, target: str, directory: Path) -> Running:
    environment = {
        "KAFKA": mesh.kafka, "REGISTRY": mesh.schema_registry, "TARGET": target,
        "GROUP": group_of(name), "DONE": str(directory / f"{name}.sqlite"),
    }  # fmt: skip
    return Running([str(ROOT / f"infra/consumers/{name}.py")], directory / f"{name}.log", environment)


def dead_letters(kafka: str, group: str) -> list[InRecord]:
    topic = Topic(name=f"{group}.dead-letters", holds="", schemas=(), key="", owner="", partitions="one")
    log = LogReader(kafka)
    return list(log.read(log.starts(topic), log.ends(topic)))


def test_each_decision_is_acted_on_once(mesh: Endpoints, tmp_path: Path) -> None:
    kafka = mesh.kafka
    with Receiver(bank := Bank()) as receiver:
        consumers = {name: started(name, mesh, receiver.url, tmp_path) for name in CONSUMERS}
        for name in CONSUMERS:
            until(lambda name=name: _has_begun(kafka, group_of(name)), consumers[name].log.read_text, 30)
        deciders = {name: Decider(kafka, group_of(name)) for name in CONSUMERS}
        made: dict[str, list[str]] = {name: [] for name in CONSUMERS}
        for name, (action, _) in CONSUMERS.items():
            bank.refuses.add(deciders[name].next_id(6))
            made[name] += deciders[name].decide(12, action=action)
            deciders[name].decide(5, action="approve")
            deciders[name].decide(3, action=action, committed=False)
        producer = Producer({"bootstrap.servers": kafka})
        producer.produce(DECISIONS.name, b"no decision", b"x", partition=0)
        assert producer.flush(10) == 0
        until(lambda: len(bank.asked) >= 9, lambda: bank.asked)
        for name in CONSUMERS:  # in the middle of it
            consumers[name].kill()
            consumers[name] = started(name, mesh, receiver.url, tmp_path)
            made[name] += deciders[name].decide(6, action=CONSUMERS[name][0])
        wanted = {event for all_ in made.values() for event in all_} - bank.refuses
        until(lambda: {bank.event_of[key] for key in bank.acted} >= wanted, lambda: _logs(consumers), 40)
        for name in CONSUMERS:
            group = group_of(name)
            until(lambda group=group: len(dead_letters(kafka, group)) >= 2, consumers[name].log.read_text)
            codes = sorted(
                (find(record.headers, "error_code") or b"").decode() for record in dead_letters(kafka, group)
            )
            assert codes == ["refused", "undecodable"]
        time.sleep(0.5)
        for consumer in consumers.values():
            consumer.kill()
    assert Counter(bank.event_of[key] for key in bank.acted) == dict.fromkeys(wanted, 1)
    paths = {call.path for call, _ in receiver.calls}
    assert {"/blocks", "/cases"} < paths
    assert all(path.startswith(f"/customers/{group_of('adjust_limit')}-c") for path in paths - {"/blocks", "/cases"})
    repeats = sum(bank.asked[key] - 1 for key in bank.acted)
    lost = [key for key in bank.acted if int(bank.event_of[key].rpartition("-")[2]) % 4 == 1]
    assert lost, "the control: answers were lost after the deed"
    assert all(bank.asked[key] > 1 for key in lost), "so without the key these would have been done twice"
    assert repeats >= len(lost)


def _logs(consumers: dict[str, Running]) -> str:
    return "\n".join(consumer.log.read_text() for consumer in consumers.values())


def _has_begun(kafka: str, group: str) -> bool:
    """Whether it has committed where it begins."""
    where = [TopicPartition(DECISIONS.name, number) for number in range(partitions_of_the_mesh(kafka))]
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group})
    try:
        places = consumer.committed(where, 10)
        return all(place.offset >= 0 for place in places)
    finally:
        consumer.close()
